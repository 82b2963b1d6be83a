//! Who has an address, who had it, and whether a call may still take it.
//!
//! Addresses are reused within seconds, and calls wait: in queues, in the network, for their turn. Two things keep a call
//! of a pod that is gone from taking the address of its successor. Each change of an address's holder, and each end of a
//! grant there, gives it another *generation*, and a call that was heard under an earlier one grants nothing. And the uids
//! that were superseded are remembered, so that a call of theirs that is heard only now grants nothing either.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;

use crate::{
    digest::digest_of,
    grant::{Grant, GrantId, Place},
    time::WallTime,
};

/// Most superseded uids that are remembered of an address; one more displaces the oldest.
pub const FORMER_MAX: usize = 8;
/// How long a superseded uid, and the end of a holder, are remembered: longer than any call is on its way, and than a
/// ticket is worth anything.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(3_600);

/// Networks of addresses that several pods have at once: those of the nodes, for pods on the host network, and of NAT.
#[derive(Clone, Debug, Default)]
pub struct SharedAddresses(Box<[IpNet]>);

impl SharedAddresses {
    /// The addresses of these networks.
    pub fn new(networks: impl Into<Box<[IpNet]>>) -> Self {
        Self(networks.into())
    }

    /// What a pod has at a place: all of it, or, where it is shared, its own seat.
    pub fn seat(&self, place: Place, uid: &str) -> Seat {
        let is_shared = self.0.iter().any(|network| network.contains(&place.address));
        Seat { place, uid: is_shared.then(|| digest_of(&uid)) }
    }
}

/// What one holder has at a time: an address, or, where that is shared, the part of it that belongs to one uid. What
/// happens on one seat does not concern the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// The address.
    pub place: Place,
    /// Digest of the uid, where the address is shared.
    pub uid: Option<u64>,
}

impl Seat {
    /// Whether a grant that lies at this place lies on this seat.
    pub fn has(&self, grant: &Grant) -> bool {
        self.uid.is_none_or(|uid| uid == digest_of(&grant.subject.kind.uid()))
    }
}

/// What is remembered of a seat beside the grants that lie on it. Nothing is, where nobody has had it before who holds it
/// now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Rises with each change. No two seats ever have the same.
    pub generation: u64,
    /// Digest of the uid that holds it, or held it last.
    pub holder: u64,
    /// What the last change was.
    pub last: Move,
    /// Until when nobody else may take it.
    pub quarantined_until: WallTime,
    /// Who had it before, latest first.
    pub former: Box<[Former]>,
    /// When all this may be forgotten.
    pub kept_until: WallTime,
}

/// A change of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The holder took it.
    Taken {
        /// The generation that it had until then.
        before: u64,
    },
    /// A grant of the holder ended.
    Ended,
}

/// A uid that was superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its digest.
    pub uid: u64,
    /// Until when it is remembered.
    pub until: WallTime,
}

/// Why a call does not get the address, although its request is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another pod has taken the address from this one since.
    Superseded,
    /// The address has changed hands, or a grant on it has ended, since the call was heard.
    Moved,
    /// The pod that had the address has ended, and nobody else may have it yet.
    Quarantined {
        /// Until when.
        until: WallTime,
    },
}

/// A seat as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Tenancy<'a> {
    /// The grants on it, also those that are over and not yet ended.
    pub grants: &'a [Arc<Grant>],
    /// What is remembered of it.
    pub occupancy: Option<&'a Occupancy>,
}

impl Tenancy<'_> {
    /// The generation of the seat, for a call to carry from when it is heard until it is recorded. Where nothing is
    /// remembered it is the first grant's id, which rises in the same sequence.
    pub fn generation(self) -> u64 {
        match self.occupancy {
            Some(occupancy) => occupancy.generation,
            None => self.grants.iter().map(|grant| grant.id.0).min().unwrap_or(0),
        }
    }

    /// Whether a call of `uid` that was heard under the generation `seen` may have the seat. The generation only rises while
    /// something is remembered, and what is forgotten has been quiet for longer than any call is on its way.
    pub fn admits(self, uid: &str, seen: u64, now: WallTime) -> Result<(), Refused> {
        let generation = self.generation();
        let Some(occupancy) = self.occupancy else {
            // Nothing has ended here for long, and only this uid may have taken it since.
            let is_own = self.grants.iter().all(|grant| grant.subject.kind.uid() == uid);
            return if seen >= generation || is_own { Ok(()) } else { Err(Refused::Moved) };
        };
        let digest = digest_of(&uid);
        if occupancy.former.iter().any(|former| former.uid == digest && now < former.until) {
            return Err(Refused::Superseded);
        }
        let is_own_taking = match occupancy.last {
            Move::Taken { before } => occupancy.holder == digest && seen == before,
            Move::Ended => false,
        };
        if seen < generation && !is_own_taking {
            return Err(Refused::Moved);
        }
        if occupancy.holder != digest && now < occupancy.quarantined_until {
            return Err(Refused::Quarantined { until: occupancy.quarantined_until });
        }
        Ok(())
    }

    /// The seat after `uid` has taken it with the new grant `by`; nothing where that does not take it: the uid has had it
    /// all along, or nobody ever had.
    pub(crate) fn taken(self, uid: &str, by: GrantId, now: WallTime) -> Option<Occupancy> {
        let before = self.generation();
        let holder = digest_of(&uid);
        let previous = match (self.occupancy, self.grants.first()) {
            (Some(occupancy), _) => occupancy.holder,
            (None, Some(grant)) => digest_of(&grant.subject.kind.uid()),
            (None, None) => return None,
        };
        if previous == holder && self.grants.iter().any(|grant| grant.lives(now)) {
            return None;
        }
        let until = now.plus(REMEMBERED_FOR);
        // A machine has no uid. It is known by its address, and comes back to it.
        let is_superseded = previous != holder && previous != digest_of(&"");
        let superseded = is_superseded.then_some(Former { uid: previous, until });
        let remembered = self.remembered(now).filter(|former| former.uid != holder && former.uid != previous);
        Some(Occupancy {
            generation: by.0,
            holder,
            last: Move::Taken { before },
            quarantined_until: WallTime::from_millis(0),
            former: superseded.into_iter().chain(remembered).take(FORMER_MAX).collect(),
            kept_until: until,
        })
    }

    /// The seat after a grant on it has ended, which is the change of the number `number`. Nobody else may have it for the
    /// time of `quarantine` from then on, if nothing is left there.
    pub fn ended(self, ended: &Grant, number: GrantId, quarantine: Duration, now: WallTime) -> Occupancy {
        let at = now.min(ended.expires_at);
        let is_left = self.grants.iter().all(|grant| grant.id == ended.id || !grant.lives(at));
        let quarantined_until = if is_left { at.plus(quarantine) } else { WallTime::from_millis(0) };
        Occupancy {
            generation: number.0,
            holder: digest_of(&ended.subject.kind.uid()),
            last: Move::Ended,
            quarantined_until,
            former: self.remembered(now).collect(),
            kept_until: now.plus(REMEMBERED_FOR.max(quarantine)),
        }
    }

    fn remembered(self, now: WallTime) -> impl Iterator<Item = Former> {
        let former = self.occupancy.map(|occupancy| &*occupancy.former).unwrap_or_default();
        former.iter().copied().filter(move |former| now < former.until)
    }
}
