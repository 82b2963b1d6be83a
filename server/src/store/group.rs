//! A group of writes, before it is committed and in force.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Occupancy, Seat, Tenancy},
};
use rustc_hash::FxHashMap;

use crate::store::{
    command::{Answer, Frontier},
    courier::Courier,
    database::Kind,
    index::GrantIndex,
};

/// What a group changes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) seats: FxHashMap<Seat, SeatNow>,
    /// Seats of which nothing is remembered any more, and the number under which it was.
    pub(crate) forgotten: Vec<(Seat, u64)>,
    pub(crate) changes: BTreeMap<GrantId, Option<Arc<Grant>>>,
    pub(crate) documents: Vec<(Kind, String, Option<Vec<u8>>)>,
    pub(crate) frontiers: FxHashMap<Arc<str>, Frontier>,
    pub(crate) keys: Option<Vec<u8>>,
    /// Grants that it ends, and ends that have been acknowledged.
    pub(crate) ended: Vec<Arc<Grant>>,
    pub(crate) heard: Vec<GrantId>,
    /// By how many grants each address and each app changes, and all together.
    pub(crate) addresses: FxHashMap<IpAddr, i64>,
    pub(crate) apps: FxHashMap<Arc<str>, i64>,
    pub(crate) counted: i64,
    pub(crate) answers: Vec<Answer>,
    pub(crate) parcels: Vec<(Courier, Vec<Answer>)>,
}

/// A seat as the group leaves it so far.
#[derive(Debug)]
pub(crate) struct SeatNow {
    pub(crate) grants: Vec<Arc<Grant>>,
    pub(crate) occupancy: Option<Arc<Occupancy>>,
    /// The number under which it is remembered durably.
    was: Option<u64>,
}

impl SeatNow {
    fn of(index: &GrantIndex, seat: &Seat) -> Self {
        let occupancy = index.occupancy(seat);
        Self {
            grants: index.on(seat).map(|lot| lot.to_vec()).unwrap_or_default(),
            was: occupancy.as_ref().map(|occupancy| occupancy.generation),
            occupancy,
        }
    }

    pub(crate) fn tenancy(&self) -> Tenancy<'_> {
        Tenancy { grants: &self.grants, occupancy: self.occupancy.as_deref() }
    }

    /// What is remembered of it from this group on, where that has changed, and the number that it had before.
    pub(crate) fn change(&self) -> Option<(&Arc<Occupancy>, Option<u64>)> {
        let occupancy = self.occupancy.as_ref()?;
        (self.was != Some(occupancy.generation)).then_some((occupancy, self.was))
    }
}

impl Group {
    pub(crate) fn commands(&self) -> usize {
        self.answers.len() + self.parcels.iter().map(|(_, answers)| answers.len()).sum::<usize>()
    }

    /// Whether it changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let has_desk = !self.frontiers.is_empty() || self.keys.is_some();
        let has_grants = !self.changes.is_empty() || !self.heard.is_empty() || !self.forgotten.is_empty();
        !has_desk && !has_grants && self.documents.is_empty()
    }

    /// The seat as this group leaves it so far.
    pub(crate) fn seat(&mut self, index: &GrantIndex, seat: &Seat) -> &mut SeatNow {
        self.seats.entry(seat.clone()).or_insert_with_key(|seat| SeatNow::of(index, seat))
    }

    /// A further grant.
    pub(crate) fn count_made(&mut self, grant: &Grant) {
        self.count(grant, 1);
    }

    /// A grant that ends.
    pub(crate) fn note_ended(&mut self, grant: &Arc<Grant>) {
        self.count(grant, -1);
        self.changes.insert(grant.id, None);
        self.ended.push(Arc::clone(grant));
    }

    fn count(&mut self, grant: &Grant, change: i64) {
        *self.addresses.entry(grant.subject.address).or_default() += change;
        *self.apps.entry(Arc::clone(&grant.app)).or_default() += change;
        self.counted += change;
    }

    /// What is remembered of seats, by number: what is forgotten, and what is new.
    pub(crate) fn occupancies(&self) -> impl Iterator<Item = (u64, Option<(&Seat, &Occupancy)>)> {
        let forgotten = self.forgotten.iter().map(|(_, generation)| (*generation, None));
        let changed = self.seats.iter().filter_map(|(seat, now)| Some((seat, now.change()?)));
        let changed = changed.flat_map(|(seat, (occupancy, was))| {
            let replaced = was.map(|was| (was, None));
            replaced.into_iter().chain([(occupancy.generation, Some((seat, &**occupancy)))])
        });
        forgotten.chain(changed)
    }

    /// The same numbers with their seats.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (u64, Seat)> {
        let forgotten = self.forgotten.iter().map(|(seat, generation)| (*generation, seat.clone()));
        let changed = self.seats.iter().filter_map(|(seat, now)| Some((seat, now.change()?)));
        let changed = changed.flat_map(|(seat, (occupancy, was))| {
            was.into_iter().chain([occupancy.generation]).map(|number| (number, seat.clone()))
        });
        forgotten.chain(changed)
    }

    pub(crate) fn answer(&mut self, answer: Answer, courier: Option<Courier>) {
        match courier {
            None => self.answers.push(answer),
            Some(courier) => match self.parcels.iter_mut().find(|(other, _)| other.same_as(&courier)) {
                Some((_, parcel)) => parcel.push(answer),
                None => self.parcels.push((courier, vec![answer])),
            },
        }
    }
}
