//! How long to keep trying, and at what pace.

use std::{num::NonZeroU32, time::Duration};

/// The bounds within which a client keeps trying. All of them hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// When to call again without the server's word.
    pub pace: Pace,
    /// What the server's word counts for.
    pub appointments: Appointments,
    /// Most calls made without the server's word, the first one among them; none: unbounded.
    /// A call at the time that the server ordered is not one of them.
    pub attempts_max: Option<NonZeroU32>,
    /// Most calls in all.
    pub calls_max: NonZeroU32,
    /// Time for everything together, waits and calls. No call begins and none goes on beyond it.
    pub budget: Duration,
}

/// What the server's word counts for: a booked turn, or a delay that it orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Appointments {
    /// Comes when the server says, with the ticket of the turn that was booked; tells the server so.
    #[default]
    Keep,
    /// Comes at its own pace, whatever the server says, and tells the server so, which then books nothing. For load
    /// tests: it shows what the appointments are good for.
    Ignore,
}

/// When to call again without the server's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// After a delay drawn evenly from nothing to `base`·2ⁿ, at most `cap`, where n counts the failures so far from
    /// zero.
    FullJitter {
        /// Ceiling of the first delay.
        base: Duration,
        /// Ceiling of any delay.
        cap: Duration,
    },
    /// At once. For load tests: it is what a storm should not do.
    Immediate,
}

impl Default for RetryPolicy {
    /// Appointments are kept; else full jitter (1 s, 30 s), 5 attempts, 16 calls, 9 minutes.
    fn default() -> Self {
        const FIVE: NonZeroU32 = NonZeroU32::new(5).unwrap();
        const SIXTEEN: NonZeroU32 = NonZeroU32::new(16).unwrap();
        Self {
            pace: Pace::FullJitter { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
            appointments: Appointments::Keep,
            attempts_max: Some(FIVE),
            calls_max: SIXTEEN,
            budget: Duration::from_mins(9),
        }
    }
}
