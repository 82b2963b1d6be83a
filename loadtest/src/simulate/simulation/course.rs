//! The course of a pod: it connects, asks, waits, asks again, and comes to an end.

use std::time::Duration;

use podgate_client::{GiveUp, Next, Setback};
use podgate_engine::time::Moment;

use crate::{
    simulate::{
        chance::{Crash, CrashAt, Delivery, TicketFile},
        gateway::Asked,
        pod::{Appointment, Call, Doing, Timer},
        simulation::{START, Simulation},
        timetable::{Answer, CallId, Event, Freshness, later},
    },
    storm::tally::{Authorized, GaveUp},
};

/// When an init container that died is started again.
const CONTAINER_RESTART: Duration = Duration::from_secs(1);

impl Simulation<'_> {
    /// Sends something on its way, in either direction.
    pub(super) fn travel(&mut self, event: Event, now: Moment) {
        let arrives = later(now, self.network.way());
        self.timetable.at(arrives, event);
    }

    pub(super) fn begin(&mut self, pod: u32, now: Moment) {
        let it = self.pod(pod);
        let wait = it.begin(now);
        let crash = it.fate.crash.take_if(|crash| matches!(crash.at, CrashAt::Asking(_)));
        self.plan(pod, crash, wait, now);
        if wait.is_zero() { self.ask(pod, now) } else { self.wait(pod, wait, now) }
    }

    /// The next call is due.
    pub(super) fn ask(&mut self, pod: u32, now: Moment) {
        let process = self.gateway.process();
        let it = self.pod(pod);
        let call = it.next_turn(pod);
        it.doing = Doing::Asking { due: now };
        // A pod learns at once that the process at the other end has died.
        if it.connection.is_some() && it.connection == process {
            self.send(call, now);
        } else {
            it.connection = None;
            self.travel(Event::Dialled(call), now);
        }
    }

    pub(super) fn dialled(&mut self, call: CallId, now: Moment) {
        let heard = match self.gateway.process() {
            Some(process) => Event::Connected(call, process),
            None => Event::Refused(call),
        };
        self.travel(heard, now);
    }

    pub(super) fn send(&mut self, call: CallId, now: Moment) {
        let delivery = self.network.delivery();
        let it = self.pod(call.pod);
        let Doing::Asking { due } = it.doing else { return };
        let limit = it.limit(now);
        it.doing = Doing::Asked(Call { due, sent: now, limit, delivery });
        self.set_timer(call.pod);
        match delivery {
            Delivery::Both | Delivery::CallOnly => self.travel(Event::Asks(call), now),
            Delivery::Neither => self.toll.calls_lost += 1,
        }
    }

    /// Lets the pod look at its call when that is over.
    fn set_timer(&mut self, pod: u32) {
        let it = &mut self.pods[pod as usize];
        if let (Doing::Asked(call), Timer::Off) = (it.doing, it.timer) {
            it.timer = Timer::Runs;
            self.timetable.at(call.deadline(), Event::TimesOut { pod });
        }
    }

    pub(super) fn time_out(&mut self, pod: u32, now: Moment) {
        let it = self.pod(pod);
        it.timer = Timer::Off;
        match it.doing {
            Doing::Asked(call) if call.deadline() <= now => {
                self.hang_up(pod, now);
                self.unanswered(pod, now);
            }
            // A later call than the one that it was set for.
            Doing::Asked(_) => self.set_timer(pod),
            Doing::Asking { .. } | Doing::Waiting | Doing::Ended => {}
        }
    }

    /// A call has come to the gateway.
    pub(super) fn asked(&mut self, call: CallId, now: Moment) {
        let it = &self.pods[call.pod as usize];
        let Doing::Asked(Call { sent, limit, .. }) = it.doing else { return };
        if it.connection != self.gateway.process() {
            self.travel(Event::Reset(call), now);
            return;
        }
        let asked = Asked {
            call,
            app: it.app,
            holder: it.holder,
            uid: it.uid,
            request: it.request,
            answer_within: limit.saturating_sub(now.since(sent)),
            wait_budget: it.wait_budget(sent),
            ticket: it.ticket(),
        };
        if let Some(answer) = self.gateway.ask(&asked, now, &mut self.timetable) {
            self.answer(call, answer, now);
        }
    }

    /// The gateway answers, if anybody hears it.
    pub(super) fn answer(&mut self, call: CallId, answer: Answer, now: Moment) {
        let it = self.pod(call.pod);
        let delivery = match it.doing {
            Doing::Asked(Call { delivery, .. }) if it.is_at(call) => delivery,
            Doing::Asked(_) | Doing::Asking { .. } | Doing::Waiting | Doing::Ended => return,
        };
        match delivery {
            Delivery::Both => self.travel(Event::Answered(call, answer), now),
            Delivery::CallOnly | Delivery::Neither => self.toll.calls_lost += 1,
        }
    }

    pub(super) fn answered(&mut self, pod: u32, answer: Answer, now: Moment) {
        let Some(Call { sent, .. }) = self.count(pod, now) else { return };
        let since_sent = now.since(sent);
        match answer {
            Answer::Granted(freshness) => self.authorized(pod, freshness, now),
            Answer::Deferred { delay, ticket } => {
                // Counted from the sending, so that the way of the answer makes nobody late.
                self.pod(pod).appointment = Some(Appointment { ticket, due: later(sent, delay) });
                self.set_back(pod, Setback::Deferred(delay.saturating_sub(since_sent)), now);
            }
            Answer::PushedBack(delay) => self.set_back(pod, Setback::Pushback(delay), now),
        }
    }

    /// A call ended without an answer, and the connection with it.
    pub(super) fn unanswered(&mut self, pod: u32, now: Moment) {
        // One that has not been sent yet has nothing to lose but its connection, of which it does not know.
        if self.count(pod, now).is_some() {
            self.pod(pod).connection = None;
            self.set_back(pod, Setback::Silent, now);
        }
    }

    /// Counts the call that has just ended.
    fn count(&mut self, pod: u32, now: Moment) -> Option<Call> {
        let it = self.pod(pod);
        let Doing::Asked(call) = it.doing else { return None };
        it.calls += 1;
        self.tally.called(now.since(START), now.since(call.due));
        Some(call)
    }

    pub(super) fn set_back(&mut self, pod: u32, setback: Setback, now: Moment) {
        let it = self.pod(pod);
        let elapsed = it.elapsed(now);
        match it.schedule.failed(setback, elapsed) {
            Next::Call { after, .. } => self.wait(pod, after, now),
            Next::GiveUp(bound) => self.gave_up(pod, setback, bound),
        }
    }

    fn wait(&mut self, pod: u32, wait: Duration, now: Moment) {
        let pace = self.pod(pod).fate.pace;
        let tardiness = self.network.tardiness(pace);
        let it = self.pod(pod);
        let call = it.next_turn(pod);
        it.wait(wait);
        let crash = it.fate.crash.take_if(|crash| matches!(crash.at, CrashAt::Waiting(_)));
        self.timetable.at(later(now, wait + tardiness), Event::Wakes(call));
        self.plan(pod, crash, wait, now);
    }

    /// Lets the init container die when it should.
    fn plan(&mut self, pod: u32, crash: Option<Crash>, wait: Duration, now: Moment) {
        let Some(Crash { at, ticket_file }) = crash else { return };
        let after = match at {
            CrashAt::Asking(after) => after,
            CrashAt::Waiting(thousandths) => wait * thousandths / 1_000,
        };
        self.timetable.at(later(now, after), Event::Crashes { pod, ticket_file });
    }

    fn authorized(&mut self, pod: u32, freshness: Freshness, now: Moment) {
        let it = self.pod(pod);
        it.doing = Doing::Ended;
        let (app, calls, waited) = (it.app, it.calls, now.since(it.arrival));
        self.undecided -= 1;
        self.tally.repeated += u32::from(freshness == Freshness::Repeated);
        let authorized = Authorized { at: now.since(START), waited, admission: None, grant_id: None };
        self.tally.authorized(app, calls, authorized);
    }

    fn gave_up(&mut self, pod: u32, setback: Setback, bound: GiveUp) {
        let it = self.pod(pod);
        it.doing = Doing::Ended;
        let calls = it.calls;
        self.undecided -= 1;
        let (is_out_of_budget, reason) = match bound {
            GiveUp::Budget => (true, "its budget ended"),
            GiveUp::TurnBeyondBudget => (true, "its turn lies beyond its budget"),
            GiveUp::Attempts => (false, "it has asked as often as it may without the gateway's word"),
            GiveUp::Calls => (false, "it has asked as often as it may"),
        };
        self.toll.out_of_budget += u32::from(is_out_of_budget);
        let why = match setback {
            Setback::Deferred(_) | Setback::Pushback(_) => GaveUp::Throttled,
            Setback::Silent | Setback::Unreached => GaveUp::Unavailable,
        };
        self.tally.gave_up(why, reason, calls);
    }

    /// A pod goes away for ever, if it is still there.
    pub(super) fn vanish(&mut self, pod: u32, now: Moment) {
        if self.pod(pod).doing == Doing::Ended {
            return;
        }
        self.hang_up(pod, now);
        let it = self.pod(pod);
        it.doing = Doing::Ended;
        let app = it.app;
        self.stayed[app as usize] -= 1;
        self.undecided -= 1;
        self.toll.no_shows += 1;
    }

    /// The init container of a pod dies, if it is still at work, and is started again.
    pub(super) fn crash(&mut self, pod: u32, ticket_file: TicketFile, now: Moment) {
        if self.pod(pod).doing == Doing::Ended {
            return;
        }
        self.hang_up(pod, now);
        let it = self.pod(pod);
        it.crash(ticket_file);
        let life = it.next_turn(pod);
        self.toll.crashes += 1;
        self.timetable.at(later(now, CONTAINER_RESTART), Event::Begins(life));
    }

    /// A pod ends its connection, with the call in it if there is one.
    fn hang_up(&mut self, pod: u32, now: Moment) {
        let turn = self.pod(pod).turn;
        match self.pod(pod).doing {
            Doing::Asked(_) => self.travel(Event::Leaves(CallId { pod, turn }), now),
            Doing::Asking { .. } | Doing::Waiting | Doing::Ended => {}
        }
    }
}
