//! A policy in force: the compiled set, a bucket for each app, and the decisions made under it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use podgate_engine::{
    bucket::Bucket,
    decision::Decision,
    destination::Destination,
    digest::digest_of,
    grant::{Allowed, allowed_by},
    policy::{AppIndex, PolicySet, Standing},
    time::Moment,
};
use rustc_hash::FxHashMap;

use crate::{config::values::Defaults, gate::policies::History};

/// Destinations in all cached decisions together.
const CACHED_DESTINATIONS_MAX: u64 = 200_000;

/// A policy in force. Replaced as a whole; the buckets live on.
#[derive(Debug)]
pub struct InForce {
    policy: PolicySet,
    buckets: Box<[Arc<Mutex<Bucket>>]>,
    departed: FxHashMap<Arc<str>, Arc<Mutex<Bucket>>>,
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
    /// Puts `policy` in force after `before`, whose buckets go on.
    pub fn new(
        policy: PolicySet,
        before: Option<&Self>,
        defaults: Defaults,
        history: History,
        now: Moment,
    ) -> Self {
        let buckets = policy
            .profiles()
            .iter()
            .map(|profile| {
                let quota = profile.document.limits.quota(defaults.quota);
                match before.and_then(|before| before.bucket_of(profile.document.name.as_str())) {
                    Some(bucket) => {
                        bucket.lock().unwrap_or_else(PoisonError::into_inner).set_quota(quota, now);
                        Arc::clone(bucket)
                    }
                    None => Arc::new(Mutex::new(match history {
                        History::None => Bucket::full(quota, now),
                        History::Unknown => Bucket::drained(quota, now),
                    })),
                }
            })
            .collect();
        let departed = before.map(|before| before.departing(&policy, now)).unwrap_or_default();
        let decisions = Cache::builder()
            .max_capacity(CACHED_DESTINATIONS_MAX)
            .weigher(|_, settled: &Arc<Settled>| settled.decision.destinations.len() as u32 + 1)
            .build();
        Self { policy, buckets, departed, decisions, defaults }
    }

    fn bucket_of(&self, app: &str) -> Option<&Arc<Mutex<Bucket>>> {
        self.policy.find(app).map(|app| self.bucket(app)).or_else(|| self.departed.get(app))
    }

    /// The buckets of apps that `next` does not have, until they are full again: an app that is deleted and applied
    /// again, or whose file is moved, must not come back with a new burst.
    fn departing(&self, next: &PolicySet, now: Moment) -> FxHashMap<Arc<str>, Arc<Mutex<Bucket>>> {
        let is_spent = |bucket: &Mutex<Bucket>| {
            let bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.available(now) < bucket.quota().burst.get()
        };
        let here = self.policy.profiles().iter().map(|profile| profile.document.name.shared());
        let here = here.zip(self.buckets.iter().cloned());
        let gone = self.departed.iter().map(|(name, bucket)| (Arc::clone(name), Arc::clone(bucket)));
        here.chain(gone).filter(|(name, bucket)| next.find(name).is_none() && is_spent(bucket)).collect()
    }

    /// The compiled policy.
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// An app's bucket.
    pub fn bucket(&self, app: AppIndex) -> &Arc<Mutex<Bucket>> {
        &self.buckets[app.0 as usize]
    }

    /// How long a grant of an app may live.
    pub fn max_age(&self, app: AppIndex) -> Duration {
        self.policy.profile(app).document.lease.max_age.unwrap_or(self.defaults.max_age)
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
