//! The grants on one address: nearly always one.

use std::{ops::Deref, slice, sync::Arc};

use podgate_engine::grant::{Grant, GrantId};

/// At least one grant, cheap to clone.
#[derive(Clone, Debug)]
pub enum Lot {
    /// A single one needs no list.
    One(Arc<Grant>),
    /// Several.
    Many(Arc<[Arc<Grant>]>),
}

impl Deref for Lot {
    type Target = [Arc<Grant>];

    fn deref(&self) -> &[Arc<Grant>] {
        match self {
            Self::One(grant) => slice::from_ref(grant),
            Self::Many(grants) => grants,
        }
    }
}

impl Lot {
    /// The grants, if there are any.
    pub(crate) fn new(mut grants: Vec<Arc<Grant>>) -> Option<Self> {
        match grants.len() {
            0 => None,
            1 => grants.pop().map(Self::One),
            _ => Some(Self::Many(grants.into())),
        }
    }

    /// Those that are `wanted`.
    pub(crate) fn filtered(&self, wanted: impl Fn(&Grant) -> bool) -> Option<Self> {
        if self.iter().all(|grant| wanted(grant)) {
            return Some(self.clone());
        }
        Self::new(self.iter().filter(|grant| wanted(grant)).cloned().collect())
    }

    /// The same with `changed` in place of what had the id `id`.
    pub(crate) fn changed(&self, id: GrantId, changed: Option<Arc<Grant>>) -> Option<Self> {
        let others = self.iter().filter(|grant| grant.id != id).cloned();
        Self::new(others.chain(changed).collect())
    }
}
