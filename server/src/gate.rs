//! The gate: joins policy, limits and store into answers. Knows no gRPC.

pub mod authorize;
pub mod barrier;
pub mod booking;
pub mod documents;
pub mod enforcers;
pub mod grants;
pub mod in_force;
mod lanes;
pub mod passage;
pub mod policies;
mod rates;
pub mod redecision;
pub mod refusal;
pub mod upstream;
pub mod watch;

use std::{sync::Arc, time::Duration};

use podgate_engine::{desk::REMAINING_MIN, lease::SharedAddresses};

pub use self::{
    authorize::{Appointments, Asked, Authorized, Explained, Outcome, Patience},
    booking::Booking,
    documents::{Applied, DocumentError},
    enforcers::Enforcers,
    in_force::InForce,
    policies::Policies,
    redecision::Redecisions,
    refusal::Refusal,
};
use crate::{
    authn::{Caller, Role},
    clock,
    config::Config,
    gate::lanes::Lanes,
    limits::per_ip::PerIpLimit,
    store::{Store, StoreError, desk::KeptDesk},
    upstream::Upstream,
};

/// The gate.
#[derive(Debug)]
pub struct Gate {
    per_ip: PerIpLimit,
    policies: Policies,
    booking: Booking,
    lanes: Lanes,
    shared_addresses: SharedAddresses,
    store: Store,
    enforcers: Arc<Enforcers>,
    upstream: Option<Upstream>,
    outcomes: authorize::Outcomes,
}

impl Gate {
    /// A gate over an open store and what that kept of the desk, by these settings.
    pub fn new(config: &Config, store: Store, kept: &KeptDesk, policies: Policies) -> Self {
        Self {
            per_ip: PerIpLimit::new(&config.per_ip),
            policies,
            booking: Booking::new(config, kept),
            lanes: Lanes::new(),
            shared_addresses: config.leases.shared.clone(),
            store,
            enforcers: Arc::new(Enforcers::new(config.enforcer_grace, clock::now())),
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

    /// The desk.
    pub fn booking(&self) -> &Booking {
        &self.booking
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who watches.
    pub fn enforcers(&self) -> &Enforcers {
        &self.enforcers
    }

    /// Lets a call pass that has time left and comes from an address with calls left.
    pub fn enter(&self, caller: &Caller, timeout: Option<Duration>) -> Result<(), Refusal> {
        if timeout.is_some_and(|timeout| timeout < REMAINING_MIN) {
            return Err(Refusal::DeadlineTooShort);
        }
        self.per_ip.check(caller.address).map_err(|wait| Refusal::PerIpCalls { wait })
    }

    /// Has the tickets sealed by a new key where the present one is old, once that is durable.
    pub async fn renew_keys(&self) -> Result<(), Refusal> {
        if let Some(renewal) = self.store.renew_keys(&self.booking.keys(), clock::wall()) {
            renewal.written?.await.map_err(|_| StoreError::Closed)??;
            self.store.keys_renewed(renewal.made_at);
            self.booking.set_keys(renewal.keys);
            tracing::info!("tickets are sealed by a new key");
        }
        Ok(())
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
