//! The flags that say when a pod that was not admitted asks again; `storm` and `simulate` have them alike.

use std::{num::NonZeroU32, time::Duration};

use clap::{Args, ValueEnum};
use podgate_client::{Appointments, Pace, RetryPolicy};

use crate::quantity::parse_duration;

/// When a pod asks again.
#[derive(Debug, Clone, Copy, Args)]
pub struct RetryArgs {
    /// When a pod that was not admitted asks again.
    #[arg(long, value_enum, default_value_t = Policy::Booked)]
    pub policy: Policy,
    /// Bound of the first wait that the client chooses itself; it doubles with each try.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = parse_duration)]
    pub base: Duration,
    /// Bound of every wait that the client chooses itself.
    #[arg(long, value_name = "D", default_value = "30s", value_parser = parse_duration)]
    pub cap: Duration,
    /// Tries without the server's word before a pod gives up. 0: no bound, and none on the calls in all, which are
    /// otherwise at most 16.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub attempts: u32,
}

impl RetryArgs {
    /// What the client library is told. `--attempts 0` lifts the bound on the calls in all too.
    pub fn within(&self, budget: Duration) -> RetryPolicy {
        let guess = Pace::FullJitter { base: self.base, cap: self.cap };
        let (pace, appointments) = match self.policy {
            Policy::Booked => (guess, Appointments::Keep),
            Policy::Jitter => (guess, Appointments::Ignore),
            Policy::Immediate => (Pace::Immediate, Appointments::Ignore),
        };
        let attempts_max = NonZeroU32::new(self.attempts);
        let calls_max =
            attempts_max.map_or(NonZeroU32::MAX, |attempts| attempts.max(RetryPolicy::default().calls_max));
        RetryPolicy { pace, appointments, attempts_max, calls_max, budget }
    }
}

/// When a pod that was not admitted asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// When its turn is booked: the client's default.
    Booked,
    /// Full jitter, deaf to what the server says: it has nothing booked.
    Jitter,
    /// At once, deaf as well.
    Immediate,
}

impl Policy {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Jitter => "jitter",
            Self::Immediate => "immediate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::StormArgs;

    fn policy(line: &str) -> RetryPolicy {
        let args = StormArgs::of(line);
        args.retry.within(args.budget())
    }

    #[test]
    fn only_the_clients_own_policy_keeps_appointments() {
        assert_eq!(policy(""), RetryPolicy::default());
        let jitter = policy("--policy jitter --attempts 0");
        assert_eq!((jitter.pace, jitter.appointments), (RetryPolicy::default().pace, Appointments::Ignore));
        assert_eq!((jitter.attempts_max, jitter.calls_max), (None, NonZeroU32::MAX));
        let immediate = policy("--policy immediate --attempts 20");
        assert_eq!((immediate.pace, immediate.appointments), (Pace::Immediate, Appointments::Ignore));
        assert_eq!(immediate.calls_max.get(), 20);
    }
}
