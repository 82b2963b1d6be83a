//! When to call again, and when to stop: pure, seeded, without a clock.

use std::time::Duration;

use crate::{Appointments, Pace, RetryPolicy, jitter::Jitter};

/// A pod's network may carry no traffic yet while it starts, and a dial that reaches nobody costs nobody anything: in
/// this first while it is repeated quickly.
const UNREACHED_QUICK: Duration = Duration::from_secs(30);
/// Shortest and longest delay between two dials in that while; the shortest holds ever after.
const UNREACHED_DELAY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// The course of one request, such as [`Client::authorize`](crate::Client::authorize).
///
/// It counts the calls and draws the delays; whoever drives it makes the calls and reads the clock.
#[derive(Clone, Debug)]
pub struct Schedule {
    policy: RetryPolicy,
    /// Until when dials are repeated quickly.
    quick_until: Duration,
    jitter: Jitter,
    calls: u32,
    attempts: u32,
    /// Dials in a row that reached nobody, after the first quick ones.
    slow_dials: u32,
    /// On whose word the call that comes next is made.
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Own,
    Server,
}

/// How a call failed, as far as the schedule cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// No connection came about. The gateway has not seen us, so this counts as no call; what bounds it is the
    /// budget, and a tenth of a second between two of them.
    Unreached,
    /// The call failed, and the gateway did not say when to come back.
    Silent,
    /// The gateway said when to come back.
    Pushback(Duration),
    /// The gateway booked a turn, due so long from now.
    Deferred(Duration),
}

/// What to do after a setback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Call again.
    Call {
        /// When, counted from now.
        after: Duration,
        /// On whose word.
        why: Why,
    },
    /// Stop.
    GiveUp(GiveUp),
}

/// On whose word a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody was reached; the delay is our own guess.
    Unreached,
    /// The gateway did not say when; the delay is our own guess.
    OwnGuess,
    /// The gateway said when.
    Pushback,
    /// The gateway booked a turn for then.
    Appointment,
}

/// The bound that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// The next call would lie beyond the budget.
    Budget,
    /// The gateway wants to be called only after the end of the budget, or booked a turn there.
    TurnBeyondBudget,
    /// As many calls as allowed were made without the server's word.
    Attempts,
    /// As many calls as allowed were made in all.
    Calls,
}

impl Schedule {
    /// A schedule before its first call, which is due at once. Equal seeds draw equal delays.
    pub fn new(policy: RetryPolicy, seed: u64) -> Self {
        Self {
            policy,
            quick_until: UNREACHED_QUICK,
            jitter: Jitter::new(seed),
            calls: 0,
            attempts: 0,
            slow_dials: 0,
            cause: Cause::Own,
        }
    }

    /// The same for whoever has been up for long: its network is there, so that a gateway which is not reached is
    /// dialed at the policy's pace from the first time.
    pub fn patient(policy: RetryPolicy, seed: u64) -> Self {
        Self { quick_until: Duration::ZERO, ..Self::new(policy, seed) }
    }

    /// Takes up an appointment from an earlier life, due so long from now: the delay before the first call, which is
    /// then made on the server's word. One that lies beyond the budget is not waited for, nor is any where the policy
    /// ignores them: the first call is due at once, as a guess of our own.
    pub fn resume(&mut self, due_in: Duration) -> Duration {
        match self.policy.appointments {
            Appointments::Keep if due_in < self.policy.budget => {
                self.cause = Cause::Server;
                due_in
            }
            Appointments::Keep | Appointments::Ignore => Duration::ZERO,
        }
    }

    /// Calls that ended so far.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// How many of them were made without the server's word.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of attempts with the call that comes next.
    pub fn attempt(&self) -> u32 {
        match self.cause {
            Cause::Own => self.attempts.saturating_add(1),
            Cause::Server => self.attempts,
        }
    }

    /// Counts a call that ended with an answer, which ends the schedule.
    pub fn answered(&mut self) {
        self.count();
    }

    /// What follows a setback at `elapsed` since the start.
    pub fn failed(&mut self, setback: Setback, elapsed: Duration) -> Next {
        let (after, why) = match self.heard(setback) {
            Setback::Unreached => (self.redial_after(elapsed), Why::Unreached),
            Setback::Silent => {
                self.count();
                self.cause = Cause::Own;
                (self.own_guess(), Why::OwnGuess)
            }
            Setback::Pushback(told) => {
                self.count();
                self.cause = Cause::Server;
                (told, Why::Pushback)
            }
            Setback::Deferred(due_in) => {
                self.count();
                self.cause = Cause::Server;
                (due_in, Why::Appointment)
            }
        };
        match self.bound(after, elapsed, why) {
            Some(bound) => Next::GiveUp(bound),
            None => Next::Call { after, why },
        }
    }

    /// The setback as the policy has it: one that ignores appointments hears nothing of what the server says.
    fn heard(&self, setback: Setback) -> Setback {
        match (self.policy.appointments, setback) {
            (Appointments::Ignore, Setback::Pushback(_) | Setback::Deferred(_)) => Setback::Silent,
            (Appointments::Keep | Appointments::Ignore, setback) => setback,
        }
    }

    fn count(&mut self) {
        self.slow_dials = 0;
        self.calls = self.calls.saturating_add(1);
        if self.cause == Cause::Own {
            self.attempts = self.attempts.saturating_add(1);
        }
    }

    fn bound(&self, after: Duration, elapsed: Duration, why: Why) -> Option<GiveUp> {
        let in_budget = elapsed.checked_add(after).is_some_and(|at| at < self.policy.budget);
        if self.calls >= self.policy.calls_max.get() {
            Some(GiveUp::Calls)
        } else if self.cause == Cause::Own
            && self.policy.attempts_max.is_some_and(|max| self.attempts >= max.get())
        {
            Some(GiveUp::Attempts)
        } else if in_budget {
            None
        } else {
            Some(match why {
                Why::Pushback | Why::Appointment => GiveUp::TurnBeyondBudget,
                Why::Unreached | Why::OwnGuess => GiveUp::Budget,
            })
        }
    }

    fn own_guess(&mut self) -> Duration {
        let failures = self.attempts.saturating_sub(1);
        match self.policy.pace {
            Pace::FullJitter { base, cap } => {
                self.jitter.between(Duration::ZERO, ceiling(base, cap, failures))
            }
            Pace::Immediate => Duration::ZERO,
        }
    }

    fn redial_after(&mut self, elapsed: Duration) -> Duration {
        let (shortest, longest) = UNREACHED_DELAY;
        match self.policy.pace {
            Pace::FullJitter { .. } if elapsed < self.quick_until => self.jitter.between(shortest, longest),
            Pace::FullJitter { base, cap } => {
                let ceiling = ceiling(base, cap, self.slow_dials);
                self.slow_dials = self.slow_dials.saturating_add(1);
                self.jitter.between(Duration::ZERO, ceiling).max(shortest)
            }
            Pace::Immediate => shortest,
        }
    }
}

/// `base`·2ⁿ, at most `cap`.
fn ceiling(base: Duration, cap: Duration, n: u32) -> Duration {
    1u32.checked_shl(n).map_or(cap, |factor| base.saturating_mul(factor)).min(cap)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
