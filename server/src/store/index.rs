//! The living grants in memory, for whoever reads them: by address without a lock, by id in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use papaya::{Equivalent, HashMap};
use podgate_engine::{
    grant::{Grant, GrantId, Place},
    time::WallTime,
};
use rustc_hash::FxBuildHasher;

/// How many grants one page looks at, so that a rare filter does not hold the lock for ever.
const LOOKED_AT_MAX: usize = 50_000;

/// Living grants. Changed by the store's writer alone.
#[derive(Debug)]
pub struct GrantIndex {
    by_place: HashMap<Place, Arc<[Arc<Grant>]>, FxBuildHasher>,
    by_id: RwLock<ById>,
}

/// Grants by id, and their ids by when they end.
#[derive(Debug, Default)]
struct ById {
    grants: BTreeMap<GrantId, Arc<Grant>>,
    ends: BTreeSet<(WallTime, GrantId)>,
}

impl ById {
    /// Puts a grant in force; returns what it was before.
    fn put(&mut self, grant: &Arc<Grant>) -> Option<Arc<Grant>> {
        self.ends.insert((grant.expires_at, grant.id));
        let before = self.grants.insert(grant.id, Arc::clone(grant));
        if let Some(before) = &before
            && before.expires_at != grant.expires_at
        {
            self.ends.remove(&(before.expires_at, before.id));
        }
        before
    }

    /// Takes a grant away; returns what it was.
    fn remove(&mut self, id: GrantId) -> Option<Arc<Grant>> {
        let before = self.grants.remove(&id)?;
        self.ends.remove(&(before.expires_at, id));
        Some(before)
    }
}

/// A [`Place`] that need not be owned to look one up.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct PlaceRef<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Address.
    pub address: IpAddr,
}

impl Equivalent<Place> for PlaceRef<'_> {
    fn equivalent(&self, place: &Place) -> bool {
        self.address == place.address && *self.cluster == *place.cluster
    }
}

impl GrantIndex {
    pub(crate) fn new(grants: &BTreeMap<GrantId, Arc<Grant>>) -> Self {
        let mut by_place: rustc_hash::FxHashMap<Place, Vec<Arc<Grant>>> = rustc_hash::FxHashMap::default();
        for grant in grants.values() {
            by_place.entry(place_of(grant)).or_default().push(Arc::clone(grant));
        }
        let map = HashMap::builder().hasher(FxBuildHasher).capacity(by_place.len()).build();
        for (place, grants) in by_place {
            map.pin().insert(place, grants.into());
        }
        let mut by_id = ById::default();
        for grant in grants.values() {
            by_id.put(grant);
        }
        Self { by_place: map, by_id: RwLock::new(by_id) }
    }

    /// The grants on an address; empty where there are none.
    pub fn at(&self, place: PlaceRef<'_>) -> Option<Arc<[Arc<Grant>]>> {
        self.by_place.pin().get(&place).cloned()
    }

    /// How many grants live.
    pub fn len(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).grants.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A grant by id.
    pub fn get(&self, id: GrantId) -> Option<Arc<Grant>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).grants.get(&id).cloned()
    }

    /// Up to `size` living grants that pass `filter`, by id, after `after`; and after which id to go on, if there may
    /// be more.
    pub fn page(
        &self,
        after: Option<GrantId>,
        size: usize,
        now: WallTime,
        filter: impl Fn(&Grant) -> bool,
    ) -> (Vec<Arc<Grant>>, Option<GrantId>) {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Vec::new();
        for (looked_at, (id, grant)) in by_id.grants.range((from, Bound::Unbounded)).enumerate() {
            if grant.lives(now) && filter(grant) {
                page.push(Arc::clone(grant));
            }
            if page.len() >= size || looked_at >= LOOKED_AT_MAX {
                let more = by_id.grants.range((Bound::Excluded(*id), Bound::Unbounded)).next().is_some();
                return (page, Some(*id).filter(|_| more));
            }
        }
        (page, None)
    }

    /// Living grants that pass `filter`, newest first, before `before`: up to `size` of the next `looked_at_max`; and
    /// before which id to go on, if there may be more.
    pub fn newest(
        &self,
        before: Option<GrantId>,
        (size, looked_at_max): (usize, usize),
        now: WallTime,
        filter: impl Fn(&Grant) -> bool,
    ) -> (Vec<Arc<Grant>>, Option<GrantId>) {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let until = before.map_or(Bound::Unbounded, Bound::Excluded);
        let mut newest = Vec::new();
        let older = by_id.grants.range((Bound::Unbounded, until)).rev();
        for (looked_at, (id, grant)) in older.enumerate() {
            if grant.lives(now) && filter(grant) {
                newest.push(Arc::clone(grant));
            }
            if newest.len() >= size || looked_at + 1 >= looked_at_max {
                return (newest, Some(*id));
            }
        }
        (newest, None)
    }

    /// Whether some grant is over and still here.
    pub fn any_expired(&self, now: WallTime) -> bool {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.ends.first().is_some_and(|(ends, _)| *ends <= now)
    }

    /// Up to `most` grants for which `wanted` holds.
    pub(crate) fn find(&self, most: usize, wanted: impl Fn(&Grant) -> bool) -> Vec<Arc<Grant>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        by_id.grants.values().filter(|grant| wanted(grant)).take(most).cloned().collect()
    }

    /// Up to `most` grants that are over, those that ended first.
    pub(crate) fn expired(&self, most: usize, now: WallTime) -> Vec<Arc<Grant>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let over = by_id.ends.iter().take_while(|(ends, _)| *ends <= now);
        over.filter_map(|(_, id)| by_id.grants.get(id)).take(most).cloned().collect()
    }

    /// Puts a committed group of changes in force, and tells each with what it changed.
    pub(crate) fn publish(
        &self,
        places: impl Iterator<Item = (Place, Vec<Arc<Grant>>)>,
        changes: impl Iterator<Item = (GrantId, Option<Arc<Grant>>)>,
        mut told: impl FnMut(Change),
    ) {
        let map = self.by_place.pin();
        for (place, grants) in places {
            if grants.is_empty() {
                map.remove(&place);
            } else {
                map.insert(place, grants.into());
            }
        }
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        for (id, change) in changes {
            let before = match &change {
                Some(grant) => by_id.put(grant),
                None => by_id.remove(id),
            };
            told(Change { before, after: change });
        }
    }
}

/// What became of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The grant as it was; none: it is new.
    pub before: Option<Arc<Grant>>,
    /// The grant as it is; none: it has ended.
    pub after: Option<Arc<Grant>>,
}

/// Where a grant lies.
pub(crate) fn place_of(grant: &Grant) -> Place {
    Place { cluster: grant.subject.cluster.clone(), address: grant.subject.address }
}
