//! A simulated pod: the client's own schedule, its ticket and its connection.

use std::time::Duration;

use podgate_client::{Appointments, RetryPolicy, Schedule};
use podgate_engine::{book::Holder, digest::digest_of, time::Moment};

use crate::{
    simulate::{
        chance::{Delivery, Fate, TicketFile},
        scenario::CALL_TIMEOUT,
        timetable::{CallId, Ticket, later},
    },
    storm::population::VirtualPod,
};

/// A connection is kept through waits of up to this, as the client library keeps it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// A pod.
#[derive(Debug)]
pub(crate) struct SimulatedPod {
    pub(crate) app: u32,
    pub(crate) holder: Holder,
    /// Digest of its uid.
    pub(crate) uid: u64,
    /// Digest of what it asks for.
    pub(crate) request: u64,
    pub(crate) arrival: Moment,
    pub(crate) fate: Fate,
    /// Calls that ended, in all lives.
    pub(crate) calls: u32,
    pub(crate) doing: Doing,
    pub(crate) timer: Timer,
    /// Which of its turns this is.
    pub(crate) turn: u32,
    /// Of the process that runs now.
    pub(crate) schedule: Schedule,
    /// When that began.
    pub(crate) begun: Moment,
    /// The last appointment.
    pub(crate) appointment: Option<Appointment>,
    /// The gateway's process that it is connected to, if any.
    pub(crate) connection: Option<u32>,
    policy: RetryPolicy,
    seed: u64,
    lives: u64,
}

/// A booked turn.
#[derive(Debug)]
pub(crate) struct Appointment {
    pub(crate) ticket: Box<Ticket>,
    pub(crate) due: Moment,
}

/// What a pod is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It has not arrived, or waits for its next call, or for its next life.
    Waiting,
    /// It asks, which it should have done at `due`.
    Asking { due: Moment },
    /// It has asked.
    Asked(Call),
    /// It was told, or gave up, or went away.
    Ended,
}

/// Whether an event is under way that looks whether a call takes too long. One for each pod is enough, because a later call
/// never has an earlier deadline; one for each call would fill the timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// None.
    Off,
    /// One.
    Runs,
}

/// A call that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// When it should have been.
    pub(crate) due: Moment,
    /// When it was.
    pub(crate) sent: Moment,
    /// How long its answer is waited for.
    pub(crate) limit: Duration,
    /// What becomes of it.
    pub(crate) delivery: Delivery,
}

impl Call {
    /// When its answer comes too late.
    pub(crate) fn deadline(&self) -> Moment {
        later(self.sent, self.limit)
    }
}

impl SimulatedPod {
    pub(crate) fn new(pod: &VirtualPod, fate: Fate, policy: RetryPolicy, start: Moment) -> Self {
        let arrival = later(start, pod.arrival);
        Self {
            app: pod.app,
            // As the gateway holds those who prove no uid: by their address.
            holder: Holder::new(u64::from(pod.address.to_bits())),
            uid: digest_of(&pod.uid),
            request: digest_of(&(&pod.uid, pod.address.to_bits())),
            arrival,
            fate,
            calls: 0,
            doing: Doing::Waiting,
            timer: Timer::Off,
            turn: 0,
            schedule: Schedule::new(policy, pod.seed),
            begun: arrival,
            appointment: None,
            connection: None,
            policy,
            seed: pod.seed,
            lives: 0,
        }
    }

    /// Its process starts; returns how long it waits first, for the turn of an earlier life.
    pub(crate) fn begin(&mut self, now: Moment) -> Duration {
        self.schedule = Schedule::new(self.policy, self.seed.wrapping_add(self.lives));
        self.lives += 1;
        self.begun = now;
        match &self.appointment {
            Some(appointment) => self.schedule.resume(appointment.due.since(now)),
            None => Duration::ZERO,
        }
    }

    /// Something new begins; what belongs to the turn before is over.
    pub(crate) fn next_turn(&mut self, pod: u32) -> CallId {
        self.turn += 1;
        CallId { pod, turn: self.turn }
    }

    /// Whether what is said of a turn is said of the present one.
    pub(crate) fn is_at(&self, call: CallId) -> bool {
        self.turn == call.turn && self.doing != Doing::Ended
    }

    /// Time since its process began.
    pub(crate) fn elapsed(&self, now: Moment) -> Duration {
        now.since(self.begun)
    }

    /// What is left of its budget.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.policy.budget.saturating_sub(self.elapsed(now))
    }

    /// How long it waits for an answer.
    pub(crate) fn limit(&self, now: Moment) -> Duration {
        self.left(now).min(CALL_TIMEOUT)
    }

    /// What it tells the gateway that it can wait.
    pub(crate) fn wait_budget(&self, sent: Moment) -> Duration {
        match self.policy.appointments {
            Appointments::Keep => self.left(sent),
            Appointments::Ignore => Duration::ZERO,
        }
    }

    /// The ticket that goes with its calls.
    pub(crate) fn ticket(&self) -> Option<&Ticket> {
        match self.policy.appointments {
            Appointments::Keep => self.appointment.as_ref().map(|appointment| &*appointment.ticket),
            Appointments::Ignore => None,
        }
    }

    /// It waits; for long, without its connection.
    pub(crate) fn wait(&mut self, wait: Duration) {
        self.doing = Doing::Waiting;
        if wait > IDLE_MAX {
            self.connection = None;
        }
    }

    /// Its init container dies.
    pub(crate) fn crash(&mut self, ticket_file: TicketFile) {
        self.doing = Doing::Waiting;
        self.connection = None;
        match ticket_file {
            TicketFile::Kept => {}
            TicketFile::Lost => self.appointment = None,
        }
    }
}
