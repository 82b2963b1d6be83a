//! What the writer does with grants: the engine decides on a seat as the group leaves it so far, and the group notes it.

use std::sync::Arc;

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{self, NewGrant, Seat},
    subject::Subject,
    time::WallTime,
};

use super::{ENDED_MAX, Writer};
use crate::store::{
    StoreError,
    command::{Ending, Extension, Redecided, Target},
    group::Group,
};

/// Most grants of one address, whatever clusters and apps its callers name.
const ADDRESS_GRANTS_MAX: i64 = 256;
/// The same where pods share the address: a node's pods on its network, or all behind a NAT.
const SHARED_ADDRESS_GRANTS_MAX: i64 = 4_096;
/// Seats that one sweep forgets.
const FORGOTTEN_MAX: usize = 50_000;

impl Writer {
    pub(super) fn grant(
        &mut self,
        group: &mut Group,
        new: NewGrant,
        wall: WallTime,
    ) -> Result<Arc<Grant>, StoreError> {
        let app_max = new.app_max;
        let seat = self.seat_of(&new.subject);
        let now = group.seat(&self.index, &seat);
        let placed = now.tenancy().place(new, self.next_grant, wall, &mut self.shared);
        let placement = placed.map_err(StoreError::Refused)?;
        let grant = placement.grant;
        if grant.id == self.next_grant {
            // One that takes the place of others needs no further room.
            if (placement.ended.is_empty() && self.is_full(group, &seat)) || self.is_unheard(group) {
                return Err(StoreError::Full);
            }
            let replaces = placement.ended.iter().any(|ended| ended.app == grant.app);
            if !replaces && self.count_of(group, &grant.app) >= i64::from(app_max) {
                return Err(StoreError::LeasesFull);
            }
            self.take_number();
            group.count_made(&grant);
        }
        for ended in &placement.ended {
            group.note_ended(ended);
        }
        let now = group.seat(&self.index, &seat);
        now.grants.retain(|other| !placement.ended.iter().any(|ended| ended.id == other.id));
        if let Some(occupancy) = placement.occupancy {
            now.occupancy = Some(Arc::new(occupancy));
        }
        self.change(group, &grant);
        Ok(grant)
    }

    pub(super) fn renew(
        &mut self,
        group: &mut Group,
        Extension { claim, renewal }: Extension,
        wall: WallTime,
    ) -> Result<Arc<Grant>, StoreError> {
        let held = self.held(group, claim.id).filter(|grant| claim.is_of(grant) && grant.lives(wall));
        let held = held.filter(|grant| claim.generation <= grant.generation).ok_or(StoreError::NoGrant)?;
        let grant = Arc::new(lease::renewed(&held, renewal, wall, &mut self.shared));
        self.change(group, &grant);
        Ok(grant)
    }

    /// Puts in force what another policy leaves of grants; returns how many of them that changed.
    pub(super) fn redecide(&mut self, group: &mut Group, redecided: Vec<Redecided>, wall: WallTime) -> u32 {
        let mut changed = 0;
        for redecided in redecided {
            match redecided {
                Redecided::Narrowed(id, narrowing) => {
                    let held = self.held(group, id);
                    let less = held.and_then(|held| lease::narrowed(&held, narrowing, &mut self.shared));
                    if let Some(less) = less {
                        self.change(group, &Arc::new(less));
                        changed += 1;
                    }
                }
                Redecided::Ended(id, generation) => {
                    let held = self.held(group, id).filter(|held| held.generation == generation);
                    if let Some(held) = held {
                        self.end(group, &held, wall);
                        changed += 1;
                    }
                }
            }
        }
        changed
    }

    pub(super) fn end(&mut self, group: &mut Group, grant: &Arc<Grant>, wall: WallTime) {
        let seat = self.seat_of(&grant.subject);
        let number = self.take_number();
        let now = group.seat(&self.index, &seat);
        let occupancy = now.tenancy().ended(grant, number, self.rules.quarantine, wall);
        now.grants.retain(|other| other.id != grant.id);
        now.occupancy = Some(Arc::new(occupancy));
        group.note_ended(grant);
    }

    /// Forgets who had an address once it is long ago, or where too many are remembered.
    pub(super) fn forget(&mut self, group: &mut Group, wall: WallTime) {
        for _ in 0..FORGOTTEN_MAX {
            let is_over =
                self.index.occupancies().saturating_sub(group.forgotten.len()) > self.rules.grants_max;
            let Some((seat, generation)) = self
                .remembered
                .pop_front_if(|(kept_until, ..)| is_over || *kept_until <= wall)
                .map(|(_, seat, generation)| (seat, generation))
            else {
                break;
            };
            let is_current =
                self.index.occupancy(&seat).is_some_and(|occupancy| occupancy.generation == generation);
            // One that this group changes is remembered anew.
            if is_current && !group.seats.contains_key(&seat) {
                if is_over {
                    metrics::counter!("podgate_occupancies_forgotten_total").increment(1);
                }
                group.forgotten.push((seat, generation));
            }
        }
    }

    /// A grant as the group leaves it so far.
    fn held(&self, group: &Group, id: GrantId) -> Option<Arc<Grant>> {
        match group.changes.get(&id) {
            Some(change) => change.clone(),
            None => self.index.get(id),
        }
    }

    /// Puts a grant, new or changed, on its seat.
    fn change(&self, group: &mut Group, grant: &Arc<Grant>) {
        let seat = self.seat_of(&grant.subject);
        let now = group.seat(&self.index, &seat);
        now.grants.retain(|other| other.id != grant.id);
        now.grants.push(Arc::clone(grant));
        group.changes.insert(grant.id, Some(Arc::clone(grant)));
    }

    fn seat_of(&self, subject: &Subject) -> Seat {
        self.rules.shared.seat(subject.place(), subject.kind.uid())
    }

    fn take_number(&mut self) -> GrantId {
        let number = self.next_grant;
        self.next_grant = GrantId(number.0 + 1);
        number
    }

    /// The grants that `ending` means, as this group leaves them so far.
    pub(super) fn wanted(&self, group: &Group, ending: &Ending, wall: WallTime) -> Vec<Arc<Grant>> {
        let search = |most: usize, wanted: &dyn Fn(&Grant) -> bool| -> Vec<Arc<Grant>> {
            let known =
                self.index.find(most, |grant| wanted(grant) && !group.changes.contains_key(&grant.id));
            let fresh = group.changes.values().flatten().filter(|grant| wanted(grant)).cloned();
            known.into_iter().chain(fresh).take(most).collect()
        };
        match ending {
            Ending::Release(claim) => {
                let held = self.held(group, claim.id).filter(|grant| claim.is_of(grant));
                let is_known =
                    |grant: &Arc<Grant>| claim.generation == 0 || grant.generation <= claim.generation;
                held.filter(is_known).into_iter().collect()
            }
            Ending::Revoke(Target::Grant(id)) => self.held(group, *id).into_iter().collect(),
            Ending::Revoke(Target::App(app)) => search(ENDED_MAX as usize, &|grant| *grant.app == **app),
            Ending::Revoke(Target::Address(address)) => {
                search(ENDED_MAX as usize, &|grant| grant.subject.address == *address)
            }
            // One that this group changes is seen to by the next sweep.
            Ending::Expire(most) => {
                let over = self.index.expired(*most, wall).into_iter();
                over.filter(|grant| !group.changes.contains_key(&grant.id)).collect()
            }
        }
    }

    /// Whether no further grant can be had, in all or by this address.
    fn is_full(&self, group: &Group, seat: &Seat) -> bool {
        let address = seat.place.address;
        let held = self.index.count_at(address) as i64;
        let here = held + group.addresses.get(&address).copied().unwrap_or_default();
        let here_max = match seat.uid {
            None => ADDRESS_GRANTS_MAX,
            Some(_) => SHARED_ADDRESS_GRANTS_MAX,
        };
        here >= here_max || self.index.len() as i64 + group.counted >= self.rules.grants_max as i64
    }

    fn count_of(&self, group: &Group, app: &Arc<str>) -> i64 {
        i64::from(self.index.count_of(app)) + group.apps.get(app).copied().unwrap_or_default()
    }

    /// Whether as many ends wait to be heard of as there may be grants: no more are made until some are.
    fn is_unheard(&self, group: &Group) -> bool {
        let standing = self.tombstones.as_ref().map_or(0, |tombstones| tombstones.len() + group.ended.len());
        standing >= self.rules.grants_max
    }
}
