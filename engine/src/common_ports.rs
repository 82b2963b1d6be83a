//! Common ports: destinations that every app may reach, whitelisted once.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    digest::digest_of,
    draft::CommonPortsDraft,
    fault::{Fault, Faults},
    index::Rules,
    name::{DocumentName, parse_word},
    profile::{Priority, check_labels},
};

/// Most clusters of a document.
pub const CLUSTERS_MAX: usize = 64;

/// Most priorities of a document: there are no more.
const PRIORITIES_MAX: usize = 3;

/// A common-ports document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommonPorts {
    /// Its name.
    pub name: DocumentName,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Only for subjects of these clusters; none: of any.
    pub clusters: Box<[Arc<str>]>,
    /// Only for apps of these priorities; none: of any.
    pub priorities: Box<[Priority]>,
    /// The destinations.
    pub allow: Rules,
}

impl CommonPorts {
    /// Reads a draft, or tells everything that is wrong with it.
    pub fn parse(draft: &CommonPortsDraft) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let name = faults.keep("metadata.name", DocumentName::parse(&draft.name));
        check_labels(&draft.labels, &mut faults);
        if draft.clusters.len() > CLUSTERS_MAX {
            let count = draft.clusters.len();
            faults.add("spec.clusters", format!("{count} clusters; expected at most {CLUSTERS_MAX}"));
        }
        let clusters = draft.clusters.iter().take(CLUSTERS_MAX).enumerate();
        let clusters = clusters
            .filter_map(|(at, text)| {
                faults.keep(format!("spec.clusters[{at}]"), parse_word("cluster", text, 63))
            })
            .collect();
        if draft.priorities.len() > PRIORITIES_MAX {
            let count = draft.priorities.len();
            faults.add("spec.priorities", format!("{count} priorities; expected at most {PRIORITIES_MAX}"));
        }
        let priorities = draft.priorities.iter().take(PRIORITIES_MAX).enumerate();
        let priorities = priorities
            .filter_map(|(at, text)| faults.keep(format!("spec.priorities[{at}]"), text.parse()))
            .collect();
        let allow = Rules::parse(&draft.allow, "spec.allow", &draft.name, &mut faults);
        match name {
            Some(name) if faults.is_empty() => {
                Ok(Self { name, labels: draft.labels.clone(), clusters, priorities, allow })
            }
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// Changes with every change of content.
    pub fn etag(&self) -> u64 {
        digest_of(self)
    }

    /// Whether it speaks to a subject of `cluster` whose app has `priority`, if it has a profile at all.
    pub fn applies_to(&self, cluster: &str, priority: Option<Priority>) -> bool {
        (self.clusters.is_empty() || self.clusters.iter().any(|mine| **mine == *cluster))
            && (self.priorities.is_empty()
                || priority.is_some_and(|priority| self.priorities.contains(&priority)))
    }
}
