//! When to renew a lease, and what follows where that fails: pure, seeded, without a clock.

use std::time::Duration;

use crate::jitter::Jitter;

/// Shortest time from a lease to its renewal, whatever the gateway says: nobody renews in a loop.
const RENEW_AFTER_MIN: Duration = Duration::from_secs(1);
/// Ceilings of the delay after the first silence, and after any. Half of a delay is certain, so that a round of calls that
/// failed is not followed by the next one at once.
const SILENCE_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Longest time after which who was denied asks again: the profile may have changed.
const DENIED_DELAY: Duration = Duration::from_mins(5);
/// Longest time after which who holds nothing that is renewed asks again: what needs no grant today may need one
/// tomorrow. Such a question costs no token.
const UNRENEWED_DELAY: Duration = Duration::from_hours(1);

/// What to do for a lease as long as its holder lives.
///
/// Whoever drives it makes the calls, reads the clock, and tells what came of them. That a lease is over is the gateway's
/// word alone: clocks differ and jump, and a gateway that comes back may renew what has run out meanwhile. So silence is
/// answered with one more renewal, however long it lasts, and only [`News::Gone`] with a new request.
#[derive(Clone, Debug)]
pub struct RenewalSchedule {
    jitter: Jitter,
    state: State,
    /// Rounds of calls in a row that brought no answer.
    silences: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Holds a lease, which can be renewed.
    Holds,
    /// Has to ask.
    Asks,
    /// Another pod has the address.
    Superseded,
}

/// What is known of the lease since the last call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was given or renewed, and is to be renewed so long after the answer came.
    Leased {
        /// As the gateway has it ([`Lease::renew_after`](crate::Lease::renew_after)).
        renew_after: Duration,
    },
    /// Access was given that is not to be renewed.
    Unrenewed,
    /// No gateway answered.
    Silence,
    /// The gateway decided against it.
    Denied,
    /// The lease is over.
    Gone,
    /// Another pod has the address.
    Superseded,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Renew the lease.
    Renew {
        /// When, counted from the news.
        after: Duration,
    },
    /// Ask for access anew, which books a turn as any other request does.
    Authorize {
        /// When, counted from the news.
        after: Duration,
    },
    /// Ask for nothing more.
    Stop,
}

impl RenewalSchedule {
    /// A schedule before the first news. Equal seeds draw equal delays.
    pub fn new(seed: u64) -> Self {
        Self { jitter: Jitter::new(seed), state: State::Asks, silences: 0 }
    }

    /// What follows the news.
    pub fn heard(&mut self, news: News) -> Duty {
        if self.state == State::Superseded {
            return Duty::Stop;
        }
        let after = match news {
            News::Leased { renew_after } => {
                self.settled(State::Holds);
                renew_after.max(RENEW_AFTER_MIN)
            }
            News::Unrenewed => {
                self.settled(State::Asks);
                self.upper_half(UNRENEWED_DELAY)
            }
            News::Silence => {
                let (first, longest) = SILENCE_DELAY;
                let ceiling = 1u32.checked_shl(self.silences).map_or(longest, |factor| first * factor);
                self.silences = self.silences.saturating_add(1);
                self.upper_half(ceiling.min(longest))
            }
            News::Denied => {
                self.settled(State::Asks);
                self.upper_half(DENIED_DELAY)
            }
            News::Gone => {
                self.settled(State::Asks);
                Duration::ZERO
            }
            News::Superseded => {
                self.settled(State::Superseded);
                return Duty::Stop;
            }
        };
        match self.state {
            State::Holds => Duty::Renew { after },
            State::Asks => Duty::Authorize { after },
            State::Superseded => Duty::Stop,
        }
    }

    fn settled(&mut self, state: State) {
        self.state = state;
        self.silences = 0;
    }

    fn upper_half(&mut self, ceiling: Duration) -> Duration {
        self.jitter.between(ceiling / 2, ceiling)
    }
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
