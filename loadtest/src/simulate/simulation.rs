//! One simulation: pods, network and gateway, event by event, without a clock.

use std::time::Duration;

use podgate_client::{GiveUp, Next, Setback};
use podgate_engine::time::Moment;

use crate::{
    simulate::{
        chance::{Crash, CrashAt, Delivery, Fates, Network, TicketFile, outages},
        gateway::{Asked, Gateway},
        pod::{Appointment, Call, Doing, SimulatedPod},
        scenario::Scenario,
        timetable::{Answer, CallId, Event, Freshness, Timetable, later},
    },
    storm::{
        population::population,
        tally::{Authorized, BootClock, GaveUp, Tally},
    },
};

/// Most events of a simulation: some minutes' worth.
const EVENTS_MAX: u64 = 300_000_000;
/// The start of the storm.
const START: Moment = Moment::from_nanos(0);
/// How long the gateway is away when it dies.
const OUTAGE: Duration = Duration::from_millis(500);
/// The time between two outages, at least.
const OUTAGES_APART: Duration = Duration::from_secs(1);
/// Between two looks for books that are over.
const SWEEP: Duration = Duration::from_secs(5);
/// When an init container that died is started again.
const CONTAINER_RESTART: Duration = Duration::from_secs(1);

/// More events than are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {EVENTS_MAX} events, and no end: these pods ask too often; give them --attempts, a shorter --budget, or \
     another --policy"
)]
pub struct TooManyEvents;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Simulation<'a> {
    timetable: Timetable,
    network: Network,
    pub(crate) gateway: Gateway<'a>,
    pods: Vec<SimulatedPod>,
    undecided: u32,
    pub(crate) tally: Tally,
    pub(crate) mishaps: Mishappened,
    /// Pods of each app that did not go away.
    pub(crate) stayed: Vec<u32>,
}

/// What went wrong, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mishappened {
    pub(crate) no_shows: u32,
    pub(crate) crashes: u32,
    pub(crate) calls_lost: u32,
    /// Pods that gave up because their budget was at its end.
    pub(crate) out_of_budget: u32,
}

impl<'a> Simulation<'a> {
    /// Simulates a storm to the end of its last pod.
    pub(crate) fn run(scenario: &'a Scenario, seed: u64) -> Result<Self, TooManyEvents> {
        let mut simulation = Self::new(scenario, seed);
        while simulation.undecided > 0
            && let Some((now, event)) = simulation.timetable.next()
        {
            if simulation.timetable.scheduled() > EVENTS_MAX {
                return Err(TooManyEvents);
            }
            simulation.happen(event, now);
        }
        Ok(simulation)
    }

    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut fates = Fates::new(seed, scenario.mishaps);
        let drawn = population(scenario.pods, scenario.apps, scenario.spread, seed);
        let pods: Vec<SimulatedPod> =
            drawn.iter().map(|pod| SimulatedPod::new(pod, fates.draw(), scenario.retry, START)).collect();
        let mut stayed = vec![0; scenario.apps as usize];
        let mut timetable = Timetable::default();
        for (index, pod) in pods.iter().enumerate() {
            let index = index as u32;
            stayed[pod.app as usize] += 1;
            timetable.at(pod.arrival, Event::Begins(CallId { pod: index, turn: 0 }));
            if let Some(after) = pod.fate.vanishes_after {
                timetable.at(later(pod.arrival, after), Event::Vanishes { pod: index });
            }
        }
        let lasts = Duration::from_secs_f64(scenario.optimum_s(&stayed, Duration::ZERO));
        let mut free_from = Duration::ZERO;
        for outage in outages(seed, scenario.restarts, lasts) {
            let stops = outage.max(free_from);
            timetable.at(later(START, stops), Event::Stops);
            timetable.at(later(START, stops + OUTAGE), Event::Starts);
            free_from = stops + OUTAGE + OUTAGES_APART;
        }
        timetable.at(later(START, SWEEP), Event::Sweeps);
        Self {
            timetable,
            network: Network::new(seed, scenario.latency, scenario.mishaps.loss),
            gateway: Gateway::new(scenario, seed, START),
            undecided: scenario.pods.get(),
            pods,
            // The admissions are the gateway's to tell, which knows those that nobody heard of, too.
            tally: Tally::new(scenario.apps, BootClock::Foreign, None),
            mishaps: Mishappened::default(),
            stayed,
        }
    }

    fn pod(&mut self, pod: u32) -> &mut SimulatedPod {
        &mut self.pods[pod as usize]
    }

    fn happen(&mut self, event: Event, now: Moment) {
        match event {
            Event::Begins(call) if self.pod(call.pod).is_at(call) => self.begin(call.pod, now),
            Event::Wakes(call) if self.pod(call.pod).is_at(call) => self.ask(call.pod, now),
            Event::Connected(call, process) if self.pod(call.pod).is_at(call) => {
                self.pod(call.pod).connection = Some(process);
                self.send(call, now);
            }
            Event::Refused(call) if self.pod(call.pod).is_at(call) => {
                self.set_back(call.pod, Setback::Unreached, now);
            }
            Event::Answered(call, answer) if self.pod(call.pod).is_at(call) => {
                self.answered(call.pod, answer, now);
            }
            Event::Reset(call) if self.pod(call.pod).is_at(call) => self.unanswered(call, now),
            Event::TimesOut(call) if self.pod(call.pod).is_at(call) => {
                self.hang_up(call.pod, now);
                self.unanswered(call, now);
            }
            Event::Dialled(call) => self.dialled(call, now),
            Event::Asks(call) if self.pod(call.pod).is_at(call) => self.asked(call, now),
            // What a pod has turned away from.
            Event::Begins(_)
            | Event::Wakes(_)
            | Event::Connected(..)
            | Event::Refused(_)
            | Event::Answered(..)
            | Event::Reset(_)
            | Event::TimesOut(_)
            | Event::Asks(_) => {}
            Event::Leaves(call) => self.gateway.leave(call),
            Event::Vanishes { pod } => self.vanish(pod, now),
            Event::Crashes { pod, ticket_file } => self.crash(pod, ticket_file, now),
            Event::SlotComes { park, process } => {
                self.gateway.slot_comes(park, process, now, &mut self.timetable);
            }
            Event::Ticks { process } => self.gateway.tick(process, now, &mut self.timetable),
            Event::Commits { process } => {
                if let Some((call, answer)) = self.gateway.committed(process) {
                    self.answer(call, answer, now);
                }
            }
            Event::Sweeps => {
                self.gateway.sweep(now);
                self.timetable.at(later(now, SWEEP), Event::Sweeps);
            }
            Event::Stops => {
                for call in self.gateway.stop() {
                    self.travel(Event::Reset(call), now);
                }
            }
            Event::Starts => self.gateway.start(now),
        }
    }

    /// Sends something on its way, in either direction.
    fn travel(&mut self, event: Event, now: Moment) {
        let arrives = later(now, self.network.way());
        self.timetable.at(arrives, event);
    }

    fn begin(&mut self, pod: u32, now: Moment) {
        let it = self.pod(pod);
        let wait = it.begin(now);
        let crash = it.fate.crash.take_if(|crash| matches!(crash.at, CrashAt::Asking(_)));
        self.plan(pod, crash, wait, now);
        if wait.is_zero() { self.ask(pod, now) } else { self.wait(pod, wait, now) }
    }

    /// The next call is due.
    fn ask(&mut self, pod: u32, now: Moment) {
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

    fn dialled(&mut self, call: CallId, now: Moment) {
        let heard = match self.gateway.process() {
            Some(process) => Event::Connected(call, process),
            None => Event::Refused(call),
        };
        self.travel(heard, now);
    }

    fn send(&mut self, call: CallId, now: Moment) {
        let delivery = self.network.delivery();
        let it = self.pod(call.pod);
        let Doing::Asking { due } = it.doing else { return };
        let limit = it.limit(now);
        it.doing = Doing::Asked(Call { due, sent: now, limit, delivery });
        self.timetable.at(later(now, limit), Event::TimesOut(call));
        match delivery {
            Delivery::Both | Delivery::CallOnly => self.travel(Event::Asks(call), now),
            Delivery::Neither => self.mishaps.calls_lost += 1,
        }
    }

    /// A call has come to the gateway.
    fn asked(&mut self, call: CallId, now: Moment) {
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
    fn answer(&mut self, call: CallId, answer: Answer, now: Moment) {
        let it = self.pod(call.pod);
        let delivery = match it.doing {
            Doing::Asked(Call { delivery, .. }) if it.is_at(call) => delivery,
            Doing::Asked(_) | Doing::Asking { .. } | Doing::Waiting | Doing::Ended => return,
        };
        match delivery {
            Delivery::Both => self.travel(Event::Answered(call, answer), now),
            Delivery::CallOnly | Delivery::Neither => self.mishaps.calls_lost += 1,
        }
    }

    fn answered(&mut self, pod: u32, answer: Answer, now: Moment) {
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
    fn unanswered(&mut self, call: CallId, now: Moment) {
        // One that has not been sent yet has nothing to lose but its connection, of which it does not know.
        if self.count(call.pod, now).is_some() {
            self.pod(call.pod).connection = None;
            self.set_back(call.pod, Setback::Silent, now);
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

    fn set_back(&mut self, pod: u32, setback: Setback, now: Moment) {
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
        self.mishaps.out_of_budget += u32::from(is_out_of_budget);
        let why = match setback {
            Setback::Deferred(_) | Setback::Pushback(_) => GaveUp::Throttled,
            Setback::Silent | Setback::Unreached => GaveUp::Unavailable,
        };
        self.tally.gave_up(why, reason, calls);
    }

    /// A pod goes away for ever, if it is still there.
    fn vanish(&mut self, pod: u32, now: Moment) {
        if self.pod(pod).doing == Doing::Ended {
            return;
        }
        self.hang_up(pod, now);
        let it = self.pod(pod);
        it.doing = Doing::Ended;
        let app = it.app;
        self.stayed[app as usize] -= 1;
        self.undecided -= 1;
        self.mishaps.no_shows += 1;
    }

    /// The init container of a pod dies, if it is still at work, and is started again.
    fn crash(&mut self, pod: u32, ticket_file: TicketFile, now: Moment) {
        if self.pod(pod).doing == Doing::Ended {
            return;
        }
        self.hang_up(pod, now);
        let it = self.pod(pod);
        it.crash(ticket_file);
        let life = it.next_turn(pod);
        self.mishaps.crashes += 1;
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
