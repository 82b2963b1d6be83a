//! Profiles and common ports as messages: into drafts, which the engine reads, and back.

use std::time::Duration;

use podgate_engine::{
    common_ports::CommonPorts,
    draft::{CommonPortsDraft, LeaseDraft, LimitsDraft, ProfileDraft, RuleDraft, SubjectDraft},
    fault::Fault,
    index::Rules,
    port::Protocol,
    profile::{Mode, OnUnavailable, Priority, Profile, Source, Sourced},
    subject::SubjectPattern,
};
use podgate_proto::v1;

use crate::{gate::documents::etag_text, grpc::convert::fields};

/// A message that stands for a document.
pub trait DocumentMessage: prost::Message + Default {
    /// The document.
    type Document;
    /// Reads it, or tells everything that is wrong with it.
    fn read(&self) -> Result<Self::Document, Vec<Fault>>;
    /// The message of a document.
    fn write(document: &Sourced<Self::Document>) -> Self;
    /// Without what the gateway sets: what the store keeps.
    #[must_use]
    fn bare(self) -> Self;
    /// The field of a request that holds it.
    const FIELD: &'static str;

    /// Faults with paths as the request has them: `spec.lease.maxAge` of a document is `profile.lease.max_age` here.
    fn in_request(faults: Vec<Fault>) -> Vec<Fault> {
        let faults = faults.into_iter();
        faults
            .map(|Fault { path, message }| {
                let inner =
                    path.strip_prefix("metadata.").or_else(|| path.strip_prefix("spec.")).unwrap_or(&path);
                let mut path = format!("{}.", Self::FIELD);
                for letter in inner.chars() {
                    if letter.is_ascii_uppercase() {
                        path.push('_');
                    }
                    path.push(letter.to_ascii_lowercase());
                }
                Fault { path, message }
            })
            .collect()
    }
}

impl DocumentMessage for v1::Profile {
    type Document = Profile;
    const FIELD: &'static str = "profile";

    fn read(&self) -> Result<Profile, Vec<Fault>> {
        let limits = self.limits.clone().unwrap_or_default();
        let lease = self.lease.unwrap_or_default();
        Profile::parse(&ProfileDraft {
            name: self.name.clone(),
            labels: self.labels.clone().into_iter().collect(),
            owner: self.owner.clone(),
            priority: known(self.priority, priority_text),
            subjects: self.subjects.iter().map(subject_draft).collect(),
            allow: self.allow.iter().map(rule_draft).collect(),
            limits: LimitsDraft {
                rate: Some(limits.rate).filter(|rate| !rate.is_empty()),
                burst: Some(u64::from(limits.burst)).filter(|burst| *burst != 0),
                horizon: limits.horizon.map(duration),
            },
            lease: LeaseDraft {
                ttl: lease.ttl.map(duration),
                max_age: lease.max_age.map(duration),
                max: Some(u64::from(lease.max)).filter(|max| *max != 0),
                grace: lease.grace.map(duration),
            },
            on_unavailable: known(self.on_unavailable, |value| match value {
                v1::OnUnavailable::Unspecified => None,
                v1::OnUnavailable::Deny => Some("deny"),
                v1::OnUnavailable::LastGrant => Some("lastGrant"),
            }),
            mode: known(self.mode, |value| match value {
                v1::Mode::Unspecified => None,
                v1::Mode::Enforce => Some("enforce"),
                v1::Mode::Shadow => Some("shadow"),
            }),
        })
    }

    fn write(sourced: &Sourced<Profile>) -> Self {
        let profile = &*sourced.document;
        let (limits, lease) = (&profile.limits, &profile.lease);
        Self {
            name: profile.name.to_string(),
            labels: profile.labels.clone().into_iter().collect(),
            owner: profile.owner.clone(),
            priority: priority(profile.priority).into(),
            subjects: profile.subjects.iter().map(subject).collect(),
            allow: rules(&profile.allow),
            limits: Some(v1::Limits {
                rate: limits.rate.map(|rate| rate.to_string()).unwrap_or_default(),
                burst: limits.burst.map_or(0, Into::into),
                horizon: limits.horizon.and_then(span),
            }),
            lease: Some(v1::LeasePolicy {
                ttl: lease.ttl.and_then(span),
                max_age: lease.max_age.and_then(span),
                max: lease.max.map_or(0, Into::into),
                grace: lease.grace.and_then(span),
            }),
            on_unavailable: match profile.on_unavailable {
                OnUnavailable::Deny => v1::OnUnavailable::Deny,
                OnUnavailable::LastGrant => v1::OnUnavailable::LastGrant,
            }
            .into(),
            mode: match profile.mode {
                Mode::Enforce => v1::Mode::Enforce,
                Mode::Shadow => v1::Mode::Shadow,
            }
            .into(),
            etag: etag_text(sourced.etag),
            source: Some(source(&sourced.source)),
        }
    }

    fn bare(mut self) -> Self {
        self.etag.clear();
        self.source = None;
        self
    }
}

impl DocumentMessage for v1::CommonPorts {
    type Document = CommonPorts;
    const FIELD: &'static str = "common_ports";

    fn read(&self) -> Result<CommonPorts, Vec<Fault>> {
        let priorities = self.priorities.iter();
        CommonPorts::parse(&CommonPortsDraft {
            name: self.name.clone(),
            labels: self.labels.clone().into_iter().collect(),
            clusters: self.clusters.clone(),
            // One that is not said is kept as a word that the engine refuses: left out, it would open the ports to all.
            priorities: priorities.map(|value| known(*value, priority_text).unwrap_or_default()).collect(),
            allow: self.allow.iter().map(rule_draft).collect(),
        })
    }

    fn write(sourced: &Sourced<CommonPorts>) -> Self {
        let common = &*sourced.document;
        Self {
            name: common.name.to_string(),
            labels: common.labels.clone().into_iter().collect(),
            clusters: common.clusters.iter().map(ToString::to_string).collect(),
            priorities: common.priorities.iter().map(|mine| priority(*mine).into()).collect(),
            allow: rules(&common.allow),
            etag: etag_text(sourced.etag),
            source: Some(source(&sourced.source)),
        }
    }

    fn bare(mut self) -> Self {
        self.etag.clear();
        self.source = None;
        self
    }
}

/// An enum's word in a document. A number that this version does not know becomes a word that the engine refuses,
/// so that a newer client's value is never taken for the default.
fn known<T: TryFrom<i32>>(value: i32, text: impl FnOnce(T) -> Option<&'static str>) -> Option<String> {
    match T::try_from(value) {
        Ok(value) => text(value).map(str::to_owned),
        Err(_) => Some(value.to_string()),
    }
}

fn priority_text(value: v1::Priority) -> Option<&'static str> {
    match value {
        v1::Priority::Unspecified => None,
        v1::Priority::P1 => Some("P1"),
        v1::Priority::P2 => Some("P2"),
        v1::Priority::P3 => Some("P3"),
    }
}

fn priority(priority: Priority) -> v1::Priority {
    match priority {
        Priority::P1 => v1::Priority::P1,
        Priority::P2 => v1::Priority::P2,
        Priority::P3 => v1::Priority::P3,
    }
}

fn subject_draft(message: &v1::ProfileSubject) -> SubjectDraft {
    match &message.subject {
        Some(v1::profile_subject::Subject::ServiceAccount(account)) => SubjectDraft::ServiceAccount {
            cluster: Some(account.cluster.clone()).filter(|cluster| !cluster.is_empty()),
            namespace: account.namespace.clone(),
            name: account.name.clone(),
        },
        Some(v1::profile_subject::Subject::Hosts(hosts)) => {
            SubjectDraft::Hosts { cidrs: hosts.cidrs.clone() }
        }
        None => SubjectDraft::Missing,
    }
}

fn subject(pattern: &SubjectPattern) -> v1::ProfileSubject {
    let subject = match pattern {
        SubjectPattern::ServiceAccount { cluster, namespace, name } => {
            v1::profile_subject::Subject::ServiceAccount(v1::ServiceAccount {
                cluster: cluster.as_deref().unwrap_or_default().to_owned(),
                namespace: namespace.to_string(),
                name: name.to_string(),
            })
        }
        SubjectPattern::Hosts(networks) => {
            let cidrs = networks.iter().map(ToString::to_string).collect();
            v1::profile_subject::Subject::Hosts(v1::HostRanges { cidrs })
        }
    };
    v1::ProfileSubject { subject: Some(subject) }
}

fn rule_draft(message: &v1::Rule) -> RuleDraft {
    RuleDraft {
        name: message.name.clone(),
        hosts: message.hosts.clone(),
        ports: message.ports.clone(),
        protocol: known(message.protocol, |value| match value {
            v1::Protocol::Unspecified => None,
            v1::Protocol::Tcp => Some("TCP"),
            v1::Protocol::Udp => Some("UDP"),
        }),
    }
}

fn rules(rules: &Rules) -> Vec<v1::Rule> {
    let rules = rules.iter();
    rules
        .map(|rule| v1::Rule {
            name: rule.name.to_string(),
            hosts: rule.hosts.iter().map(ToString::to_string).collect(),
            ports: rule.ports.iter().map(ToString::to_string).collect(),
            protocol: match rule.protocol {
                Protocol::Tcp => v1::Protocol::Tcp,
                Protocol::Udp => v1::Protocol::Udp,
            }
            .into(),
        })
        .collect()
}

fn source(source: &Source) -> v1::DocumentSource {
    match source {
        Source::File(path) => {
            v1::DocumentSource { kind: v1::SourceKind::File.into(), path: path.to_string() }
        }
        Source::Api => v1::DocumentSource { kind: v1::SourceKind::Api.into(), path: String::new() },
    }
}

/// A duration as a draft holds it; a negative one becomes one that is beyond every bound.
fn duration(message: prost_types::Duration) -> Duration {
    fields::span(message).unwrap_or(Duration::MAX)
}

fn span(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn message() -> v1::Profile {
        let account =
            v1::ServiceAccount { cluster: "bj-1".into(), namespace: "hotel".into(), name: "order".into() };
        v1::Profile {
            name: "hotel-order".into(),
            labels: [("team".to_owned(), "hotel".to_owned())].into(),
            priority: v1::Priority::P1.into(),
            subjects: vec![
                v1::ProfileSubject { subject: Some(v1::profile_subject::Subject::ServiceAccount(account)) },
                v1::ProfileSubject {
                    subject: Some(v1::profile_subject::Subject::Hosts(v1::HostRanges {
                        cidrs: vec!["10.1.2.0/28".into()],
                    })),
                },
            ],
            allow: vec![v1::Rule {
                name: "db".into(),
                hosts: vec!["mysql.db.svc".into(), "10.9.0.0/24".into()],
                ports: vec!["3306".into(), "6379-6381".into()],
                protocol: v1::Protocol::Tcp.into(),
            }],
            limits: Some(v1::Limits {
                rate: "50/s".into(),
                burst: 100,
                horizon: Some(prost_types::Duration { seconds: 120, nanos: 0 }),
            }),
            lease: Some(v1::LeasePolicy { max: 5_000, ..v1::LeasePolicy::default() }),
            on_unavailable: v1::OnUnavailable::Deny.into(),
            mode: v1::Mode::Shadow.into(),
            ..v1::Profile::default()
        }
    }

    #[test]
    fn a_profile_comes_back_as_it_was_sent() {
        let profile = message().read().unwrap();
        let etag = profile.etag();
        let written = v1::Profile::write(&Sourced { document: Arc::new(profile), etag, source: Source::Api });
        assert_eq!(written.etag, etag_text(etag));
        assert_eq!(written.bare(), message());
    }

    #[test]
    fn a_priority_that_is_not_said_does_not_open_common_ports_to_all() {
        let sent = v1::CommonPorts {
            name: "base".into(),
            priorities: vec![v1::Priority::Unspecified.into()],
            allow: message().allow,
            ..v1::CommonPorts::default()
        };
        assert_eq!(sent.read().unwrap_err()[0].path, "spec.priorities[0]");
    }

    #[test]
    fn values_of_a_newer_api_are_refused_and_never_taken_for_a_default() {
        let sent = v1::Profile { mode: 9, priority: 9, ..message() };
        let faults = sent.read().unwrap_err();
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["spec.priority", "spec.mode"]);
        let lease = v1::LeasePolicy {
            max_age: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..v1::LeasePolicy::default()
        };
        let sent = v1::Profile { name: String::new(), lease: Some(lease), ..message() };
        let faults = v1::Profile::in_request(sent.read().unwrap_err());
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["profile.name", "profile.lease.max_age"]);
        let limits = v1::Limits {
            horizon: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
            ..v1::Limits::default()
        };
        let sent = v1::Profile { limits: Some(limits), ..message() };
        assert_eq!(sent.read().unwrap_err()[0].path, "spec.limits.horizon");
    }
}
