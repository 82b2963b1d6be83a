//! From what was measured to the figures of the report.

use crate::{
    cli::{Arrivals, StormArgs},
    figures::rounded,
    storm::{
        background_tally::BackgroundTally,
        bookings::Bookings,
        crowd::Crowd,
        gateway::Reading,
        report::{Killed, OverloadFigures, ServerFigures, StormReport},
        tally::{Bounds, GaveUp, Tally},
    },
};

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
            policy: args.retry.policy.name(),
            parked: booked(|bookings| bookings.parked),
            deferred: booked(|bookings| bookings.deferred),
            pushed_back: booked(|bookings| bookings.pushed_back),
            tickets_on_time: booked(|bookings| bookings.tickets_on_time),
            tickets_late: booked(|bookings| bookings.tickets_late),
            tickets_early: booked(|bookings| bookings.tickets_early),
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
}
