//! A watch's report.

use std::{collections::HashMap, time::Instant};

use serde::Serialize;

use crate::{
    cli::WatchArgs,
    figures::{Durations, Percentiles, grouped, rounded, spoken_s},
    watch::{
        changes::Made,
        watcher::{Followed, Snapshot},
    },
};

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WatchReport {
    /// Grants that the gateway held when the watcher came.
    pub grants: u32,
    /// Grants that the snapshot told.
    pub snapshot_grants: u64,
    /// From the watch's beginning to the end of its snapshot.
    pub snapshot_s: f64,
    /// Changes a second that were asked for.
    pub changes_asked_per_s: u32,
    /// Changes a second of which the watcher was told while they were made.
    pub changes_per_s: f64,
    /// From the answer that a grant is made to the watcher's hearing of it; nothing where it heard before.
    pub lag_ms: Option<Percentiles>,
    /// Grants that were made and of which the watcher never heard.
    pub missed: u64,
}

impl WatchReport {
    pub(crate) fn new(
        args: &WatchArgs,
        snapshot: Snapshot,
        followed: Followed,
        seen: &HashMap<String, Instant>,
        made: &Made,
    ) -> Self {
        let (mut lag, mut missed) = (Durations::new(), 0);
        for (id, answered_at) in &made.answered_at {
            match seen.get(id) {
                Some(at) => lag.record(at.saturating_duration_since(*answered_at)),
                None => missed += 1,
            }
        }
        Self {
            grants: args.grants,
            snapshot_grants: snapshot.grants,
            snapshot_s: rounded(snapshot.lasted.as_secs_f64()),
            changes_asked_per_s: args.changes.get(),
            changes_per_s: rounded(followed.changes as f64 / made.lasted.as_secs_f64().max(f64::EPSILON)),
            lag_ms: lag.percentiles(1e3),
            missed,
        }
    }

    /// Whether the watcher heard of everything.
    pub fn is_whole(&self) -> bool {
        self.missed == 0 && self.snapshot_grants == u64::from(self.grants)
    }

    /// For a person.
    pub fn render(&self) -> String {
        let snapshot = format!(
            "\nA new watcher had {} of {} grants after {}.\n",
            grouped(self.snapshot_grants),
            grouped(u64::from(self.grants)),
            spoken_s(self.snapshot_s)
        );
        let lag = self.lag_ms.map_or_else(String::new, |lag| {
            format!(
                ", 99 % of the new grants at most {} after they were answered, the last {}",
                spoken_s(lag.p99 / 1e3),
                spoken_s(lag.max / 1e3)
            )
        });
        let followed = format!(
            "Then it was told {} changes a second of {} asked for{lag}.\n",
            grouped(self.changes_per_s.round() as u64),
            grouped(u64::from(self.changes_asked_per_s)),
        );
        let missed = match self.missed {
            0 => String::new(),
            missed => format!("It never heard of {} grants that were made.\n", grouped(missed)),
        };
        snapshot + &followed + &missed
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::clock;

    #[test]
    fn what_was_missed_is_told_and_is_no_success() {
        let args = WatchArgs {
            grants: 1_000_000,
            changes: NonZeroU32::new(5_000).unwrap(),
            duration: Duration::from_secs(2),
            workers: NonZeroU32::MIN,
            seed: 1,
            json: None,
        };
        let now = clock::now();
        let answered_at = ["a", "b", "c"].map(|id| (id.to_owned(), now)).into();
        let made = Made { answered_at, lasted: Duration::from_secs(2) };
        let seen = HashMap::from([("a".to_owned(), now), ("b".to_owned(), now + Duration::from_millis(8))]);
        let snapshot = Snapshot { lasted: Duration::from_millis(4_200), grants: 1_000_000 };
        let report = WatchReport::new(&args, snapshot, Followed { changes: 10_000 }, &seen, &made);
        assert_eq!((report.missed, report.changes_per_s), (1, 5_000.0));
        assert!(!report.is_whole());
        let text = report.render();
        assert!(text.contains("had 1,000,000 of 1,000,000 grants after 4.20 s"), "{text}");
        assert!(text.contains("never heard of 1 grants"), "{text}");
    }
}
