//! The living grants in memory, for whoever reads them: by address without a lock, by id in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use papaya::HashMap;
use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Occupancy, Seat, Tenancy},
    time::WallTime,
};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::store::lot::{ByAddress, Lot, On};

/// How many grants one page looks at, so that a rare filter does not hold the lock for ever.
const LOOKED_AT_MAX: usize = 50_000;

/// Grants that are put into the index at once when a store is opened: the changes of one go are held in a list.
const LOADED_AT_ONCE: usize = 1_024;

/// Living grants, and what is remembered of the addresses. Changed by the store's writer alone.
#[derive(Debug)]
pub struct GrantIndex {
    /// Whatever the cluster: addresses of two clusters seldom meet.
    by_address: HashMap<ByAddress, (), FxBuildHasher>,
    by_id: RwLock<ById>,
    occupancies: HashMap<Seat, Arc<Occupancy>, FxBuildHasher>,
}

/// Grants by id, their ids by when they end, and how many each app has.
#[derive(Debug, Default)]
struct ById {
    grants: BTreeMap<GrantId, Arc<Grant>>,
    ends: BTreeSet<(WallTime, GrantId)>,
    apps: FxHashMap<Arc<str>, u32>,
}

impl ById {
    /// Puts a grant in place of what had its id; returns that.
    fn put(&mut self, grant: &Arc<Grant>) -> Option<Arc<Grant>> {
        self.ends.insert((grant.expires_at, grant.id));
        let before = self.grants.insert(grant.id, Arc::clone(grant));
        match &before {
            Some(before) if before.expires_at != grant.expires_at => {
                self.ends.remove(&(before.expires_at, before.id));
            }
            Some(_) => {}
            None => *self.apps.entry(Arc::clone(&grant.app)).or_default() += 1,
        }
        before
    }

    fn remove(&mut self, id: GrantId) -> Option<Arc<Grant>> {
        let before = self.grants.remove(&id)?;
        self.ends.remove(&(before.expires_at, id));
        if let Some(count) = self.apps.get_mut(&before.app) {
            *count -= 1;
            if *count == 0 {
                self.apps.remove(&before.app);
            }
        }
        Some(before)
    }
}

/// A [`Place`](podgate_engine::grant::Place) that need not be owned to look one up.
#[derive(Clone, Copy, Debug)]
pub struct PlaceRef<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Address.
    pub address: IpAddr,
}

impl GrantIndex {
    pub(crate) fn new(grants: BTreeMap<GrantId, Arc<Grant>>, occupancies: Vec<(Seat, Occupancy)>) -> Self {
        let index = Self {
            by_address: HashMap::builder().hasher(FxBuildHasher).capacity(grants.len()).build(),
            by_id: RwLock::default(),
            occupancies: HashMap::with_hasher(FxBuildHasher),
        };
        let mut changes = grants.into_iter().map(|(id, grant)| (id, Some(grant))).peekable();
        while changes.peek().is_some() {
            index.publish(changes.by_ref().take(LOADED_AT_ONCE), std::iter::empty(), drop);
        }
        let occupancies = occupancies.into_iter();
        let occupancies = occupancies.map(|(seat, occupancy)| (seat, Some(Arc::new(occupancy))));
        index.publish(std::iter::empty(), occupancies, drop);
        index
    }

    /// The grants on an address of a cluster, if there are any.
    pub fn at(&self, place: PlaceRef<'_>) -> Option<Lot> {
        let lots = self.by_address.pin();
        let (lot, ()) = lots.get_key_value(&On(Some(place.address)))?;
        lot.0.filtered(|grant| *grant.subject.cluster == *place.cluster)
    }

    /// How many grants lie on an address, whatever the cluster.
    pub(crate) fn count_at(&self, address: IpAddr) -> usize {
        self.by_address.pin().get_key_value(&On(Some(address))).map_or(0, |(lot, ())| lot.0.len())
    }

    /// The grants on a seat, if there are any.
    pub(crate) fn on(&self, seat: &Seat) -> Option<Lot> {
        let place = PlaceRef { cluster: &seat.place.cluster, address: seat.place.address };
        self.at(place)?.filtered(|grant| seat.has(grant))
    }

    /// What is remembered of a seat.
    pub(crate) fn occupancy(&self, seat: &Seat) -> Option<Arc<Occupancy>> {
        self.occupancies.pin().get(seat).cloned()
    }

    /// A seat as it stands.
    pub fn look<T>(&self, seat: &Seat, look: impl FnOnce(Tenancy<'_>) -> T) -> T {
        let (grants, occupancy) = (self.on(seat), self.occupancy(seat));
        look(Tenancy { grants: grants.as_deref().unwrap_or_default(), occupancy: occupancy.as_deref() })
    }

    /// How many addresses something is remembered of.
    pub fn occupancies(&self) -> usize {
        self.occupancies.pin().len()
    }

    /// How many grants an app has.
    pub fn count_of(&self, app: &str) -> u32 {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).apps.get(app).copied().unwrap_or(0)
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
        changes: impl Iterator<Item = (GrantId, Option<Arc<Grant>>)>,
        occupancies: impl Iterator<Item = (Seat, Option<Arc<Occupancy>>)>,
        mut told: impl FnMut(Change),
    ) {
        let remembered = self.occupancies.pin();
        for (seat, change) in occupancies {
            match change {
                Some(occupancy) => drop(remembered.insert(seat, occupancy)),
                None => drop(remembered.remove(&seat)),
            }
        }
        let mut moved = Vec::new();
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        for (id, change) in changes {
            let before = match &change {
                Some(grant) => by_id.put(grant),
                None => by_id.remove(id),
            };
            let address = change.as_ref().or(before.as_ref()).map(|grant| grant.subject.address);
            moved.extend(address.map(|address| (address, id, change.clone())));
            told(Change { before, after: change });
        }
        drop(by_id);
        let lots = self.by_address.pin();
        for (address, id, change) in moved {
            let address = On(Some(address));
            let lot = match lots.get_key_value(&address) {
                Some((lot, ())) => lot.0.changed(id, change),
                None => change.map(Lot::One),
            };
            match lot {
                // The key that was there is replaced as well.
                Some(lot) => drop(lots.insert(ByAddress(lot), ())),
                None => drop(lots.remove(&address)),
            }
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
