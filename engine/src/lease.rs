//! How grants lie on an address: who takes it over, what adds up, what goes.

pub mod narrowing;
pub mod occupancy;
pub mod tenure;

#[cfg(test)]
mod lease_properties;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod reuse_tests;
#[cfg(test)]
mod world;

use std::sync::Arc;

pub use self::{
    narrowing::{Left, left_of, still_allowed},
    occupancy::{
        FORMER_MAX, Former, Move, Occupancy, REMEMBERED_FOR, Refused, Seat, SharedAddresses, Tenancy,
    },
    tenure::{Fallback, Lifetimes, Tenure},
};
use crate::{
    grant::{Allowed, Basis, Grant, GrantId, Terms},
    shared::Shared,
    subject::Subject,
    time::{Moment, WallTime},
};

/// Most requests that one grant answers; one more replaces all that was asked before.
pub const REQUESTS_MAX: usize = 8;

/// A grant that is to be made.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// Name of the app.
    pub app: Arc<str>,
    /// Who will hold it.
    pub subject: Arc<Subject>,
    /// What it will allow.
    pub allowed: Arc<[Allowed]>,
    /// Digest of the request.
    pub request: u64,
    /// Instant of admission, on the boot clock.
    pub admitted_at: Moment,
    /// By what it will go on.
    pub tenure: Tenure,
    /// For how long it will live.
    pub lifetimes: Lifetimes,
    /// Revision of the app's policy that decided.
    pub revision: u64,
    /// Whether something is let through by shadow mode alone.
    pub shadow: bool,
    /// What holds while the gateway cannot be reached.
    pub fallback: Fallback,
    /// Generation of the seat when the call was heard.
    pub seen: u64,
    /// Most living grants of the app.
    pub app_max: u32,
}

/// What a new grant does to its seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The grant as it stands now: new, or an earlier one that has grown.
    pub grant: Arc<Grant>,
    /// Grants that it ends: expired ones, and those of another uid, whose pod had the address before. An address
    /// that is reused never inherits.
    pub ended: Vec<Arc<Grant>>,
    /// What is to be remembered of the seat from now on, where that changes.
    pub occupancy: Option<Occupancy>,
}

/// A lease that is extended.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// For how long it lives from now on.
    pub lifetimes: Lifetimes,
    /// What holds while the gateway cannot be reached.
    pub fallback: Fallback,
    /// What is left of the grant under the present policy, where that is not all.
    pub narrowed: Option<Narrowing>,
}

/// What is left of a grant under another policy.
#[derive(Clone, Debug)]
pub struct Narrowing {
    /// The generation of the grant about which this was decided.
    pub generation: u64,
    /// What it allows from now on.
    pub allowed: Arc<[Allowed]>,
    /// Revision of the app's policy that decided.
    pub revision: u64,
}

impl Tenancy<'_> {
    /// Places a new grant on the seat; `next` is the id that it gets if it is a new one.
    ///
    /// A further request of the same pod for the same app adds to the grant that it has. Under another policy revision it
    /// replaces what was allowed: what the new policy still allows of it, the caller has decided again and put into `new`.
    pub fn place(
        self,
        new: NewGrant,
        next: GrantId,
        now: WallTime,
        shared: &mut Shared,
    ) -> Result<Placement, Refused> {
        let uid = new.subject.kind.uid();
        self.admits(uid, new.seen, now)?;
        let occupancy = self.taken(uid, next, now);
        // What is over of a uid that goes on is left to the sweep, which notes its end.
        let is_kept =
            |grant: &Grant| grant.subject.kind.uid() == uid && (occupancy.is_none() || grant.lives(now));
        let (mine, ended): (Vec<_>, Vec<_>) = self.grants.iter().cloned().partition(|grant| is_kept(grant));
        let grant = match mine.iter().find(|grant| grant.app == new.app && grant.lives(now)) {
            Some(held) => grown(held, new, now, shared),
            None => fresh(new, next, now, shared),
        };
        Ok(Placement { grant: Arc::new(grant), ended, occupancy })
    }
}

fn fresh(new: NewGrant, id: GrantId, now: WallTime, shared: &mut Shared) -> Grant {
    Grant {
        id,
        generation: 1,
        terms: shared.terms(Terms {
            app: new.app,
            allowed: new.allowed,
            requests: Box::new([new.request]),
            revision: new.revision,
            shadow: new.shadow,
            fallback: new.fallback,
        }),
        subject: shared.subject(&new.subject),
        tenure: new.tenure,
        admitted_at: new.admitted_at,
        created_at: now,
        expires_at: new.tenure.end(new.lifetimes, now),
    }
}

fn grown(held: &Grant, new: NewGrant, now: WallTime, shared: &mut Shared) -> Grant {
    let repeated = held.requests.contains(&new.request);
    let has_room = repeated || held.requests.len() < REQUESTS_MAX;
    let keeps = held.revision == new.revision && has_room;
    let (allowed, requests) = match (keeps, repeated) {
        (true, true) => (Arc::clone(&held.allowed), held.requests.clone()),
        (true, false) => {
            let added = new.allowed.iter().filter(|allowed| !held.allowed.contains(allowed));
            let requests = held.requests.iter().copied().chain([new.request]).collect();
            (held.allowed.iter().chain(added).cloned().collect(), requests)
        }
        (false, _) => (new.allowed, Box::from([new.request])),
    };
    let tenure = held.tenure.with(new.tenure);
    let end = tenure.end(new.lifetimes, now);
    let expires_at = match tenure {
        Tenure::Fixed => end.max(held.expires_at),
        Tenure::Renewed => end,
    };
    Grant {
        id: held.id,
        generation: held.generation + 1,
        terms: shared.terms(Terms {
            app: new.app,
            allowed,
            requests,
            revision: new.revision,
            shadow: new.shadow || (keeps && held.shadow),
            fallback: new.fallback,
        }),
        subject: if held.subject == new.subject {
            Arc::clone(&held.subject)
        } else {
            shared.subject(&new.subject)
        },
        tenure,
        admitted_at: new.admitted_at,
        created_at: held.created_at,
        expires_at,
    }
}

/// A living grant whose pod has renewed it, and so lives by `ttl` from now on.
pub fn renewed(grant: &Grant, renewal: Renewal, now: WallTime, shared: &mut Shared) -> Grant {
    let Renewal { lifetimes, fallback, narrowed } = renewal;
    let narrowing = narrowed.filter(|narrowing| narrowing.generation == grant.generation);
    let terms = match narrowing {
        Some(narrowing) => Terms { fallback, ..narrowed_terms(grant, narrowing) },
        None => Terms { fallback, ..(*grant.terms).clone() },
    };
    Grant {
        generation: grant.generation + 1,
        terms: shared.terms(terms),
        tenure: Tenure::Renewed,
        expires_at: Tenure::Renewed.end(lifetimes, now),
        ..grant.clone()
    }
}

/// A grant under a policy that allows less of it; nothing where it has changed since that was decided.
pub fn narrowed(grant: &Grant, narrowing: Narrowing, shared: &mut Shared) -> Option<Grant> {
    (narrowing.generation == grant.generation).then(|| Grant {
        generation: grant.generation + 1,
        terms: shared.terms(narrowed_terms(grant, narrowing)),
        ..grant.clone()
    })
}

/// It answers no request any more: none gets all that it asked for.
fn narrowed_terms(grant: &Grant, narrowing: Narrowing) -> Terms {
    Terms {
        app: Arc::clone(&grant.app),
        shadow: narrowing.allowed.iter().any(|allowed| allowed.basis == Basis::Shadow),
        allowed: narrowing.allowed,
        requests: Box::default(),
        revision: narrowing.revision,
        fallback: grant.fallback,
    }
}
