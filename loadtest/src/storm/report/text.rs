//! A storm's report for a person: words first, then the figures.

use crate::{
    figures::{Percentiles, grouped, spoken_s},
    over_admission::over_admission_max,
    storm::report::{BackgroundFigures, Killed, OverloadFigures, StormReport, apps, pods},
    table::{self, none, row},
};

/// A generator that is later than this says nothing about the server (references §9).
const LATENESS_MAX_S: f64 = 0.2;

impl StormReport {
    /// For a person.
    pub fn render(&self) -> String {
        let mut lines = vec![String::new(), self.story()];
        lines.extend(self.remarks());
        lines.extend([String::new(), table::render(&self.counts()), table::render(&self.times())]);
        let broken = self.broken();
        if !broken.is_empty() {
            lines.push("Broken:".to_owned());
            lines.extend(broken.into_iter().map(|sentence| format!("  {sentence}")));
            let told = self.gave_up_examples.iter();
            lines.extend(told.map(|(why, told)| format!("  The first of the {why} was told: {told}")));
        }
        if let Some(doubt) = self.doubt() {
            lines.extend([String::new(), doubt]);
        }
        lines.join("\n").trim_end_matches('\n').to_owned() + "\n"
    }

    /// What there is to say besides, a sentence each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        std::iter::once(self.bound())
            .chain(self.told_of_background())
            .chain(self.killed())
            .chain(self.told_of_lateness())
            .collect()
    }

    /// All pods share the load tester's processor: where it cannot dial as fast as they arrive, they wait for each other.
    fn told_of_lateness(&self) -> Option<String> {
        let lateness_s = self.generator_lateness_ms_p99 / 1e3;
        (lateness_s > LATENESS_MAX_S).then(|| {
            format!(
                "The load tester could not dial as fast as the pods arrived: 1 % of the calls began over {} after their \
                 time, which the completion includes.",
                spoken_s(lateness_s)
            )
        })
    }

    /// Why the run says nothing about the gateway, if so.
    pub(crate) fn doubt(&self) -> Option<String> {
        let lateness_s = self.start_lag_p99_s;
        let turned_away = self.overload.map_or(0, |overload| overload.turned_away);
        if turned_away > 0 {
            Some(format!(
                "The load tester had no room for {}: discard this run, or make it smaller.",
                pods(turned_away)
            ))
        } else if lateness_s > LATENESS_MAX_S {
            Some(format!(
                "The load tester was late itself (1 % of its pods began over {} after their time): discard this run.",
                spoken_s(lateness_s)
            ))
        } else {
            None
        }
    }

    /// One sentence: what happened.
    pub(crate) fn story(&self) -> String {
        match self.overload {
            Some(overload) => self.story_of_overload(overload),
            None => self.story_of_storm(),
        }
    }

    fn story_of_overload(&self, overload: OverloadFigures) -> String {
        let OverloadFigures { factor, capacity_per_s, duration_s, .. } = overload;
        let ratio = self.goodput_ratio.map_or_else(none, |ratio| format!("{:.0} %", ratio * 100.0));
        let recovered = match (self.background, self.recovery_s) {
            (None, _) => String::new(),
            (Some(_), Some(0.0)) => {
                "; the background was served as before as soon as they stopped coming".to_owned()
            }
            (Some(_), Some(recovery_s)) => {
                format!("; the background was served as before {} after the last came", spoken_s(recovery_s))
            }
            (Some(_), None) => "; the background was not served as before within 10 s of the last".to_owned(),
        };
        format!(
            "For {}, {} of {} arrived, {factor} times the {capacity_per_s} a second that the gateway may admit (policy {}, \
             seed {}): in this time it authorized {ratio} of that rate, its burst and the background included, {} were \
             authorized in all, and {} gave up{recovered}.",
            spoken_s(duration_s),
            pods(self.pods),
            apps(self.apps),
            self.policy,
            self.seed,
            pods(self.authorized),
            grouped(u64::from(self.gave_up)),
        )
    }

    fn story_of_storm(&self) -> String {
        let arrived = format!(
            "{} of {} arrived within {} (policy {}, seed {})",
            pods(self.pods),
            apps(self.apps),
            spoken_s(self.spread_s),
            self.policy,
            self.seed
        );
        let optimum = self.optimum_s.map_or_else(none, spoken_s);
        match (self.completion_s, self.completion_ratio) {
            (Some(completion_s), Some(ratio)) => format!(
                "{arrived}, and all were authorized, the last after {}: {ratio:.2} times the optimum of {optimum}, before \
                 which no scheme that keeps the rate can end.",
                spoken_s(completion_s),
            ),
            (Some(completion_s), None) => format!(
                "{arrived}, but only {} were authorized, the last after {}; {} were denied, and {} gave up. The rate \
                 would have allowed all of them after {optimum}.",
                grouped(u64::from(self.authorized)),
                spoken_s(completion_s),
                grouped(u64::from(self.denied)),
                grouped(u64::from(self.gave_up)),
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
        let over_max = over_admission_max(self.rate_per_s);
        if self.over_admission > over_max {
            format!("Admissions passed each app's limit of {limits} by up to {} tokens.", self.over_admission)
        } else if self.over_admission > 0.0 {
            format!(
                "No app was admitted faster than its limit of {limits} allows, but for {} tokens of the {over_max:.1} that \
                 booked turns may come late or early by.",
                self.over_admission
            )
        } else {
            format!("No app was admitted faster than its limit of {limits} allows.")
        }
    }

    fn told_of_background(&self) -> Option<String> {
        let background = self.background?;
        let Some(success) = background.success else {
            return Some("The background made no call while the storm lasted.".to_owned());
        };
        let BackgroundFigures { p99_ms, idle_p99_ms, calls, .. } = background;
        let spoken_ms = |ms: Option<f64>| ms.map_or_else(none, |ms| spoken_s(ms / 1e3));
        Some(format!(
            "Of {} of other apps in the background, {} % were authorized, 99 % of them within {} (before the storm {}).",
            pods(u32::try_from(calls).unwrap_or(u32::MAX)),
            // 99.97 % is not all.
            (success * 1e4).floor() / 1e2,
            spoken_ms(p99_ms),
            spoken_ms(idle_p99_ms),
        ))
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

    /// The figures, by name.
    pub(crate) fn counts(&self) -> Vec<[String; 2]> {
        let mut rows = vec![
            row("pods", grouped(u64::from(self.pods))),
            row("  authorized", grouped(u64::from(self.authorized))),
            row("  denied", grouped(u64::from(self.denied))),
            row("  gave up", grouped(u64::from(self.gave_up))),
        ];
        match self.overload {
            Some(overload) => rows.extend([
                row("    why", if self.gave_up > 0 { self.reasons() } else { none() }),
                row("  at once, most", grouped(u64::from(overload.alive_max))),
                row(
                    "goodput / capacity",
                    self.goodput_ratio.map_or_else(none, |ratio| format!("{ratio:.3}")),
                ),
                row("recovery", self.recovery_s.map_or_else(none, spoken_s)),
            ]),
            None => rows.extend([
                row("completion", self.completion_s.map_or_else(none, spoken_s)),
                row("optimum", self.optimum_s.map_or_else(none, spoken_s)),
                row(
                    "completion / optimum",
                    self.completion_ratio.map_or_else(none, |ratio| format!("{ratio:.3}")),
                ),
            ]),
        }
        rows.push(row(
            "authorized a second",
            self.goodput_per_s.map_or_else(none, |per_s| grouped(per_s.round() as u64)),
        ));
        rows.extend([
            row("calls", grouped(self.calls_total)),
            row("  a pod, mean", format!("{:.2}", self.calls_per_pod_mean)),
            row("  a pod, most", grouped(u64::from(self.calls_per_pod_max))),
        ]);
        rows.extend(self.turns());
        rows.extend([
            row("over-admission, tokens", format!("{:.3}", self.over_admission)),
            row(
                "admitted outside the call",
                self.admitted_outside_call.map_or_else(none, |count| grouped(u64::from(count))),
            ),
        ]);
        if self.repeated > 0 {
            rows.push(row("told of an earlier grant", grouped(u64::from(self.repeated))));
        }
        if let Some(lost) = self.grants_lost {
            rows.push(row("acknowledged grants lost", grouped(u64::from(lost))));
        }
        rows.extend(self.machine());
        rows
    }

    /// What the gateway said of its bookings.
    fn turns(&self) -> Vec<[String; 2]> {
        let said = [
            ("  held until their turn", self.parked),
            ("  told to come later", self.deferred),
            ("  pushed back", self.pushed_back),
            ("tickets on time", self.tickets_on_time),
            ("tickets late", self.tickets_late),
            ("tickets early", self.tickets_early),
        ];
        said.into_iter().filter_map(|(name, count)| Some(row(name, grouped(count?)))).collect()
    }

    fn machine(&self) -> Vec<[String; 2]> {
        let mut rows = Vec::new();
        if let Some(server) = self.server {
            rows.push(row("server CPU a call", format!("{:.0} µs", server.cpu_us_per_call)));
            rows.push(row("server CPU in all", spoken_s(server.cpu_s)));
            rows.push(row(
                "authorized a CPU second",
                server.goodput_per_cpu_s.map_or_else(none, |per_s| grouped(per_s.round() as u64)),
            ));
            rows.push(row(
                "server memory, most",
                format!("{:.1} MiB", server.rss_bytes_max as f64 / 1_048_576.0),
            ));
        }
        rows.push(row("generator's lag at arrival, p99", spoken_s(self.start_lag_p99_s)));
        rows.push(row("generator's lag at a call, p99", spoken_s(self.generator_lateness_ms_p99 / 1e3)));
        rows
    }

    /// Percentiles, the first row their heading.
    pub(crate) fn times(&self) -> [[String; 6]; 3] {
        let line = |name: &str, percentiles: Option<Percentiles>, unit_s: f64| {
            let shown = percentiles.map_or_else(
                || std::array::from_fn(|_| none()),
                |p| [p.p50, p.p90, p.p99, p.p999, p.max].map(|value| spoken_s(value * unit_s)),
            );
            let [p50, p90, p99, p999, max] = shown;
            [name.to_owned(), p50, p90, p99, p999, max]
        };
        [
            ["", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned),
            line("a call, from its due time", self.call_latency_ms, 1e-3),
            line("arrival to grant", self.time_to_grant_s, 1.0),
        ]
    }
}
