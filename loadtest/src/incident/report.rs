//! An incident's report: the figures of its three runs, and the same for a person, words first.

use std::time::Duration;

use serde::Serialize;

use crate::{
    cli::incident::IncidentArgs,
    figures::{Percentiles, grouped, rounded, spoken_s},
    incident::counts::Counts,
    storm::report::StormReport,
    table::{self, none},
    timeline::Timeline,
};

/// The report. Its keys are a contract with scripts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IncidentReport {
    /// A plain ACL service, immediate retries.
    pub immediate: Run,
    /// A plain ACL service, full jitter.
    pub jitter: Run,
    /// podgate.
    pub podgate: Run,
    /// Time that the backend takes for each grant.
    #[serde(skip)]
    pub backend_time: Duration,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The figures of a storm. `optimum_s` is what the backend needs for as many grants as there are pods.
    #[serde(flatten)]
    pub storm: StormReport,
    /// Grants that the backend put in force, each with its work, until the last pod came to its end.
    pub backend_grants: u64,
    /// Grants that it had still to do then: for nobody, since no pod was left.
    pub backend_waiting: u64,
    /// Share of its work of which no pod learned, since the caller had given up when it was done; null where it did
    /// none.
    pub backend_work_wasted: Option<f64>,
    /// What happened when.
    #[serde(skip)]
    pub timeline: Timeline,
}

impl Run {
    pub(crate) fn new(
        args: &IncidentArgs,
        mut storm: StormReport,
        timeline: Timeline,
        counts: Counts,
    ) -> Self {
        let work_s = args.backend_time.as_secs_f64() * f64::from(args.pods.get());
        let optimum_s = rounded(work_s.max(args.spread.as_secs_f64()));
        storm.optimum_s = Some(optimum_s);
        storm.completion_ratio = storm
            .completion_s
            .filter(|_| storm.authorized == storm.pods)
            .map(|completion_s| rounded(completion_s / optimum_s));
        let wasted = counts.done.saturating_sub(u64::from(storm.authorized));
        Self {
            storm,
            backend_grants: counts.done,
            backend_waiting: counts.waiting,
            backend_work_wasted: (counts.done > 0).then(|| rounded(wasted as f64 / counts.done as f64)),
            timeline,
        }
    }

    /// Who got through and after how long, with how many calls, and what of the backend's work was wasted.
    fn story(&self) -> String {
        let storm = &self.storm;
        let through = match storm.completion_s {
            None => format!("none of {} pods got through", grouped(u64::from(storm.pods))),
            Some(completion_s) if storm.authorized == storm.pods => {
                format!(
                    "all {} pods got through, the last after {}",
                    grouped(u64::from(storm.pods)),
                    spoken_s(completion_s)
                )
            }
            Some(completion_s) => format!(
                "{} of {} pods got through, the last of them after {}, and {} gave up",
                grouped(u64::from(storm.authorized)),
                grouped(u64::from(storm.pods)),
                spoken_s(completion_s),
                grouped(u64::from(storm.gave_up))
            ),
        };
        let wasted = match self.backend_work_wasted {
            Some(share) => format!("{} of the backend's work was for nobody", percent(share)),
            None => "the backend did nothing".to_owned(),
        };
        format!("{through}, with {:.2} calls a pod; {wasted}", storm.calls_per_pod_mean)
    }
}

impl IncidentReport {
    /// The runs with their names, in order.
    pub fn runs(&self) -> [(&'static str, &Run); 3] {
        [("immediate retries", &self.immediate), ("full jitter", &self.jitter), ("podgate", &self.podgate)]
    }

    /// What the backend's work for all pods takes; no way to ask can be through earlier.
    pub fn optimum_s(&self) -> f64 {
        let work_s = self.backend_time.as_secs_f64() * f64::from(self.podgate.storm.pods);
        rounded(work_s.max(self.podgate.storm.spread_s))
    }

    /// The promises that were broken, a sentence each: podgate's. That the others collapse is what is shown.
    pub fn broken(&self) -> Vec<String> {
        self.podgate.storm.broken()
    }

    /// What happened, in one sentence.
    pub fn sentence(&self) -> String {
        let count = |run: &Run| grouped(u64::from(run.storm.authorized));
        let podgate = match self.podgate.storm.completion_s {
            Some(completion_s) => format!(
                "{} got through, the last after {}",
                if self.podgate.storm.authorized == self.podgate.storm.pods {
                    "all".to_owned()
                } else {
                    count(&self.podgate)
                },
                spoken_s(completion_s)
            ),
            None => "none got through".to_owned(),
        };
        format!(
            "Of {} pods at once before a backend that needs {} for each grant, {} got through a plain ACL service with \
             immediate retries and {} with full jitter; with podgate before the same backend {podgate}, where the \
             backend's work alone takes {}.",
            grouped(u64::from(self.podgate.storm.pods)),
            spoken_s(self.backend_time.as_secs_f64()),
            count(&self.immediate),
            count(&self.jitter),
            spoken_s(self.optimum_s())
        )
    }

    /// A sentence for each run.
    pub fn stories(&self) -> [String; 3] {
        [
            format!("A plain ACL service, immediate retries: {}.", self.immediate.story()),
            format!("A plain ACL service, full jitter: {}.", self.jitter.story()),
            format!("podgate: {}.", self.podgate.story()),
        ]
    }

    /// The runs that say nothing, since the load tester itself was too late: a sentence each.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let doubt = |(name, run): (&str, &Run)| Some(format!("{name}: {}", run.storm.doubt()?));
        self.runs().into_iter().filter_map(doubt).collect()
    }

    /// The figures side by side, the first row their heading.
    pub fn figures(&self) -> [[String; 4]; 14] {
        let row = |name: &str, cell: fn(&Run) -> String| {
            [name.to_owned(), cell(&self.immediate), cell(&self.jitter), cell(&self.podgate)]
        };
        let names = self.runs().map(|(name, _)| name.to_owned());
        let [immediate, jitter, podgate] = names;
        [
            [String::new(), immediate, jitter, podgate],
            row("pods", |run| grouped(u64::from(run.storm.pods))),
            row("authorized", |run| grouped(u64::from(run.storm.authorized))),
            row("gave up", |run| grouped(u64::from(run.storm.gave_up))),
            row("completion", |run| run.storm.completion_s.map_or_else(none, spoken_s)),
            row("optimum", |run| run.storm.optimum_s.map_or_else(none, spoken_s)),
            row("time to grant, median", |run| to_grant(run, |times| times.p50)),
            row("time to grant, p99", |run| to_grant(run, |times| times.p99)),
            row("calls", |run| grouped(run.storm.calls_total)),
            row("calls a pod, mean", |run| format!("{:.2}", run.storm.calls_per_pod_mean)),
            row("calls a pod, most", |run| grouped(u64::from(run.storm.calls_per_pod_max))),
            row("backend's grants", |run| grouped(run.backend_grants)),
            row("of these wasted", |run| run.backend_work_wasted.map_or_else(none, percent)),
            row("still queued for nobody", |run| grouped(run.backend_waiting)),
        ]
    }

    /// For a person.
    pub fn render(&self) -> String {
        let mut lines = vec![String::new()];
        lines.extend(self.stories());
        lines.extend([String::new(), table::render(&self.figures())]);
        let broken = self.broken();
        if !broken.is_empty() {
            lines.push("Broken by podgate:".to_owned());
            lines.extend(broken.into_iter().map(|sentence| format!("  {sentence}")));
        }
        lines.extend(self.doubts());
        lines.join("\n").trim_end_matches('\n').to_owned() + "\n"
    }
}

fn to_grant(run: &Run, quantile: impl Fn(Percentiles) -> f64) -> String {
    run.storm.time_to_grant_s.map_or_else(none, |times| spoken_s(quantile(times)))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
#[path = "report_tests.rs"]
pub(crate) mod tests;
