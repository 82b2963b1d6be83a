//! A storm's report: figures under fixed JSON keys, and the same for a person, words first.

mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cli::{Arrivals, StormArgs},
    figures::{Percentiles, grouped, rounded},
    over_admission::over_admission_max,
    storm::{
        background_tally::BackgroundTally,
        bookings::Bookings,
        crowd::Crowd,
        gateway::Reading,
        tally::{Bounds, GaveUp, Tally},
    },
};

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
    /// Calls that the gateway held open until their turn, by its own count, as are the next four; null with
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

/// What was measured.
pub(crate) struct Measured<'a> {
    pub(crate) args: &'a StormArgs,
    pub(crate) tally: &'a Tally,
    pub(crate) bounds: &'a Bounds,
    pub(crate) background: Option<&'a BackgroundTally>,
    pub(crate) optimum_s: Option<f64>,
    pub(crate) reading: Option<Reading>,
    pub(crate) crowd: &'a Crowd,
    pub(crate) killed: Killed,
    pub(crate) grants_lost: Option<u32>,
    pub(crate) is_pinned: bool,
}

impl Measured<'_> {
    fn server(&self) -> Option<ServerFigures> {
        let usage = self.reading?.usage;
        let (calls, authorized) =
            self.background.map_or((0, 0), |background| (background.calls_total, background.authorized));
        let calls = self.tally.calls_total() + calls;
        let authorized = u64::from(self.tally.authorized) + authorized;
        let cpu_s = usage.cpu.as_secs_f64();
        Some(ServerFigures {
            cpu_us_per_call: rounded(cpu_s * 1e6 / calls.max(1) as f64),
            rss_bytes_max: usage.rss_bytes_max,
            cpu_s: rounded(cpu_s),
            goodput_per_cpu_s: (cpu_s > 0.0).then(|| rounded(authorized as f64 / cpu_s)),
        })
    }

    fn overload(&self) -> Option<OverloadFigures> {
        let Arrivals::Overload(overload) = self.args.arrivals() else { return None };
        Some(OverloadFigures {
            factor: overload.factor,
            capacity_per_s: overload.capacity.per_s(),
            duration_s: overload.duration.as_secs_f64(),
            authorized_in_time: self.tally.authorized_in_time,
            alive_max: self.crowd.alive_peak,
            turned_away: self.crowd.turned_away,
        })
    }

    fn goodput_ratio(&self) -> Option<f64> {
        let Arrivals::Overload(overload) = self.args.arrivals() else { return None };
        let background = self.background.map_or(0, |background| background.authorized_in_time);
        let authorized = u64::from(self.tally.authorized_in_time) + background;
        let admissible = overload.capacity.per_s() * overload.duration.as_secs_f64();
        (admissible > 0.0).then(|| rounded(authorized as f64 / admissible))
    }

    fn lateness_ms_p99(&self) -> f64 {
        let mut lateness = self.tally.lateness.clone();
        if let Some(background) = self.background {
            lateness.merge(&background.lateness);
        }
        rounded(lateness.quantile_us(0.99).unwrap_or(0.0) / 1e3)
    }
}

impl StormReport {
    pub(crate) fn new(measured: &Measured<'_>) -> Self {
        let Measured { args, tally, bounds, .. } = *measured;
        let pods = args.arrivals().pods().get();
        let completion_s = (tally.authorized > 0).then_some(tally.last_authorized.as_secs_f64());
        let by_name = |(why, count): (&GaveUp, &u32)| (why.name(), *count);
        let booked = |count: fn(Bookings) -> u64| measured.reading?.bookings.map(count);
        Self {
            pods,
            authorized: tally.authorized,
            denied: tally.denied,
            gave_up: tally.gave_up_total(),
            completion_s: completion_s.map(rounded),
            optimum_s: measured.optimum_s.map(rounded),
            completion_ratio: completion_s
                .filter(|_| tally.authorized == pods)
                .zip(measured.optimum_s)
                .map(|(completion_s, optimum_s)| rounded(completion_s / optimum_s)),
            calls_total: tally.calls_total(),
            calls_per_pod_mean: rounded(tally.calls_total() as f64 / f64::from(pods)),
            calls_per_pod_max: tally.calls_per_pod_max,
            over_admission: rounded(bounds.over_admission),
            call_latency_ms: tally.call_latency.percentiles(1e3),
            time_to_grant_s: tally.time_to_grant.percentiles(1e6),
            server: measured.server(),
            seed: args.seed,
            policy: args.policy.name(),
            parked: booked(|bookings| bookings.parked),
            deferred: booked(|bookings| bookings.deferred),
            pushed_back: booked(|bookings| bookings.pushed_back),
            tickets_on_time: booked(|bookings| bookings.tickets_on_time),
            tickets_late: booked(|bookings| bookings.tickets_late),
            goodput_per_s: completion_s
                .filter(|completion_s| *completion_s > 0.0)
                .map(|completion_s| rounded(f64::from(tally.authorized) / completion_s)),
            rate_bound_violations: bounds.violations,
            generator_lateness_ms_p99: measured.lateness_ms_p99(),
            background: measured.background.map(BackgroundTally::figures),
            overload: measured.overload(),
            goodput_ratio: measured.goodput_ratio(),
            recovery_s: measured
                .background
                .and_then(BackgroundTally::recovery)
                .map(|recovery| recovery.as_secs_f64()),
            apps: args.apps,
            spread_s: args.arrivals().spread().as_secs_f64(),
            rate_per_s: args.rate().per_s(),
            burst: args.burst(),
            repeated: tally.repeated,
            admitted_outside_call: tally.outside_call,
            gave_up_reasons: tally.gave_up.iter().map(by_name).collect(),
            gave_up_examples: tally
                .gave_up_reasons
                .iter()
                .map(|(why, told)| (why.name(), told.clone()))
                .collect(),
            start_lag_p99_s: rounded(tally.start_lag.quantile_us(0.99).unwrap_or(0.0) / 1e6),
            pinned: measured.is_pinned,
            cpu_quota: args.cpu_quota,
            gateway_killed: measured.killed,
            grants_lost: measured.grants_lost,
        }
    }

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
