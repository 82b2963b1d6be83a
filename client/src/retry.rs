//! How long to keep trying, and at what pace.

use std::{num::NonZeroU32, time::Duration};

/// The bounds within which a client keeps trying. All of them hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// When to call again.
    pub pace: Pace,
    /// Most calls made without the server's word, the first one among them; none: unbounded.
    /// A call at the time that the server ordered is not one of them.
    pub attempts_max: Option<NonZeroU32>,
    /// Most calls in all.
    pub calls_max: NonZeroU32,
    /// Time for everything together, waits and calls. No call begins and none goes on beyond it.
    pub budget: Duration,
}

/// When to call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When the server says so; without its word after a delay drawn evenly from nothing to `base`·2ⁿ, at most `cap`,
    /// where n counts the failures so far from zero.
    FullJitter {
        /// Ceiling of the first delay.
        base: Duration,
        /// Ceiling of any delay.
        cap: Duration,
    },
    /// At once, whatever the server says. For load tests: it is what a storm should not do.
    Immediate,
}

impl Default for RetryPolicy {
    /// Full jitter (1 s, 30 s), 5 attempts, 16 calls, 9 minutes.
    fn default() -> Self {
        const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();
        const SIXTEEN: NonZeroU32 = NonZeroU32::new(16).unwrap();
        Self {
            pace: Pace::FullJitter { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
            attempts_max: Some(FIVE),
            calls_max: SIXTEEN,
            budget: Duration::from_mins(9),
        }
    }
}
