//! A simulation's report: the figures of a storm under the same JSON keys, and what went wrong beside them.

mod text;

pub(crate) use crate::simulate::report::text::count;

use serde::Serialize;

use crate::{
    figures::rounded,
    simulate::{
        scenario::Scenario,
        simulation::{Simulation, Toll},
    },
    storm::{
        report::{Killed, StormReport},
        tally::{Bounds, GaveUp, Tally},
    },
};

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulateReport {
    /// As of a storm. What only a real gateway or generator has is null or zero, and pods that went away are neither
    /// authorized nor have they given up.
    #[serde(flatten)]
    pub storm: StormReport,
    /// Tickets that came in time, and whose bearers got neither their grant nor their slot.
    pub tickets_refused_on_time: u64,
    /// Pods that went away.
    pub no_shows: u32,
    /// Init containers that died, and were started again.
    pub crashes: u32,
    /// Calls that vanished, or the answers of which did.
    pub calls_lost: u32,
    /// Times that the gateway died, and was there again.
    pub restarts: u32,
    /// Pods that gave up because their budget was at its end; they are among `gave_up`.
    pub out_of_budget: u32,
    /// The budget of a pod.
    pub budget_s: f64,
    /// How far ahead slots were booked.
    pub horizon_s: f64,
    /// Time of a message one way, on average.
    pub latency_one_way_ms: f64,
    /// With `--within`: the time within which the storm was to end.
    pub within_s: Option<f64>,
    /// With `--within`: the smallest rate of each app's bucket at which it does. The rest is of this rate.
    pub rate_needed_per_s: Option<f64>,
    /// The same as profiles say it.
    pub rate_needed: Option<String>,
}

impl SimulateReport {
    pub(crate) fn new(scenario: &Scenario, seed: u64, simulation: &Simulation<'_>, bounds: &Bounds) -> Self {
        let ledger = &simulation.gateway.ledger;
        let Toll { no_shows, crashes, calls_lost, out_of_budget } = simulation.toll;
        Self {
            storm: storm(scenario, seed, simulation, bounds),
            tickets_refused_on_time: ledger.tickets_refused_on_time,
            no_shows,
            crashes,
            calls_lost,
            restarts: ledger.restarts,
            out_of_budget,
            budget_s: scenario.retry.budget.as_secs_f64(),
            horizon_s: scenario.horizon.as_secs_f64(),
            latency_one_way_ms: scenario.latency.as_secs_f64() * 1e3,
            within_s: None,
            rate_needed_per_s: None,
            rate_needed: None,
        }
    }

    /// Pods that were left without a decision though their budget would have been long enough.
    pub fn failed(&self) -> u32 {
        self.storm.gave_up - self.excused()
    }

    /// Pods that gave up at the end of a budget in which not even the optimum would have served all.
    pub fn excused(&self) -> u32 {
        let is_short = self.storm.optimum_s.is_some_and(|optimum_s| self.budget_s < optimum_s);
        if is_short { self.out_of_budget } else { 0 }
    }

    /// Whether every promise was kept.
    pub fn holds(&self) -> bool {
        self.failed() == 0 && self.storm.rate_bound_violations == 0 && self.tickets_refused_on_time == 0
    }
}

/// What a storm would have reported.
fn storm(scenario: &Scenario, seed: u64, simulation: &Simulation<'_>, bounds: &Bounds) -> StormReport {
    let (tally, ledger) = (&simulation.tally, &simulation.gateway.ledger);
    let pods = scenario.pods.get();
    let stayed: u32 = simulation.stayed.iter().sum();
    let completion_s = (tally.authorized > 0).then_some(tally.last_authorized.as_secs_f64());
    let optimum_s = scenario.optimum_s(&simulation.stayed, tally.round_trip());
    let goodput = completion_s.filter(|completion_s| *completion_s > 0.0);
    StormReport {
        pods,
        authorized: tally.authorized,
        denied: tally.denied,
        gave_up: tally.gave_up_total(),
        completion_s: completion_s.map(rounded),
        optimum_s: Some(rounded(optimum_s)),
        completion_ratio: completion_s
            .filter(|_| tally.authorized == stayed)
            .map(|completion_s| rounded(completion_s / optimum_s)),
        calls_total: tally.calls_total(),
        calls_per_pod_mean: rounded(tally.calls_total() as f64 / f64::from(pods)),
        calls_per_pod_max: tally.calls_per_pod_max,
        over_admission: rounded(bounds.over_admission),
        call_latency_ms: tally.call_latency.percentiles(1e3),
        time_to_grant_s: tally.time_to_grant.percentiles(1e6),
        server: None,
        seed,
        policy: scenario.policy.name(),
        parked: Some(ledger.parked),
        deferred: Some(ledger.deferred),
        pushed_back: Some(ledger.pushed_back),
        tickets_on_time: Some(ledger.tickets_on_time),
        tickets_early: Some(ledger.tickets_early),
        tickets_late: Some(ledger.tickets_late),
        goodput_per_s: goodput.map(|completion_s| rounded(f64::from(tally.authorized) / completion_s)),
        rate_bound_violations: bounds.violations,
        generator_lateness_ms_p99: 0.0,
        background: None,
        overload: None,
        goodput_ratio: None,
        recovery_s: None,
        apps: scenario.apps,
        spread_s: scenario.spread.as_secs_f64(),
        rate_per_s: scenario.rate.per_s(),
        burst: scenario.burst,
        repeated: tally.repeated,
        admitted_outside_call: None,
        gave_up_reasons: tally.gave_up.iter().map(|(why, count)| (why.name(), *count)).collect(),
        gave_up_examples: examples(tally),
        start_lag_p99_s: 0.0,
        pinned: false,
        cpu_quota: None,
        gateway_killed: if ledger.restarts > 0 { Killed::During } else { Killed::Never },
        grants_lost: None,
    }
}

fn examples(tally: &Tally) -> std::collections::BTreeMap<&'static str, String> {
    let by_name = |(why, told): (&GaveUp, &String)| (why.name(), told.clone());
    tally.gave_up_reasons.iter().map(by_name).collect()
}
