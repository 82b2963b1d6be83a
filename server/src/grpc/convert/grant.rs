//! Grants as messages.

use podgate_engine::{
    digest::hex,
    grant::{Allowed, Basis, Grant},
    index::RuleRef,
    subject::SubjectKind,
    time::{Moment, WallTime},
};
use podgate_proto::v1;

use crate::{clock, grpc::convert::decision::destination};

/// A grant as a message.
pub fn grant(grant: &Grant) -> v1::Grant {
    part(grant, grant.allowed.iter())
}

/// A grant as a message, with a part of what it allows.
pub fn part<'a>(grant: &Grant, part: impl Iterator<Item = &'a Allowed>) -> v1::Grant {
    v1::Grant {
        grant_id: grant.id.to_string(),
        generation: grant.generation,
        app: grant.app.to_string(),
        cluster: grant.subject.cluster.to_string(),
        address: grant.subject.address.to_string(),
        pod: match &grant.subject.kind {
            SubjectKind::Pod(pod) => Some(v1::Pod {
                cluster: grant.subject.cluster.to_string(),
                namespace: pod.namespace.to_string(),
                name: pod.name.to_string(),
                uid: pod.uid.to_string(),
                service_account: pod.service_account.to_string(),
                node: pod.node.to_string(),
                addresses: vec![grant.subject.address.to_string()],
            }),
            SubjectKind::Host(_) => None,
        },
        decisions: part.map(allowed).collect(),
        created_at: Some(timestamp(grant.created_at)),
        expires_at: Some(timestamp(grant.expires_at)),
        policy_revision: hex(grant.revision),
        grace: grant.grace().and_then(|grace| prost_types::Duration::try_from(grace).ok()),
    }
}

fn allowed(allowed: &Allowed) -> v1::DestinationDecision {
    let mut message = v1::DestinationDecision {
        destination: Some(destination(&allowed.destination)),
        ..Default::default()
    };
    let rule = match &allowed.basis {
        Basis::Profile(rule) => {
            message.set_verdict(v1::Verdict::Allowed);
            Some(rule)
        }
        Basis::Common(rule) => {
            message.set_verdict(v1::Verdict::Common);
            Some(rule)
        }
        Basis::Shadow => {
            message.set_verdict(v1::Verdict::Allowed);
            "let through by shadow mode alone".clone_into(&mut message.explanation);
            None
        }
    };
    if let Some(RuleRef { document, rule }) = rule {
        message.rule = rule.to_string();
        message.document = document.to_string();
    }
    message
}

/// The lease of a grant.
pub fn lease(grant: &Grant) -> v1::Lease {
    v1::Lease {
        grant_id: grant.id.to_string(),
        generation: grant.generation,
        addresses: vec![grant.subject.address.to_string()],
        expires_at: Some(timestamp(grant.expires_at)),
        renew_after: grant
            .renew_after(clock::wall())
            .and_then(|after| prost_types::Duration::try_from(after).ok()),
    }
}

/// An instant of the wall clock.
pub fn timestamp(time: WallTime) -> prost_types::Timestamp {
    let ms = time.as_millis();
    prost_types::Timestamp { seconds: (ms / 1_000) as i64, nanos: (ms % 1_000) as i32 * 1_000_000 }
}

/// An instant of the boot clock, as the time since boot.
pub fn since_boot(moment: Moment) -> prost_types::Duration {
    let ns = moment.as_nanos();
    prost_types::Duration { seconds: ns / 1_000_000_000, nanos: (ns % 1_000_000_000) as i32 }
}
