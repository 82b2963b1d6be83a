//! One request under way: since when, with which ticket, and how it ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Appointment, Appointments, CallError, Denial, Ended, Endpoint, Failure, FailureKind, GiveUp, Granted,
    RetryPolicy, Schedule, Setback, Ticket,
    wire::{Access, Refusal, Terms},
};

/// What is remembered from call to call.
pub(crate) struct Course {
    started: Instant,
    policy: RetryPolicy,
    /// That of the last deferral. It goes with every later call, whatever became of those between: the turn stays ours.
    ticket: Option<Ticket>,
    pub(crate) schedule: Schedule,
}

/// How to dial a gateway that is not reached.
#[derive(Clone, Copy)]
pub(crate) enum Dialing {
    /// Quickly at first, as a pod that starts does.
    OfAStart,
    /// At the policy's pace from the first time.
    Patient,
}

/// A call that brought no decision.
pub(crate) enum Undecided {
    /// A turn is booked, `delay` after the call was sent.
    Deferred {
        sent: Instant,
        delay: Duration,
    },
    Failed(Failure),
}

impl Course {
    pub(crate) fn new(policy: RetryPolicy, dialing: Dialing, seed: u64) -> Self {
        let schedule = match dialing {
            Dialing::OfAStart => Schedule::new(policy, seed),
            Dialing::Patient => Schedule::patient(policy, seed),
        };
        Self { started: Instant::now(), policy, ticket: None, schedule }
    }

    /// Takes up the appointment of an earlier life, and tells how long to wait for it.
    pub(crate) fn resume(&mut self, appointment: Appointment) -> Duration {
        self.keep(appointment.ticket);
        self.schedule.resume(appointment.due_in)
    }

    /// Keeps the ticket in place of any earlier one.
    pub(crate) fn keep(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// What the gateway is told of us with the call that comes next.
    pub(crate) fn terms(&self) -> Terms<'_> {
        match self.policy.appointments {
            Appointments::Keep => Terms::Keeps { wait_budget: self.left(), ticket: self.ticket.as_ref() },
            Appointments::Ignore => Terms::Ignores,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is left of the budget.
    pub(crate) fn left(&self) -> Duration {
        self.policy.budget.saturating_sub(self.elapsed())
    }

    /// What the schedule makes of it; the error where nothing can follow.
    pub(crate) fn setback(&mut self, undecided: &Undecided) -> Result<Setback, CallError> {
        let failure = match undecided {
            // Counted from the sending, so that the way of the answer and what was done since makes nobody late.
            Undecided::Deferred { sent, delay } => {
                return Ok(Setback::Deferred(delay.saturating_sub(sent.elapsed())));
            }
            Undecided::Failed(failure) => failure,
        };
        match (failure.kind, failure.retry_after) {
            (FailureKind::Unauthenticated, _) => {
                self.schedule.answered();
                Err(CallError::Unauthenticated(self.ended(failure.reason.clone(), None)))
            }
            (FailureKind::Superseded, _) => {
                self.schedule.answered();
                Err(CallError::Superseded(self.ended(failure.reason.clone(), None)))
            }
            (FailureKind::Misconfigured, _) => {
                self.schedule.answered();
                Err(CallError::Misconfigured(self.ended(failure.reason.clone(), None)))
            }
            (FailureKind::Unreached, _) => Ok(Setback::Unreached),
            (FailureKind::Unavailable | FailureKind::Throttled, Some(told)) => Ok(Setback::Pushback(told)),
            (FailureKind::Unavailable | FailureKind::Throttled, None) => Ok(Setback::Silent),
        }
    }

    pub(crate) fn granted(&mut self, access: Access, endpoint: Endpoint) -> Granted {
        self.schedule.answered();
        let Access { decisions, lease, admitted_at_ns, origin, shadow, policy_revision } = access;
        let (calls, attempts) = (self.schedule.calls(), self.schedule.attempts());
        let elapsed = self.elapsed();
        Granted {
            decisions,
            lease,
            admitted_at_ns,
            origin,
            shadow,
            policy_revision,
            endpoint,
            calls,
            attempts,
            elapsed,
        }
    }

    pub(crate) fn denied(&mut self, refusal: Refusal) -> Denial {
        self.schedule.answered();
        let Refusal { decisions, reason, explanation, policy_revision } = refusal;
        let (calls, elapsed) = (self.schedule.calls(), self.elapsed());
        Denial { decisions, reason, explanation, policy_revision, calls, elapsed }
    }

    pub(crate) fn ended(&self, reason: String, bound: Option<GiveUp>) -> Ended {
        Ended { reason, calls: self.schedule.calls(), elapsed: self.elapsed(), bound }
    }

    pub(crate) fn gave_up(&self, undecided: Undecided, bound: GiveUp) -> CallError {
        let failure = match undecided {
            Undecided::Deferred { delay, .. } => {
                let reason = format!("a turn is booked in {:.1} s", delay.as_secs_f64());
                return CallError::Throttled(self.ended(reason, Some(bound)));
            }
            Undecided::Failed(failure) => failure,
        };
        let ended = self.ended(failure.reason, Some(bound));
        match failure.kind {
            FailureKind::Throttled => CallError::Throttled(ended),
            FailureKind::Unreached | FailureKind::Unavailable => CallError::Unavailable(ended),
            FailureKind::Unauthenticated => CallError::Unauthenticated(ended),
            FailureKind::Superseded => CallError::Superseded(ended),
            FailureKind::Misconfigured => CallError::Misconfigured(ended),
        }
    }
}
