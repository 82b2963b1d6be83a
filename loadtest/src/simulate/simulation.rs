//! One simulation: pods, network and gateway, event by event, without a clock.

mod course;

use std::time::Duration;

use podgate_client::Setback;
use podgate_engine::time::Moment;

use crate::{
    simulate::{
        chance::{Fates, Network, outages},
        gateway::Gateway,
        pod::SimulatedPod,
        scenario::Scenario,
        timetable::{CallId, Event, Timetable, later},
    },
    storm::{
        population::population,
        tally::{BootClock, Tally},
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
const SWEEP: Duration = Duration::from_millis(500);

/// More events than are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {EVENTS_MAX} events, and no end: these pods ask too often; give them --attempts, a shorter --budget, or \
     another --policy"
)]
pub struct TooManyEvents;

/// A simulation, under way or at its end.
#[derive(Debug)]
pub(crate) struct Simulation<'a> {
    timetable: Timetable,
    network: Network,
    pub(crate) gateway: Gateway<'a>,
    pods: Vec<SimulatedPod>,
    undecided: u32,
    pub(crate) tally: Tally,
    pub(crate) toll: Toll,
    /// Pods of each app that did not go away.
    pub(crate) stayed: Vec<u32>,
}

/// What went wrong, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Toll {
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
            toll: Toll::default(),
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
            Event::Reset(call) if self.pod(call.pod).is_at(call) => self.unanswered(call.pod, now),
            Event::Dialled(call) => self.dialled(call, now),
            Event::Asks(call) if self.pod(call.pod).is_at(call) => self.asked(call, now),
            // What a pod has turned away from.
            Event::Begins(_)
            | Event::Wakes(_)
            | Event::Connected(..)
            | Event::Refused(_)
            | Event::Answered(..)
            | Event::Reset(_)
            | Event::Asks(_) => {}
            Event::TimesOut { pod } => self.time_out(pod, now),
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
}
