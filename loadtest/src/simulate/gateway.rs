//! The simulated gateway: the engine's desk and real tickets, driven as the server drives them, over a store that takes
//! a while to commit and outlives the process.

mod ledger;
mod parking;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use podgate_engine::{
    book::{Holder, ParkId, Request},
    desk::{Arrival, Desk, Kept, Looked, Past, Question, Turn},
    digest::digest_of,
    profile::Priority,
    ticket::{Claims, KEY_BYTES, Keys},
    time::Moment,
};

pub(crate) use crate::simulate::gateway::ledger::Ledger;
use crate::{
    seed::SplitMix64,
    simulate::{
        chance::Pushbacks,
        gateway::parking::{Parked, Parking},
        scenario::{DESK_LIMITS, Scenario},
        timetable::{Answer, CallId, Event, Freshness, Ticket, Timetable, later},
    },
    storm::documents,
};

/// Time of one group commit.
const COMMIT: Duration = Duration::from_millis(2);
/// Between two looks for parked calls that may go early.
const TICK: Duration = Duration::from_millis(10);
/// Books that one sweep looks at.
const SWEEP_MAX: usize = 2_000;
/// Purpose of the stream of the key and the epoch.
const SECRETS: u64 = 105;

/// What is asked of the gateway.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) call: CallId,
    pub(crate) app: u32,
    pub(crate) holder: Holder,
    /// Digest of the pod's uid.
    pub(crate) uid: u64,
    /// Digest of what is asked for.
    pub(crate) request: u64,
    pub(crate) answer_within: Duration,
    pub(crate) wait_budget: Duration,
    pub(crate) ticket: Option<&'a Ticket>,
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway<'a> {
    scenario: &'a Scenario,
    apps: Vec<App>,
    keys: Keys,
    epoch: u64,
    process: Process,
    desk: Desk,
    parking: Parking,
    /// Writes that are not durable yet, oldest first.
    commits: VecDeque<Commit>,
    store: Store,
    pushbacks: Pushbacks,
    pub(crate) ledger: Ledger,
}

#[derive(Debug)]
struct App {
    name: Arc<str>,
    digest: u64,
}

/// The number of the process that runs, or ran last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Runs(u32),
    Dead(u32),
}

/// What outlives the process.
#[derive(Debug)]
struct Store {
    /// Of each pod, whether it holds a grant.
    is_granted: Vec<bool>,
    /// Up to where slots of an app may have been told.
    frontiers: BTreeMap<u32, Moment>,
}

#[derive(Debug)]
struct Commit {
    call: CallId,
    write: Write,
}

#[derive(Debug)]
enum Write {
    Grant,
    Frontier { app: u32, until: Moment, answer: Answer },
}

impl<'a> Gateway<'a> {
    /// A gateway whose store is new.
    pub(crate) fn new(scenario: &'a Scenario, seed: u64, now: Moment) -> Self {
        let mut secrets = SplitMix64::new(seed, SECRETS);
        let secret: [u8; KEY_BYTES] = std::array::from_fn(|_| secrets.below(256) as u8);
        let app = |index| {
            let name: Arc<str> = documents::app_name(index).into();
            App { digest: digest_of(&name), name }
        };
        Self {
            scenario,
            apps: (0..scenario.apps).map(app).collect(),
            keys: Keys::new(secret),
            epoch: secrets.next_u64(),
            process: Process::Runs(0),
            desk: Desk::new(scenario.capacity_quota, DESK_LIMITS, Past::None, now),
            parking: Parking::default(),
            commits: VecDeque::new(),
            store: Store {
                is_granted: vec![false; scenario.pods.get() as usize],
                frontiers: BTreeMap::new(),
            },
            pushbacks: Pushbacks::new(seed),
            ledger: Ledger::default(),
        }
    }

    /// The number of the process, where one runs.
    pub(crate) fn process(&self) -> Option<u32> {
        match self.process {
            Process::Runs(number) => Some(number),
            Process::Dead(_) => None,
        }
    }

    /// Takes a call; none: it is answered later, or was dropped because its time is over.
    pub(crate) fn ask(
        &mut self,
        asked: &Asked<'_>,
        now: Moment,
        timetable: &mut Timetable,
    ) -> Option<Answer> {
        if self.store.is_granted[asked.call.pod as usize] {
            return Some(Answer::Granted(Freshness::Repeated));
        }
        let app = &self.apps[asked.app as usize];
        let ticket = asked.ticket.and_then(|ticket| self.verify(ticket, asked));
        let question = Question {
            app: &app.name,
            quota: self.scenario.quota,
            horizon: self.scenario.horizon,
            priority: Priority::default(),
            holder: asked.holder,
            request: Request::new(asked.uid, asked.request),
            answer_within: asked.answer_within,
            wait_budget: asked.wait_budget,
            ticket,
        };
        let (turn, used) = self.desk.ask(&question, now);
        self.ledger.note(&question, turn, used, now);
        match turn {
            Turn::Admitted(_) => {
                self.admit(asked.call, asked.app, now, timetable);
                None
            }
            Turn::Parked { slot, id, displaced } => {
                // By a later call of the same pod, which has given the earlier one up.
                if let Some(earlier) = displaced {
                    self.parking.remove(earlier);
                }
                self.park(Parked { call: asked.call, app: asked.app, slot }, id, now, timetable);
                None
            }
            Turn::Deferred { slot, reserve } => {
                let answer =
                    Answer::Deferred { delay: slot.since(now), ticket: Box::new(self.ticket(asked, slot)) };
                let Some(until) = reserve else { return Some(answer) };
                let write = Write::Frontier { app: asked.app, until, answer };
                self.commit(asked.call, write, now, timetable);
                None
            }
            Turn::PushedBack(_) => Some(Answer::PushedBack(self.pushbacks.draw(self.scenario.horizon))),
            Turn::TooLate => None,
        }
    }

    fn claims(&self, asked: &Asked<'_>, slot: Moment) -> Claims {
        let app = self.apps[asked.app as usize].digest;
        Claims { epoch: self.epoch, slot_ns: slot.as_nanos(), app, uid: asked.uid, request: asked.request }
    }

    fn verify(&self, ticket: &Ticket, asked: &Asked<'_>) -> Option<Moment> {
        let own = self.claims(asked, Moment::from_nanos(0));
        // A ticket that is worth nothing makes its bearer a walk-in.
        let slot_ns = self.keys.open(ticket).and_then(|claims| claims.verify(&own)).ok()?;
        Some(Moment::from_nanos(slot_ns))
    }

    fn ticket(&self, asked: &Asked<'_>, slot: Moment) -> Ticket {
        self.keys.seal(&self.claims(asked, slot))
    }

    fn park(&mut self, parked: Parked, id: ParkId, now: Moment, timetable: &mut Timetable) {
        let Process::Runs(process) = self.process else { return };
        timetable.at(parked.slot.max(now), Event::SlotComes { park: id.0, process });
        if self.parking.is_empty() {
            timetable.at(later(now, TICK), Event::Ticks { process });
        }
        self.parking.enter(id, parked);
    }

    /// The slot of a parked call has come.
    pub(crate) fn slot_comes(&mut self, park: u64, process: u32, now: Moment, timetable: &mut Timetable) {
        if self.process != Process::Runs(process) {
            return;
        }
        let Some(Parked { call, app, slot }) = self.parking.get(ParkId(park)) else { return };
        match self.desk.arrive(&self.apps[app as usize].name, slot, ParkId(park), now) {
            Arrival::Admitted => {
                self.parking.remove(ParkId(park));
                self.admit(call, app, now, timetable);
            }
            Arrival::Wait(until) => timetable.at(until, Event::SlotComes { park, process }),
            Arrival::Superseded => self.parking.remove(ParkId(park)),
        }
    }

    /// Calls parked callers early, where others did not come, and looks again while there are any.
    pub(crate) fn tick(&mut self, process: u32, now: Moment, timetable: &mut Timetable) {
        if self.process != Process::Runs(process) {
            return;
        }
        let mut called = Vec::new();
        while self.desk.call_early(now, &mut called) == Looked::AtSome {}
        for id in called {
            if let Some(Parked { call, app, .. }) = self.parking.get(id) {
                self.parking.remove(id);
                self.admit(call, app, now, timetable);
            }
        }
        if !self.parking.is_empty() {
            timetable.at(later(now, TICK), Event::Ticks { process });
        }
    }

    fn admit(&mut self, call: CallId, app: u32, now: Moment, timetable: &mut Timetable) {
        self.ledger.admitted.push((now, app));
        self.commit(call, Write::Grant, now, timetable);
    }

    fn commit(&mut self, call: CallId, write: Write, now: Moment, timetable: &mut Timetable) {
        let Process::Runs(process) = self.process else { return };
        self.commits.push_back(Commit { call, write });
        timetable.at(later(now, COMMIT), Event::Commits { process });
    }

    /// The oldest write is durable: whoever waits for it is answered.
    pub(crate) fn committed(&mut self, process: u32) -> Option<(CallId, Answer)> {
        if self.process != Process::Runs(process) {
            return None;
        }
        let Commit { call, write } = self.commits.pop_front()?;
        match write {
            Write::Grant => {
                self.store.is_granted[call.pod as usize] = true;
                Some((call, Answer::Granted(Freshness::Fresh)))
            }
            Write::Frontier { app, until, answer } => {
                let kept = self.store.frontiers.entry(app).or_insert(until);
                *kept = until.max(*kept);
                self.desk.reserved(&self.apps[app as usize].name, until);
                Some((call, answer))
            }
        }
    }

    /// The caller is gone. What was admitted for it goes on.
    pub(crate) fn leave(&mut self, call: CallId) {
        if let Some((id, Parked { app, slot, .. })) = self.parking.of(call) {
            self.parking.remove(id);
            self.desk.leave(&self.apps[app as usize].name, slot, id);
        }
    }

    /// The process dies, and with it every connection; returns the calls that were in it.
    pub(crate) fn stop(&mut self) -> Vec<CallId> {
        if let Process::Runs(number) = self.process {
            self.process = Process::Dead(number);
        }
        let unwritten = self.commits.drain(..).map(|commit| commit.call);
        let mut calls: Vec<CallId> = unwritten.chain(self.parking.drain()).collect();
        calls.sort_unstable();
        calls
    }

    /// Another process goes on where the last one ended.
    pub(crate) fn start(&mut self, now: Moment) {
        let Process::Dead(number) = self.process else { return };
        self.process = Process::Runs(number + 1);
        let interval = self.scenario.quota.rate.interval();
        let kept = self.store.frontiers.iter().map(|(app, frontier)| Kept {
            app: Arc::clone(&self.apps[*app as usize].name),
            frontier: *frontier,
            interval,
        });
        let past = Past::Unknown(kept.collect());
        self.desk = Desk::new(self.scenario.capacity_quota, DESK_LIMITS, past, now);
        self.ledger.restarts += 1;
    }

    /// Closes books that are over.
    pub(crate) fn sweep(&mut self, now: Moment) {
        if self.process().is_some() {
            self.desk.sweep(SWEEP_MAX, now);
        }
    }
}
