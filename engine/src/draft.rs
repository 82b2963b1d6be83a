//! Documents as their authors write them: text that nothing has been believed of yet.
//!
//! Both the YAML files and the API fill these, so that one reading of the text serves both.

use std::{collections::BTreeMap, time::Duration};

/// An application profile as written. Field names are those of the document, and so are the paths of faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileDraft {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.owner`
    pub owner: String,
    /// `spec.priority`
    pub priority: Option<String>,
    /// `spec.subjects`
    pub subjects: Vec<SubjectDraft>,
    /// `spec.allow`
    pub allow: Vec<RuleDraft>,
    /// `spec.limits`
    pub limits: LimitsDraft,
    /// `spec.lease`
    pub lease: LeaseDraft,
    /// `spec.onUnavailable`
    pub on_unavailable: Option<String>,
    /// `spec.mode`
    pub mode: Option<String>,
}

/// A common-ports document as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonPortsDraft {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.clusters`
    pub clusters: Vec<String>,
    /// `spec.priorities`
    pub priorities: Vec<String>,
    /// `spec.allow`
    pub allow: Vec<RuleDraft>,
}

/// A subject as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubjectDraft {
    /// `serviceAccount`
    ServiceAccount {
        /// `cluster`
        cluster: Option<String>,
        /// `namespace`
        namespace: String,
        /// `name`
        name: String,
    },
    /// `hosts`
    Hosts {
        /// `cidrs`
        cidrs: Vec<String>,
    },
    /// Neither of the two was written.
    #[default]
    Missing,
}

/// A rule as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleDraft {
    /// `name`
    pub name: String,
    /// `hosts`
    pub hosts: Vec<String>,
    /// `ports`
    pub ports: Vec<String>,
    /// `protocol`
    pub protocol: Option<String>,
}

/// Limits as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsDraft {
    /// `rate`
    pub rate: Option<String>,
    /// `burst`
    pub burst: Option<u64>,
    /// `horizon`
    pub horizon: Option<Duration>,
}

/// Lease terms as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseDraft {
    /// `ttl`
    pub ttl: Option<Duration>,
    /// `maxAge`
    pub max_age: Option<Duration>,
    /// `max`
    pub max: Option<u64>,
    /// `grace`
    pub grace: Option<Duration>,
}

/// A rate-limits document as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitsDraft {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.domain`
    pub domain: String,
    /// `spec.descriptors`
    pub descriptors: Vec<DescriptorDraft>,
}

/// A descriptor as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescriptorDraft {
    /// `key`
    pub key: String,
    /// `value`
    pub value: Option<String>,
    /// `rate`
    pub rate: Option<String>,
    /// `burst`
    pub burst: Option<u64>,
    /// `shadow`
    pub shadow: Option<String>,
    /// `descriptors`
    pub descriptors: Vec<DescriptorDraft>,
}
