//! Who asks, and whom a profile lists.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{grant::Place, shared::Word, uid::Uid};

/// Who is to be let through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Cluster; empty where there is one only.
    pub cluster: Word,
    /// The proven address.
    pub address: IpAddr,
    /// What stands at the address.
    pub kind: SubjectKind,
}

/// What stands at an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// A pod.
    Pod(PodIdentity),
    /// A machine known by its address, with a name for the record.
    Host(Box<str>),
}

/// A pod's identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    /// Namespace.
    pub namespace: Word,
    /// Pod name, for the record.
    pub name: Box<str>,
    /// Pod uid.
    pub uid: Uid,
    /// Service account.
    pub service_account: Word,
    /// Node name, for the record.
    pub node: Word,
}

impl Subject {
    /// Where its grants lie.
    pub fn place(&self) -> Place {
        Place { cluster: self.cluster.clone(), address: self.address }
    }
}

impl SubjectKind {
    /// Uid of the pod; empty for a machine.
    pub fn uid(&self) -> &str {
        match self {
            Self::Pod(pod) => &pod.uid,
            Self::Host(_) => "",
        }
    }
}

/// Callers that a profile lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SubjectPattern {
    /// Pods under a service account; without a cluster, of any cluster.
    ServiceAccount {
        /// Cluster.
        cluster: Option<Arc<str>>,
        /// Namespace.
        namespace: Arc<str>,
        /// Name.
        name: Arc<str>,
    },
    /// Machines with an address in one of these networks.
    Hosts(Box<[IpNet]>),
}

impl SubjectPattern {
    /// Whether `subject` is one of these.
    pub fn matches(&self, subject: &Subject) -> bool {
        match (self, &subject.kind) {
            (Self::ServiceAccount { cluster, namespace, name }, SubjectKind::Pod(pod)) => {
                cluster.as_ref().is_none_or(|cluster| **cluster == *subject.cluster)
                    && **namespace == *pod.namespace
                    && **name == *pod.service_account
            }
            (Self::Hosts(networks), SubjectKind::Host(_)) => {
                networks.iter().any(|network| network.contains(&subject.address))
            }
            (Self::ServiceAccount { .. }, SubjectKind::Host(_)) | (Self::Hosts(_), SubjectKind::Pod(_)) => {
                false
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SubjectKind::Pod(pod) => {
                write!(f, "service account {}/{}", pod.namespace, pod.service_account)?;
            }
            SubjectKind::Host(_) => write!(f, "host {}", self.address)?,
        }
        if self.cluster.is_empty() { Ok(()) } else { write!(f, " of cluster {}", self.cluster) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cluster: &str, namespace: &str, account: &str) -> Subject {
        Subject {
            cluster: cluster.into(),
            address: [10, 8, 3, 17].into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: namespace.into(),
                name: "order-x7k2p".into(),
                uid: "uid".into(),
                service_account: account.into(),
                node: "".into(),
            }),
        }
    }

    #[test]
    fn a_service_account_is_told_by_cluster_namespace_and_name() {
        let pattern = |cluster: Option<&str>| SubjectPattern::ServiceAccount {
            cluster: cluster.map(Into::into),
            namespace: "hotel".into(),
            name: "order".into(),
        };
        assert!(pattern(None).matches(&pod("bj-1", "hotel", "order")));
        assert!(pattern(Some("bj-1")).matches(&pod("bj-1", "hotel", "order")));
        assert!(!pattern(Some("bj-1")).matches(&pod("bj-2", "hotel", "order")));
        assert!(!pattern(None).matches(&pod("bj-1", "flight", "order")));
        assert!(!pattern(None).matches(&pod("bj-1", "hotel", "pay")));
    }

    #[test]
    fn host_ranges_list_machines_and_never_pods() {
        let pattern = SubjectPattern::Hosts(Box::new(["10.8.0.0/16".parse().unwrap()]));
        let host = |address: [u8; 4]| Subject {
            cluster: "".into(),
            address: address.into(),
            kind: SubjectKind::Host("".into()),
        };
        assert!(pattern.matches(&host([10, 8, 3, 17])));
        assert!(!pattern.matches(&host([10, 9, 3, 17])));
        assert!(!pattern.matches(&pod("", "hotel", "order")));
    }
}
