//! The gate: joins policy, limits and store into answers. Knows no gRPC.

pub mod authorize;
pub mod documents;
pub mod grants;
pub mod in_force;
pub mod policies;
pub mod refusal;
pub mod upstream;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use podgate_engine::{admission, bucket::Bucket, time::Moment};

pub use self::{
    authorize::{Asked, Authorized, Explained, Outcome},
    documents::{Applied, DocumentError},
    in_force::InForce,
    policies::Policies,
    refusal::Refusal,
};
use crate::{
    authn::{Caller, Role},
    clock,
    config::Config,
    limits::per_ip::PerIpLimit,
    store::Store,
    upstream::Upstream,
};

/// The gate.
#[derive(Debug)]
pub struct Gate {
    per_ip: PerIpLimit,
    policies: Policies,
    capacity: Mutex<Bucket>,
    store: Store,
    upstream: Option<Upstream>,
    outcomes: authorize::Outcomes,
}

/// Time that a call must have left before anything is spent on it: about one group commit.
const REMAINING_MIN: Duration = Duration::from_millis(2);

impl Gate {
    /// A gate over an open store, by these settings.
    pub fn new(config: &Config, store: Store, policies: Policies) -> Self {
        let now = clock::now();
        let capacity = match policies.history() {
            policies::History::None => Bucket::full(config.capacity, now),
            policies::History::Unknown => Bucket::drained(config.capacity, now),
        };
        Self {
            per_ip: PerIpLimit::new(&config.per_ip),
            policies,
            capacity: Mutex::new(capacity),
            store,
            upstream: None,
            outcomes: authorize::Outcomes::new(),
        }
    }

    /// The limit on calls of one address.
    pub fn per_ip(&self) -> &PerIpLimit {
        &self.per_ip
    }

    /// The policy in force, and how it changes.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Lets a call pass that has time left and comes from an address with calls left.
    pub fn enter(&self, caller: &Caller, timeout: Option<Duration>) -> Result<(), Refusal> {
        if timeout.is_some_and(|timeout| timeout < REMAINING_MIN) {
            return Err(Refusal::DeadlineTooShort);
        }
        self.per_ip.check(caller.address).map_err(|wait| Refusal::PerIpCalls { wait })
    }

    /// Admits through an app's bucket and the shared capacity: both or neither.
    fn pass(&self, bucket: &Mutex<Bucket>) -> (admission::Passage, Moment) {
        let mut app = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut capacity = self.capacity.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        (admission::pass(&mut app, &mut capacity, now), now)
    }

    /// Ends the gate: what is queued for the store is written.
    pub fn close(self) {
        // First of all: what it acknowledges goes to the store.
        if let Some(upstream) = self.upstream {
            upstream.close();
        }
        self.store.close();
    }
}

/// Refuses a caller without the operator's role.
pub(crate) fn require_operator(caller: &Caller) -> Result<(), Refusal> {
    match caller.role {
        Role::Operator => Ok(()),
        Role::Pod => Err(Refusal::RoleNotAllowed),
    }
}
