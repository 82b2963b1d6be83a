//! A storm's report: figures under fixed JSON keys, and the same for a person, words first.

mod measured;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    figures::{Percentiles, grouped},
    over_admission::over_admission_max,
};

pub(crate) use crate::storm::report::measured::Measured;

pub use crate::storm::background_tally::BackgroundFigures;

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
    /// T*: max(S, (n − B)/R) over all buckets, and one round trip; null of an overload.
    pub optimum_s: Option<f64>,
    /// The one by the other; null unless every pod was authorized, and of an overload.
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

    /// The pods' policy.
    pub policy: &'static str,
    /// Calls that the gateway held open until their turn, by its own count, as are the next five; null with
    /// `--endpoint`, and where it does not say.
    pub parked: Option<u64>,
    /// Calls that it answered with a ticket.
    pub deferred: Option<u64>,
    /// Calls for which it booked nothing.
    pub pushed_back: Option<u64>,
    /// Tickets that came on time.
    pub tickets_on_time: Option<u64>,
    /// Tickets that came late.
    pub tickets_late: Option<u64>,
    /// Tickets that came early, and were held until their turn: their holders were told after a while how long to wait,
    /// and counted from when they had asked.
    pub tickets_early: Option<u64>,
    /// Pods authorized a second, from the storm's start to the last; null where there was none.
    pub goodput_per_s: Option<f64>,
    /// Apps whose admissions in some window passed B + R·Δ + 0.2·R + 1.
    pub rate_bound_violations: u32,
    /// How late the generator sent calls against when they were due, the first ones and those after a wait.
    pub generator_lateness_ms_p99: f64,
    /// What the background was served like; null without one.
    pub background: Option<BackgroundFigures>,
    /// What came of an overload; null of a storm.
    pub overload: Option<OverloadFigures>,
    /// Authorizations of all apps, the background's too, before the end of the spike, by what the capacity admits in this
    /// time; null of a storm.
    pub goodput_ratio: Option<f64>,
    /// From the end of the spike until the background was served as before; null without an overload and a background,
    /// and where it was not so within 10 s.
    pub recovery_s: Option<f64>,

    /// Apps.
    pub apps: u32,
    /// Time within which the pods arrived.
    pub spread_s: f64,
    /// Each app's rate.
    pub rate_per_s: f64,
    /// Each app's burst.
    pub burst: u32,
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
    /// Whether generator and gateway had a core each.
    pub pinned: bool,
    /// Cores' worth of CPU time that the gateway might use; null where it was not bounded.
    pub cpu_quota: Option<f64>,
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

/// An overload.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OverloadFigures {
    /// Pods by what the capacity admits.
    pub factor: f64,
    /// The capacity that all apps share.
    pub capacity_per_s: f64,
    /// For how long pods arrived.
    pub duration_s: f64,
    /// Pods of the spike that were authorized before its end.
    pub authorized_in_time: u32,
    /// The most pods that were there at once.
    pub alive_max: u32,
    /// Pods for which the load tester had no room: they never asked, and count as given up.
    pub turned_away: u32,
}

/// What the server used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerFigures {
    /// CPU time a call, user and system.
    pub cpu_us_per_call: f64,
    /// The most memory in RAM.
    pub rss_bytes_max: u64,
    /// CPU time in all, from the storm's start.
    pub cpu_s: f64,
    /// Pods authorized for each second of CPU time; null where it used none.
    pub goodput_per_cpu_s: Option<f64>,
}

impl StormReport {
    /// The promises that were broken, a sentence each.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        // Of an overload most have to give up: that is what it is.
        if self.gave_up > 0 && self.overload.is_none() {
            let reasons = self.reasons();
            broken.push(format!("{} stayed undecided: {reasons}.", pods(self.gave_up)));
        }
        let over_max = over_admission_max(self.rate_per_s);
        if self.over_admission > over_max || self.rate_bound_violations > 0 {
            broken.push(format!(
                "Admissions of {} passed the bound by up to {} tokens; at most {over_max} are allowed (0.2·R + 1).",
                apps(self.rate_bound_violations.max(1)),
                self.over_admission
            ));
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

    /// Why pods gave up, such as `300 throttled, 12 unavailable`.
    fn reasons(&self) -> String {
        let each = self.gave_up_reasons.iter();
        let each = each.map(|(why, count)| format!("{} {why}", grouped(u64::from(*count))));
        each.collect::<Vec<_>>().join(", ")
    }
}

fn pods(count: u32) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{} pods", grouped(u64::from(count))) }
}

fn apps(count: u32) -> String {
    if count == 1 { "1 app".to_owned() } else { format!("{} apps", grouped(u64::from(count))) }
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub(crate) mod tests;
