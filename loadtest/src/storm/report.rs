//! A storm's report: figures under fixed JSON keys, and the same for a person, words first.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cli::StormArgs,
    figures::{Percentiles, grouped, rounded, spoken_s},
    process::Usage,
    storm::tally::{GaveUp, Tally},
    table,
};

/// By how many tokens admissions may pass the bound: the answer's instant and the bucket's are not read together.
pub const OVER_ADMISSION_MAX: f64 = 1.0;
/// A generator that starts its pods later than this says nothing about the server (references §9).
const START_LAG_MAX_S: f64 = 0.2;

/// The report. Its first fields are a contract with scripts; those after `seed` are further facts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StormReport {
    /// Pods that arrived.
    pub pods: u32,
    /// Pods that ended with a grant.
    pub authorized: u32,
    /// Pods that ended denied.
    pub denied: u32,
    /// Pods that ended without a decision.
    pub gave_up: u32,
    /// From the storm's start to the last grant; null where there was none.
    pub completion_s: Option<f64>,
    /// T*: max(S, (n − B)/R) over all buckets, and one round trip.
    pub optimum_s: f64,
    /// The one by the other; null unless every pod was authorized.
    pub completion_ratio: Option<f64>,
    /// Calls that reached the server.
    pub calls_total: u64,
    /// Calls a pod, on average.
    pub calls_per_pod_mean: f64,
    /// Calls of the pod that made the most.
    pub calls_per_pod_max: u32,
    /// The most by which admissions of one app passed B + R·Δ in any window, in tokens.
    pub over_admission: f64,
    /// From when a call should have been sent to its answer.
    pub call_latency_ms: Option<Percentiles>,
    /// From a pod's arrival to its grant.
    pub time_to_grant_s: Option<Percentiles>,
    /// What the server used; null with `--endpoint`.
    pub server: Option<ServerFigures>,
    /// The seed.
    pub seed: u64,

    /// Apps.
    pub apps: u32,
    /// Time within which the pods arrived.
    pub spread_s: f64,
    /// Each app's rate.
    pub rate_per_s: f64,
    /// Each app's burst.
    pub burst: u32,
    /// The pods' policy.
    pub policy: &'static str,
    /// Authorized pods whose grant was made by an earlier call, the answer to which was lost (or by an earlier storm).
    pub repeated: u32,
    /// Admissions whose `admitted_at` lies outside their call; null where the gateway has another clock.
    pub admitted_outside_call: Option<u32>,
    /// Pods that gave up, by reason.
    pub gave_up_reasons: BTreeMap<&'static str, u32>,
    /// What the first pod of each kind was told.
    pub gave_up_examples: BTreeMap<&'static str, String>,
    /// How late the generator started its pods.
    pub start_lag_p99_s: f64,
    /// Whether and when the gateway was killed.
    pub gateway_killed: Killed,
    /// Acknowledged grants that it no longer has; null unless it was killed.
    pub grants_lost: Option<u32>,
}

/// Whether and when the gateway was killed, and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Killed {
    /// It was not.
    Never,
    /// While pods were still waiting.
    During,
    /// After the last pod: the storm was over before its time came.
    After,
}

/// What the server used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerFigures {
    /// CPU time a call, user and system.
    pub cpu_us_per_call: f64,
    /// The most memory in RAM.
    pub rss_bytes_max: u64,
}

impl ServerFigures {
    /// From what a process used for so many calls.
    pub fn new(usage: Usage, calls: u64) -> Self {
        Self {
            cpu_us_per_call: rounded(usage.cpu.as_secs_f64() * 1e6 / calls.max(1) as f64),
            rss_bytes_max: usage.rss_bytes_max,
        }
    }
}

impl StormReport {
    pub(crate) fn new(
        args: &StormArgs,
        tally: &Tally,
        optimum_s: f64,
        server: Option<ServerFigures>,
        grants_lost: Option<u32>,
        gateway_killed: Killed,
    ) -> Self {
        let pods = args.pods.get();
        let completion_s = (tally.authorized > 0).then_some(tally.last_authorized.as_secs_f64());
        let by_name = |(why, count): (&GaveUp, &u32)| (why.name(), *count);
        Self {
            pods,
            authorized: tally.authorized,
            denied: tally.denied,
            gave_up: tally.gave_up_total(),
            completion_s: completion_s.map(rounded),
            optimum_s: rounded(optimum_s),
            completion_ratio: completion_s
                .filter(|_| tally.authorized == pods)
                .map(|completion_s| rounded(completion_s / optimum_s)),
            calls_total: tally.calls_total(),
            calls_per_pod_mean: rounded(tally.calls_total() as f64 / f64::from(pods)),
            calls_per_pod_max: tally.calls_per_pod_max,
            over_admission: rounded(tally.over_admission(args.rate.per_s(), args.burst)),
            call_latency_ms: tally.call_latency.percentiles(1e3),
            time_to_grant_s: tally.time_to_grant.percentiles(1e6),
            server,
            seed: args.seed,
            apps: args.apps,
            spread_s: args.spread.as_secs_f64(),
            rate_per_s: args.rate.per_s(),
            burst: args.burst,
            policy: args.policy.name(),
            repeated: tally.repeated,
            admitted_outside_call: tally.outside_call,
            gave_up_reasons: tally.gave_up.iter().map(by_name).collect(),
            gave_up_examples: tally
                .gave_up_reasons
                .iter()
                .map(|(why, told)| (why.name(), told.clone()))
                .collect(),
            start_lag_p99_s: rounded(tally.start_lag.quantile_us(0.99).unwrap_or(0.0) / 1e6),
            gateway_killed,
            grants_lost,
        }
    }

    /// The promises that were broken, a sentence each.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.gave_up > 0 {
            let reasons: Vec<String> = self
                .gave_up_reasons
                .iter()
                .map(|(why, count)| format!("{} {why}", grouped(u64::from(*count))))
                .collect();
            broken.push(format!("{} stayed undecided: {}.", pods(self.gave_up), reasons.join(", ")));
        }
        if self.over_admission > OVER_ADMISSION_MAX {
            broken.push(format!("Admissions passed the bound by {} tokens.", self.over_admission));
        }
        if let Some(count @ 1..) = self.admitted_outside_call {
            broken.push(format!(
                "{} were admitted, they were told, at an instant outside their call.",
                pods(count)
            ));
        }
        if let Some(count @ 1..) = self.grants_lost {
            broken.push(format!("{} acknowledged grants are gone.", grouped(u64::from(count))));
        }
        broken
    }

    /// For a person.
    pub fn render(&self) -> String {
        let mut lines = vec![String::new(), self.story(), self.bound()];
        lines.extend(self.killed());
        lines.extend([String::new(), self.counts(), self.times()]);
        let broken = self.broken();
        if !broken.is_empty() {
            lines.push("Broken:".to_owned());
            lines.extend(broken.into_iter().map(|sentence| format!("  {sentence}")));
            let told = self.gave_up_examples.iter();
            lines.extend(told.map(|(why, told)| format!("  The first of the {why} was told: {told}")));
        }
        if self.start_lag_p99_s > START_LAG_MAX_S {
            lines.push(String::new());
            lines.push(format!(
                "The load tester was late itself (1 % of the pods started over {} after their time): discard this run.",
                spoken_s(self.start_lag_p99_s)
            ));
        }
        lines.join("\n").trim_end_matches('\n').to_owned() + "\n"
    }

    fn killed(&self) -> Option<String> {
        let when = match self.gateway_killed {
            Killed::Never => return None,
            Killed::During => "in the middle",
            Killed::After => "only after the last pod, which came earlier,",
        };
        let lost = match self.grants_lost {
            Some(0) => "and no acknowledged grant is gone",
            Some(_) => "and acknowledged grants are gone",
            None => "and its grants were not compared",
        };
        Some(format!("The gateway was killed {when} and started again, {lost}."))
    }

    /// One sentence: what happened.
    fn story(&self) -> String {
        let arrived = format!(
            "{} of {} arrived within {} (policy {}, seed {})",
            pods(self.pods),
            if self.apps == 1 {
                "1 app".to_owned()
            } else {
                format!("{} apps", grouped(u64::from(self.apps)))
            },
            spoken_s(self.spread_s),
            self.policy,
            self.seed
        );
        match (self.completion_s, self.completion_ratio) {
            (Some(completion_s), Some(ratio)) => format!(
                "{arrived}, and all were authorized, the last after {}: {ratio:.2} times the optimum of {}, before which \
                 no scheme that keeps the rate can end.",
                spoken_s(completion_s),
                spoken_s(self.optimum_s)
            ),
            (Some(completion_s), None) => format!(
                "{arrived}, but only {} were authorized, the last after {}; {} were denied, and {} gave up. The rate \
                 would have allowed all of them after {}.",
                grouped(u64::from(self.authorized)),
                spoken_s(completion_s),
                grouped(u64::from(self.denied)),
                grouped(u64::from(self.gave_up)),
                spoken_s(self.optimum_s)
            ),
            (None, _) => format!(
                "{arrived}, and none was authorized: {} were denied, and {} gave up.",
                grouped(u64::from(self.denied)),
                grouped(u64::from(self.gave_up))
            ),
        }
    }

    fn bound(&self) -> String {
        let limits = format!("{} a second and {} at once", self.rate_per_s, grouped(u64::from(self.burst)));
        if self.over_admission > OVER_ADMISSION_MAX {
            format!("Admissions passed each app's limit of {limits} by up to {} tokens.", self.over_admission)
        } else {
            format!("No app was admitted faster than its limit of {limits} allows.")
        }
    }

    fn counts(&self) -> String {
        let mut rows = vec![
            row("pods", grouped(u64::from(self.pods))),
            row("  authorized", grouped(u64::from(self.authorized))),
            row("  denied", grouped(u64::from(self.denied))),
            row("  gave up", grouped(u64::from(self.gave_up))),
            row("completion", self.completion_s.map_or_else(none, spoken_s)),
            row("optimum", spoken_s(self.optimum_s)),
            row(
                "completion / optimum",
                self.completion_ratio.map_or_else(none, |ratio| format!("{ratio:.3}")),
            ),
            row("calls", grouped(self.calls_total)),
            row("  a pod, mean", format!("{:.2}", self.calls_per_pod_mean)),
            row("  a pod, most", grouped(u64::from(self.calls_per_pod_max))),
            row("over-admission, tokens", format!("{:.3}", self.over_admission)),
            row(
                "admitted outside the call",
                self.admitted_outside_call.map_or_else(none, |count| grouped(u64::from(count))),
            ),
        ];
        if self.repeated > 0 {
            rows.push(row("told of an earlier grant", grouped(u64::from(self.repeated))));
        }
        if let Some(lost) = self.grants_lost {
            rows.push(row("acknowledged grants lost", grouped(u64::from(lost))));
        }
        if let Some(server) = self.server {
            rows.push(row("server CPU a call", format!("{:.0} µs", server.cpu_us_per_call)));
            rows.push(row(
                "server memory, most",
                format!("{:.1} MiB", server.rss_bytes_max as f64 / 1_048_576.0),
            ));
        }
        rows.push(row("generator's lag, p99", spoken_s(self.start_lag_p99_s)));
        table::render(&rows)
    }

    fn times(&self) -> String {
        let line = |name: &str, percentiles: Option<Percentiles>, unit_s: f64| {
            let shown = percentiles.map_or_else(
                || std::array::from_fn(|_| none()),
                |p| [p.p50, p.p90, p.p99, p.p999, p.max].map(|value| spoken_s(value * unit_s)),
            );
            let [p50, p90, p99, p999, max] = shown;
            [name.to_owned(), p50, p90, p99, p999, max]
        };
        table::render(&[
            ["", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned),
            line("a call, from its due time", self.call_latency_ms, 1e-3),
            line("arrival to grant", self.time_to_grant_s, 1.0),
        ])
    }
}

fn row(name: &str, value: String) -> [String; 2] {
    [name.to_owned(), value]
}

fn none() -> String {
    "-".to_owned()
}

fn pods(count: u32) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{} pods", grouped(u64::from(count))) }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
