//! A simulation's report for a person: words first, then the figures.

use crate::{
    figures::{grouped, spoken_s},
    over_admission::over_admission_max,
    simulate::report::SimulateReport,
    table::{self, none, row},
};

impl SimulateReport {
    /// For a person.
    pub fn render(&self) -> String {
        let mut lines = vec![String::new()];
        lines.extend(self.needed());
        lines.extend([self.story(), self.bound(), String::new(), table::render(&self.counts())]);
        lines.extend(self.excuse().map(|excuse| excuse + "\n"));
        let broken = self.broken();
        if !broken.is_empty() {
            lines.push("Broken:".to_owned());
            lines.extend(broken.into_iter().map(|sentence| format!("  {sentence}")));
            let told = self.storm.gave_up_examples.iter();
            lines.extend(told.map(|(why, told)| format!("  The first of the {why} gave up because {told}.")));
        }
        lines.join("\n").trim_end_matches('\n').to_owned() + "\n"
    }

    /// The answer to `--within`.
    pub(crate) fn needed(&self) -> Option<String> {
        let (rate, within_s) = (self.rate_needed.as_ref()?, self.within_s?);
        let each = match self.storm.apps {
            1 => "The app needs",
            _ => "Each app needs",
        };
        Some(format!(
            "{each} a rate of {rate} with a burst of {} for this storm to end within {}: {} at this rate, and later at the \
             next smaller one.",
            grouped(u64::from(self.storm.burst)),
            spoken_s(within_s),
            self.storm
                .completion_s
                .map_or_else(none, |completion_s| format!("after {}", spoken_s(completion_s))),
        ))
    }

    /// One sentence: what happened.
    pub(crate) fn story(&self) -> String {
        let storm = &self.storm;
        let arrived = format!(
            "Simulated, {} of {} arrived within {} (policy {}, seed {})",
            count(storm.pods, "pod"),
            count(storm.apps, "app"),
            spoken_s(storm.spread_s),
            storm.policy,
            storm.seed
        );
        let went = match self.no_shows {
            0 => String::new(),
            no_shows => format!("; {} went away", grouped(u64::from(no_shows))),
        };
        let all = if self.no_shows > 0 { "all that stayed" } else { "all" };
        let optimum = storm.optimum_s.map_or_else(none, spoken_s);
        match (storm.completion_s, storm.completion_ratio) {
            (Some(completion_s), Some(ratio)) => format!(
                "{arrived}{went}, and {all} were authorized, the last after {}: {ratio:.3} times the optimum of \
                 {optimum}, before which no scheme that keeps the rate can end.",
                spoken_s(completion_s),
            ),
            (Some(completion_s), None) => format!(
                "{arrived}{went}, but only {} were authorized, the last after {}, and {} gave up. The rate would have \
                 allowed all of them after {optimum}.",
                grouped(u64::from(storm.authorized)),
                spoken_s(completion_s),
                grouped(u64::from(storm.gave_up)),
            ),
            (None, _) => format!("{arrived}{went}, and none was authorized."),
        }
    }

    pub(crate) fn bound(&self) -> String {
        let storm = &self.storm;
        let limits = format!("{} a second and {} at once", storm.rate_per_s, grouped(u64::from(storm.burst)));
        if storm.rate_bound_violations > 0 {
            format!("Admissions passed a limit: {limits} for each app, or what all of them share.")
        } else if storm.over_admission > 0.0 {
            format!(
                "No app was admitted faster than its limit of {limits} allows, but for {} tokens of the {:.1} that booked \
                 turns may come late or early by.",
                storm.over_admission,
                over_admission_max(storm.rate_per_s)
            )
        } else {
            format!("No app was admitted faster than its limit of {limits} allows.")
        }
    }

    /// Why some that gave up are not held against the gateway.
    pub(crate) fn excuse(&self) -> Option<String> {
        (self.excused() > 0).then(|| {
            format!(
                "The budget of {} is shorter than the optimum: {} gave up at its end, as they had to.",
                spoken_s(self.budget_s),
                count(self.excused(), "pod"),
            )
        })
    }

    /// The promises that were broken, a sentence each.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.failed() > 0 {
            let reasons = self.storm.gave_up_reasons.iter();
            let reasons = reasons.map(|(why, count)| format!("{} {why}", grouped(u64::from(*count))));
            broken.push(format!(
                "{} stayed undecided: {}.",
                count(self.failed(), "pod"),
                reasons.collect::<Vec<_>>().join(", ")
            ));
        }
        if self.storm.rate_bound_violations > 0 {
            broken.push(format!(
                "Admissions passed {}, B + R·Δ + 0.2·R + 1; those of one app passed B + R·Δ by {} tokens.",
                count(self.storm.rate_bound_violations, "bound"),
                self.storm.over_admission
            ));
        }
        if self.tickets_refused_on_time > 0 {
            broken.push(format!(
                "{} tickets came in time and were refused.",
                grouped(self.tickets_refused_on_time)
            ));
        }
        broken
    }

    /// The figures, each with its name.
    pub(crate) fn counts(&self) -> Vec<[String; 2]> {
        let storm = &self.storm;
        let of = |count: u32| grouped(u64::from(count));
        let held = |count: Option<u64>| count.map_or_else(none, grouped);
        let mut rows = vec![
            row("pods", of(storm.pods)),
            row("  authorized", of(storm.authorized)),
            row("  gave up", of(storm.gave_up)),
            row("  went away", of(self.no_shows)),
            row("completion", storm.completion_s.map_or_else(none, spoken_s)),
            row("optimum", storm.optimum_s.map_or_else(none, spoken_s)),
            row(
                "completion / optimum",
                storm.completion_ratio.map_or_else(none, |ratio| format!("{ratio:.3}")),
            ),
            row("calls", grouped(storm.calls_total)),
            row("  a pod, mean", format!("{:.2}", storm.calls_per_pod_mean)),
            row("  a pod, most", of(storm.calls_per_pod_max)),
            row("  held until their turn", held(storm.parked)),
            row("  told to come later", held(storm.deferred)),
            row("  pushed back", held(storm.pushed_back)),
            row("tickets on time", held(storm.tickets_on_time)),
            row("  early", held(storm.tickets_early)),
            row("  late", held(storm.tickets_late)),
            row("  in time, and refused", grouped(self.tickets_refused_on_time)),
            row("over-admission, tokens", format!("{:.3}", storm.over_admission)),
        ];
        let mishaps = [
            ("containers that died", self.crashes),
            ("calls and answers lost", self.calls_lost),
            ("restarts of the gateway", self.restarts),
            ("told of an earlier grant", storm.repeated),
        ];
        let happened = mishaps.into_iter().filter(|(_, count)| *count > 0);
        rows.extend(happened.map(|(name, count)| row(name, of(count))));
        if let Some(percentiles) = storm.time_to_grant_s {
            let spoken = [percentiles.p50, percentiles.p99, percentiles.max].map(spoken_s);
            rows.push(row("arrival to grant, p50, p99, max", spoken.join(", ")));
        }
        rows
    }
}

/// `1 pod`, `2,000 pods`.
pub(crate) fn count(number: u32, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(u64::from(number))) }
}
