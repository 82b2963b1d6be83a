//! What the background went through, counted by phase: before the storm, while it lasts, after a spike.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    figures::{Durations, rounded},
    storm::recovery::Recovery,
    timeline::Peaks,
};

/// Everything counted.
#[derive(Debug, Default)]
pub(crate) struct BackgroundTally {
    idle: Phase,
    storm: Phase,
    after_spike: Recovery,
    /// None: the storm is still to come.
    begin: Option<Instant>,
    /// End of an overload; a storm's background ends with it.
    spike_end: Option<Instant>,
    /// Pods that were authorized from the storm's beginning on, and those before the end of a spike.
    pub(crate) authorized: u64,
    pub(crate) authorized_in_time: u64,
    /// Calls that reached the server from the storm's beginning on.
    pub(crate) calls_total: u64,
    /// How late calls were begun.
    pub(crate) lateness: Durations,
    pub(crate) worst_ms: Peaks,
    grants: Vec<String>,
}

#[derive(Debug, Default)]
struct Phase {
    calls: u64,
    authorized: u64,
    latency: Durations,
}

/// What the background's pods were served like. Each made one request, with a budget of 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BackgroundFigures {
    /// Share of the pods during the storm that were authorized; null where none came.
    pub success: Option<f64>,
    /// From when a pod was due to its grant, or its giving up, during the storm.
    pub p99_ms: Option<f64>,
    /// The same before the storm.
    pub idle_p99_ms: Option<f64>,
    /// Pods during the storm.
    pub calls: u64,
    /// Pods before it.
    pub idle_calls: u64,
    /// Share of those that were authorized.
    pub idle_success: Option<f64>,
}

enum When {
    Idle,
    Storm(Duration),
    AfterSpike { since_begin: Duration, since_spike: Duration },
}

impl BackgroundTally {
    /// The storm begins, and ends at `spike_end`, if that is known.
    pub(crate) fn begin_storm(&mut self, begin: Instant, spike_end: Option<Instant>) {
        (self.begin, self.spike_end) = (Some(begin), spike_end);
    }

    /// A call begins that was due at `due`, so much later.
    pub(crate) fn begun(&mut self, due: Instant, lateness: Duration) {
        self.lateness.record(lateness);
        if let When::AfterSpike { since_spike, .. } = self.when(due) {
            self.after_spike.begun(since_spike);
        }
    }

    /// A call that was due at `due` ended: after so long, with so many calls of its client, and with that grant.
    pub(crate) fn ended(&mut self, due: Instant, took: Duration, calls: u32, grant_id: Option<String>) {
        let is_authorized = grant_id.is_some();
        self.grants.extend(grant_id.filter(|id| !id.is_empty()));
        let since_begin = match self.when(due) {
            When::Idle => return self.idle.ended(took, is_authorized),
            When::Storm(since_begin) => {
                self.storm.ended(took, is_authorized);
                since_begin
            }
            When::AfterSpike { since_begin, since_spike } => {
                self.after_spike.ended(since_spike, is_authorized.then_some(took));
                since_begin
            }
        };
        self.calls_total += u64::from(calls);
        self.worst_ms.record(since_begin, rounded(took.as_secs_f64() * 1e3));
        self.authorized += u64::from(is_authorized);
        let in_time = self.spike_end.is_some_and(|end| due + took <= end);
        self.authorized_in_time += u64::from(is_authorized && in_time);
    }

    /// From the end of the spike until it was served as before; `None` where that is not so, or there was none.
    pub(crate) fn recovery(&self) -> Option<Duration> {
        let idle_p99_us = self.idle.latency.quantile_us(0.99)?;
        self.after_spike.after(Duration::from_secs_f64(idle_p99_us / 1e6))
    }

    pub(crate) fn figures(&self) -> BackgroundFigures {
        BackgroundFigures {
            success: self.storm.success(),
            p99_ms: self.storm.p99_ms(),
            idle_p99_ms: self.idle.p99_ms(),
            calls: self.storm.calls,
            idle_calls: self.idle.calls,
            idle_success: self.idle.success(),
        }
    }

    /// The ids of all grants that were told, once.
    pub(crate) fn take_grants(&mut self) -> Vec<String> {
        std::mem::take(&mut self.grants)
    }

    fn when(&self, due: Instant) -> When {
        match (self.begin, self.spike_end) {
            (Some(begin), Some(end)) if due >= end => {
                When::AfterSpike { since_begin: due - begin, since_spike: due - end }
            }
            (Some(begin), _) if due >= begin => When::Storm(due - begin),
            (Some(_) | None, _) => When::Idle,
        }
    }
}

impl Phase {
    fn ended(&mut self, took: Duration, is_authorized: bool) {
        self.calls += 1;
        self.authorized += u64::from(is_authorized);
        self.latency.record(took);
    }

    /// To five digits: 99.9 % has to be told from less.
    fn success(&self) -> Option<f64> {
        (self.calls > 0).then(|| (self.authorized as f64 / self.calls as f64 * 1e5).round() / 1e5)
    }

    fn p99_ms(&self) -> Option<f64> {
        self.latency.quantile_us(0.99).map(|us| rounded(us / 1e3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::call_watch::NowByClock as _;

    #[test]
    fn a_call_belongs_to_the_phase_in_which_it_was_due() {
        let (ms, granted) = (Duration::from_millis, || Some("g".to_owned()));
        let begin = Instant::now_by_clock() + Duration::from_secs(60);
        let mut tally = BackgroundTally::default();
        tally.begun(begin - ms(900), ms(3));
        tally.ended(begin - ms(900), ms(2), 1, granted());
        tally.begin_storm(begin, Some(begin + ms(1000)));
        // Ends in the storm, but was due before.
        tally.ended(begin - ms(1), ms(50), 2, granted());
        tally.ended(begin, ms(10), 1, granted());
        tally.ended(begin + ms(1), ms(5000), 3, None);
        // Authorized, but after the end of the spike.
        tally.ended(begin + ms(999), ms(10), 1, granted());
        for due in [1000, 1250, 1500, 1750] {
            tally.begun(begin + ms(due), ms(0));
            tally.ended(begin + ms(due), ms(30), 1, granted());
        }
        let figures = tally.figures();
        assert_eq!((figures.idle_calls, figures.calls), (2, 3));
        assert_eq!((figures.success, figures.idle_success), (Some(0.66667), Some(1.0)));
        assert!(
            figures.p99_ms.is_some_and(|p99| p99 > 4990.0)
                && figures.idle_p99_ms.is_some_and(|p99| p99 < 51.0)
        );
        assert_eq!((tally.authorized, tally.authorized_in_time, tally.calls_total), (6, 1, 9));
        assert_eq!(tally.recovery(), Some(Duration::ZERO));
        assert_eq!((tally.take_grants().len(), tally.lateness.count()), (8, 5));
        assert_eq!(BackgroundTally::default().figures().success, None);
    }
}
