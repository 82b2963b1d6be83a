//! The limits that Envoys ask about, shared by all workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podgate_engine::{
    rate_limiter::{Asked, Decided, RateLimiter},
    rate_limits::RateLimits,
};

use crate::clock;

/// The limits in force. One lock for all: a call spends in several buckets, or in none, and under it nothing waits.
#[derive(Debug, Default)]
pub struct Rates(Mutex<RateLimiter>);

impl Rates {
    /// Puts documents in force.
    pub fn set<'a>(&self, documents: impl IntoIterator<Item = &'a Arc<RateLimits>>) {
        self.state().set(documents, clock::now());
    }

    /// Decides about all descriptors of a call together.
    pub fn decide(&self, domain: &str, asked: &[Asked<'_>]) -> Decided {
        self.state().decide(domain, asked, clock::now())
    }

    /// Forgets the buckets of values that are as good as new.
    pub fn sweep(&self) {
        self.state().sweep(clock::now());
    }

    /// Buckets of values now, and how often values found no bucket of their own.
    pub fn usage(&self) -> (usize, u64) {
        self.state().usage()
    }

    fn state(&self) -> MutexGuard<'_, RateLimiter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
