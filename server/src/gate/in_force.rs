//! A policy in force: the compiled set, and the decisions made under it.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use moka::sync::Cache;
use podgate_engine::{
    decision::Decision,
    destination::Destination,
    digest::digest_of,
    grant::{Allowed, allowed_by},
    lease::{Fallback, Lifetimes},
    policy::{AppIndex, PolicySet, Standing},
    quota::{Quota, horizon_max},
};

use crate::config::values::Defaults;

/// Destinations in all cached decisions together.
const CACHED_DESTINATIONS_MAX: u64 = 200_000;

/// A policy in force. Replaced as a whole.
#[derive(Debug)]
pub struct InForce {
    policy: PolicySet,
    decisions: Cache<Question, Arc<Settled>>,
    defaults: Defaults,
}

/// A decision, with what follows from it for every caller that asks the same.
#[derive(Debug)]
pub struct Settled {
    /// The decision.
    pub decision: Decision,
    /// What a grant for it allows.
    pub allowed: Arc<[Allowed]>,
    /// Digest of the destinations that were asked for.
    pub request: u64,
}

/// What a decision depends on, under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    standing: Standing,
    cluster: Box<str>,
    destinations: Arc<[Destination]>,
}

impl InForce {
    /// A policy to put in force.
    pub fn new(policy: PolicySet, defaults: Defaults) -> Self {
        let decisions = Cache::builder()
            .max_capacity(CACHED_DESTINATIONS_MAX)
            .weigher(|_, settled: &Arc<Settled>| settled.decision.destinations.len() as u32 + 1)
            .build();
        Self { policy, decisions, defaults }
    }

    /// The compiled policy.
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// What an app's bucket allows.
    pub fn quota(&self, app: AppIndex) -> Quota {
        self.policy.profile(app).document.limits.quota(self.defaults.quota)
    }

    /// How far ahead an app's slots are booked. A profile may say the horizon and leave the rate to the settings, and the
    /// other way round: together they were held against each other nowhere else.
    pub fn horizon(&self, app: AppIndex) -> Duration {
        let limits = &self.policy.profile(app).document.limits;
        limits.horizon.unwrap_or(self.defaults.horizon).min(horizon_max(self.quota(app).rate))
    }

    /// How long grants of an app live.
    pub fn lifetimes(&self, app: AppIndex) -> Lifetimes {
        self.policy.profile(app).document.lease.lifetimes(self.defaults.lifetimes)
    }

    /// Most living grants of an app.
    pub fn leases_max(&self, app: AppIndex) -> u32 {
        self.policy.profile(app).document.lease.max.map_or(self.defaults.leases_max, NonZeroU32::get)
    }

    /// What holds of an app's grants while the gateway cannot be reached.
    pub fn fallback(&self, app: AppIndex) -> Fallback {
        self.policy.profile(app).document.fallback(self.defaults.grace)
    }

    /// Decides, once for all callers that ask the same in the same standing: in a rollout, all pods of an app do.
    pub fn decide(
        &self,
        standing: Standing,
        cluster: &str,
        destinations: Arc<[Destination]>,
    ) -> Arc<Settled> {
        let question = Question { standing, cluster: cluster.into(), destinations };
        self.decisions.get_with_by_ref(&question, || {
            let destinations = Arc::clone(&question.destinations);
            let request = digest_of(&destinations);
            let decision = self.policy.decide(standing, cluster, destinations);
            Arc::new(Settled { allowed: allowed_by(&decision), decision, request })
        })
    }
}
