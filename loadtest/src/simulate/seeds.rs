//! `--seeds`: many seeds of one scenario, on all cores, summed up.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use serde::Serialize;

use crate::{
    figures::{grouped, spoken_s},
    simulate::{
        report::{SimulateReport, count},
        scenario::Scenario,
        simulate,
        simulation::TooManyEvents,
    },
    table::{self, row},
};

/// Most seeds that are named because they broke a promise.
const NAMED_MAX: usize = 100;

/// What came of many seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SeedsReport {
    /// How many.
    pub seeds: u32,
    /// The first; the others follow it.
    pub first_seed: u64,
    /// Seeds in which a promise was broken.
    pub seeds_broken: u32,
    /// The first 100 of them.
    pub broken: Vec<u64>,
    /// Pods of each seed.
    pub pods: u32,
    /// Apps.
    pub apps: u32,
    /// Each app's rate.
    pub rate_per_s: f64,
    /// Each app's burst.
    pub burst: u32,
    /// The pods' policy.
    pub policy: &'static str,
    /// Here and below, of all seeds together, or the most of any: pods that ended with a grant.
    pub authorized: u64,
    /// Pods that gave up.
    pub gave_up: u64,
    /// Those of them whose budget was at its end before the optimum.
    pub excused: u64,
    /// Pods that went away.
    pub no_shows: u64,
    /// Init containers that died, and were started again.
    pub crashes: u64,
    /// Calls and answers that vanished.
    pub calls_lost: u64,
    /// Restarts of the gateway.
    pub restarts: u64,
    /// Calls.
    pub calls_total: u64,
    /// Calls of the pod that made the most.
    pub calls_per_pod_max: u32,
    /// The longest storm.
    pub completion_s_max: f64,
    /// The largest ratio of completion to optimum.
    pub completion_ratio_max: f64,
    /// The most by which admissions of one app passed B + R·Δ, in tokens.
    pub over_admission_max: f64,
    /// Bounds of B + R·Δ + 0.2·R + 1 that were passed.
    pub rate_bound_violations: u64,
    /// Tickets that came on time.
    pub tickets_on_time: u64,
    /// Tickets that came before their slot.
    pub tickets_early: u64,
    /// Tickets that came late.
    pub tickets_late: u64,
    /// Tickets that came in time, and whose bearers got neither their grant nor their slot.
    pub tickets_refused_on_time: u64,
}

/// Simulates `seeds` seeds from `first` on.
pub(crate) fn run(scenario: &Scenario, first: u64, seeds: u32) -> Result<SeedsReport, TooManyEvents> {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(seeds as usize);
    let next = AtomicU32::new(0);
    let sum = || {
        let mut sum = SeedsReport::none_of(scenario, first);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= seeds {
                return Ok(sum);
            }
            sum.add(&simulate(scenario, first.wrapping_add(u64::from(index)))?.report);
        }
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(sum)).collect();
        let mut all = SeedsReport::none_of(scenario, first);
        for worker in running {
            match worker.join() {
                Ok(sum) => all.merge(sum?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all.broken.sort_unstable();
        all.broken.truncate(NAMED_MAX);
        Ok(all)
    })
}

impl SeedsReport {
    fn none_of(scenario: &Scenario, first_seed: u64) -> Self {
        Self {
            seeds: 0,
            first_seed,
            seeds_broken: 0,
            broken: Vec::new(),
            pods: scenario.pods.get(),
            apps: scenario.apps,
            rate_per_s: scenario.rate.per_s(),
            burst: scenario.burst,
            policy: scenario.policy.name(),
            authorized: 0,
            gave_up: 0,
            excused: 0,
            no_shows: 0,
            crashes: 0,
            calls_lost: 0,
            restarts: 0,
            calls_total: 0,
            calls_per_pod_max: 0,
            completion_s_max: 0.0,
            completion_ratio_max: 0.0,
            over_admission_max: 0.0,
            rate_bound_violations: 0,
            tickets_on_time: 0,
            tickets_early: 0,
            tickets_late: 0,
            tickets_refused_on_time: 0,
        }
    }

    fn add(&mut self, report: &SimulateReport) {
        let storm = &report.storm;
        self.merge(Self {
            seeds: 1,
            first_seed: self.first_seed,
            seeds_broken: u32::from(!report.holds()),
            broken: if report.holds() { Vec::new() } else { vec![storm.seed] },
            pods: self.pods,
            apps: self.apps,
            rate_per_s: self.rate_per_s,
            burst: self.burst,
            policy: self.policy,
            authorized: storm.authorized.into(),
            gave_up: storm.gave_up.into(),
            excused: report.excused().into(),
            no_shows: report.no_shows.into(),
            crashes: report.crashes.into(),
            calls_lost: report.calls_lost.into(),
            restarts: report.restarts.into(),
            calls_total: storm.calls_total,
            calls_per_pod_max: storm.calls_per_pod_max,
            completion_s_max: storm.completion_s.unwrap_or(0.0),
            completion_ratio_max: storm.completion_ratio.unwrap_or(0.0),
            over_admission_max: storm.over_admission,
            rate_bound_violations: storm.rate_bound_violations.into(),
            tickets_on_time: storm.tickets_on_time.unwrap_or(0),
            tickets_early: storm.tickets_early.unwrap_or(0),
            tickets_late: storm.tickets_late.unwrap_or(0),
            tickets_refused_on_time: report.tickets_refused_on_time,
        });
    }

    /// Sums do not depend on the order, and neither do maxima: which worker had which seed does not show.
    fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.seeds_broken += other.seeds_broken;
        self.broken.extend(other.broken);
        self.authorized += other.authorized;
        self.gave_up += other.gave_up;
        self.excused += other.excused;
        self.no_shows += other.no_shows;
        self.crashes += other.crashes;
        self.calls_lost += other.calls_lost;
        self.restarts += other.restarts;
        self.calls_total += other.calls_total;
        self.calls_per_pod_max = self.calls_per_pod_max.max(other.calls_per_pod_max);
        self.completion_s_max = self.completion_s_max.max(other.completion_s_max);
        self.completion_ratio_max = self.completion_ratio_max.max(other.completion_ratio_max);
        self.over_admission_max = self.over_admission_max.max(other.over_admission_max);
        self.rate_bound_violations += other.rate_bound_violations;
        self.tickets_on_time += other.tickets_on_time;
        self.tickets_early += other.tickets_early;
        self.tickets_late += other.tickets_late;
        self.tickets_refused_on_time += other.tickets_refused_on_time;
    }

    /// Whether every promise was kept in every seed.
    pub fn holds(&self) -> bool {
        self.seeds_broken == 0
    }

    /// For a person.
    pub fn render(&self) -> String {
        let last = self.first_seed.wrapping_add(u64::from(self.seeds).saturating_sub(1));
        let of = format!(
            "{} ({} to {last}) of {} of {}, policy {}",
            count(self.seeds, "seed"),
            self.first_seed,
            count(self.pods, "pod"),
            count(self.apps, "app"),
            self.policy
        );
        let story = if self.holds() {
            format!(
                "Simulated {of}: in each of them every pod that stayed was decided, unless its budget was too short for \
                 anyone, the bound held, and no ticket that came in time was refused."
            )
        } else {
            let named: Vec<String> = self.broken.iter().take(10).map(u64::to_string).collect();
            format!(
                "Simulated {of}: a promise was broken in {}, the first with the seeds {}.",
                count(self.seeds_broken, "seed"),
                named.join(", ")
            )
        };
        format!("\n{story}\n\n{}", table::render(&self.rows()))
    }

    fn rows(&self) -> Vec<[String; 2]> {
        vec![
            row("pods authorized", grouped(self.authorized)),
            row("  gave up", grouped(self.gave_up)),
            row("    with too short a budget", grouped(self.excused)),
            row("  went away", grouped(self.no_shows)),
            row("containers that died", grouped(self.crashes)),
            row("calls and answers lost", grouped(self.calls_lost)),
            row("restarts of the gateway", grouped(self.restarts)),
            row("completion, longest", spoken_s(self.completion_s_max)),
            row("completion / optimum, largest", format!("{:.3}", self.completion_ratio_max)),
            row("calls", grouped(self.calls_total)),
            row("  a pod, most", grouped(u64::from(self.calls_per_pod_max))),
            row("tickets on time", grouped(self.tickets_on_time)),
            row("  early", grouped(self.tickets_early)),
            row("  late", grouped(self.tickets_late)),
            row("  in time, and refused", grouped(self.tickets_refused_on_time)),
            row("over-admission, tokens, most", format!("{:.3}", self.over_admission_max)),
            row("bounds passed", grouped(self.rate_bound_violations)),
        ]
    }
}
