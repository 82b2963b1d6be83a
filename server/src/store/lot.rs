//! The grants on one address: nearly always one.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    ops::Deref,
    slice,
    sync::Arc,
};

use papaya::Equivalent;

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

/// A lot is found by its address, which stands in its grants.
#[derive(Clone, Debug)]
pub(crate) struct ByAddress(pub(crate) Lot);

impl ByAddress {
    /// None is ever empty.
    fn address(&self) -> Option<IpAddr> {
        self.0.first().map(|grant| grant.subject.address)
    }
}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for ByAddress {}

/// An address, to find the lot on it.
#[derive(Debug, Hash)]
pub(crate) struct On(pub(crate) Option<IpAddr>);

impl Equivalent<ByAddress> for On {
    fn equivalent(&self, lot: &ByAddress) -> bool {
        self.0 == lot.address()
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
