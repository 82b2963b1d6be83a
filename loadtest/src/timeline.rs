//! What happened when: the series of one run, bounded, for whoever draws them.

use std::time::Duration;

use serde::Serialize;

/// Width of a bucket, until a run is so long that there would be more than [`POINTS_MAX`].
const BUCKET: Duration = Duration::from_millis(100);
/// Most points of a series.
pub const POINTS_MAX: usize = 20_000;

/// The series of one run. Times count from its start, the moment before which no pod arrives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    /// Pods that were told of their grant.
    pub authorized: Series,
    /// Calls that were answered, with whatever.
    pub calls: Series,
    /// Admissions of the app that came nearest its bound, or passed it furthest; none where nobody was admitted.
    pub admissions: Option<Admissions>,
    /// From a pod's arrival to its grant: equally wide bins from zero on, empty ones too; none where none was granted.
    pub time_to_grant: Vec<Bin>,
    /// How many pods made how many calls, by rising number of calls, for pods that came to an end.
    pub calls_per_pod: Vec<CallsPerPod>,
    /// The slowest call of the background in each bucket, in milliseconds, by when it was due; none where there was no
    /// background. The storm begins at zero; what was before it is not shown.
    pub background_worst_ms: Option<Peaks>,
}

/// Events counted in buckets of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Series {
    bucket_s: f64,
    counts: Vec<u64>,
}

impl Series {
    /// Without any event.
    pub fn new() -> Self {
        Self { bucket_s: BUCKET.as_secs_f64(), counts: Vec::new() }
    }

    /// Counts an event, so long after the start.
    pub fn record(&mut self, at: Duration) {
        *bucket_of(at, &mut self.bucket_s, &mut self.counts, |earlier, later| earlier + later) += 1;
    }

    /// Width of a bucket, in seconds. The first begins at the start.
    pub fn bucket_s(&self) -> f64 {
        self.bucket_s
    }

    /// Events in each bucket, at most [`POINTS_MAX`]; after the last there were none.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Begin of each bucket in seconds, and its events a second.
    pub fn per_s(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        (self.counts.iter().enumerate())
            .map(|(index, count)| (index as f64 * self.bucket_s, *count as f64 / self.bucket_s))
    }

    /// End of each bucket in seconds, and the events up to then.
    pub fn running_total(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut total = 0;
        self.counts.iter().enumerate().map(move |(index, count)| {
            total += count;
            ((index + 1) as f64 * self.bucket_s, total)
        })
    }
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}

/// The largest value in each of equally wide buckets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Peaks {
    bucket_s: f64,
    values: Vec<Option<f64>>,
}

impl Peaks {
    /// Without any value.
    pub fn new() -> Self {
        Self { bucket_s: BUCKET.as_secs_f64(), values: Vec::new() }
    }

    /// Takes a value, so long after the start.
    pub fn record(&mut self, at: Duration, value: f64) {
        let bucket = bucket_of(at, &mut self.bucket_s, &mut self.values, larger);
        *bucket = larger(*bucket, Some(value));
    }

    /// Begin of each bucket in seconds, and its largest value; none where there was no value in it.
    pub fn points(&self) -> impl Iterator<Item = (f64, Option<f64>)> + '_ {
        self.values.iter().enumerate().map(|(index, value)| (index as f64 * self.bucket_s, *value))
    }
}

impl Default for Peaks {
    fn default() -> Self {
        Self::new()
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// The bucket of an instant. Where there would be too many, all become twice as wide first.
fn bucket_of<'a, T: Copy + Default>(
    at: Duration,
    bucket_s: &mut f64,
    buckets: &'a mut Vec<T>,
    join: impl Fn(T, T) -> T,
) -> &'a mut T {
    while at.as_secs_f64() / *bucket_s >= POINTS_MAX as f64 {
        *bucket_s *= 2.0;
        let joined =
            buckets.chunks(2).map(|pair| pair[1..].iter().fold(pair[0], |sum, next| join(sum, *next)));
        *buckets = joined.collect();
    }
    let index = (at.as_secs_f64() / *bucket_s) as usize;
    if index >= buckets.len() {
        buckets.resize(index + 1, T::default());
    }
    &mut buckets[index]
}

/// The admissions of one app against its bound, B + R·t.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Admissions {
    /// Index of the app.
    pub app: u32,
    /// Its rate.
    pub rate_per_s: f64,
    /// Its burst.
    pub burst: u32,
    /// Seconds since its first admission, and admissions up to then, with that one; the first and the last are
    /// always there, in between every k-th where there are more than [`POINTS_MAX`].
    pub points: Vec<(f64, u64)>,
}

impl Admissions {
    /// Of the app, from its instants in rising order.
    pub fn new(app: u32, rate_per_s: f64, burst: u32, admitted_at_ns: &[u64]) -> Self {
        let first_ns = admitted_at_ns.first().copied().unwrap_or(0);
        let every = admitted_at_ns.len().div_ceil(POINTS_MAX - 1).max(1);
        let last = admitted_at_ns.len().saturating_sub(1);
        let points = (admitted_at_ns.iter().enumerate())
            .filter(|(index, _)| index % every == 0 || *index == last)
            .map(|(index, at_ns)| (at_ns.saturating_sub(first_ns) as f64 / 1e9, index as u64 + 1))
            .collect();
        Self { app, rate_per_s, burst, points }
    }
}

/// How many values lie between the end of the bin before and this end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bin {
    /// End of the bin, in seconds.
    pub upper_s: f64,
    /// Values in it.
    pub count: u64,
}

/// So many pods made so many calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CallsPerPod {
    /// Calls; the last row also stands for pods that made more.
    pub calls: u32,
    /// Pods.
    pub pods: u64,
}

/// Most rows of [`Timeline::calls_per_pod`]; those with more calls are in the last.
const CALLS_MAX: usize = 100;

/// Counts pods by their calls.
#[derive(Debug, Clone, Default)]
pub struct CallCounts(Vec<u64>);

impl CallCounts {
    /// A pod came to its end after so many calls.
    pub fn record(&mut self, calls: u32) {
        let index = (calls as usize).min(CALLS_MAX);
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] += 1;
    }

    /// The rows that are not empty.
    pub fn rows(&self) -> Vec<CallsPerPod> {
        let row = |(calls, pods): (usize, &u64)| CallsPerPod { calls: calls as u32, pods: *pods };
        self.0.iter().enumerate().filter(|(_, pods)| **pods > 0).map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_counts_and_never_grows_beyond_its_bound() {
        let mut series = Series::new();
        for at_ms in [0, 99, 100, 350] {
            series.record(Duration::from_millis(at_ms));
        }
        assert_eq!(series.counts(), [2, 1, 0, 1]);
        assert_eq!(series.running_total().last(), Some((0.4, 4)));
        assert!(
            series.per_s().next().is_some_and(|(at_s, per_s)| at_s == 0.0 && (per_s - 20.0).abs() < 1e-9)
        );
        series.record(Duration::from_hours(7 * 24));
        assert!(series.counts().len() <= POINTS_MAX, "{}", series.counts().len());
        assert_eq!((series.counts()[0], series.counts().iter().sum::<u64>()), (4, 5));
        series.record(Duration::from_secs(1));
        assert_eq!(series.counts()[0], 5);
    }

    #[test]
    fn peaks_keep_the_largest_and_tell_nothing_from_zero() {
        let mut peaks = Peaks::new();
        for (at_ms, value) in [(10, 3.0), (20, 7.0), (30, 5.0), (250, 0.0)] {
            peaks.record(Duration::from_millis(at_ms), value);
        }
        let values: Vec<_> = peaks.points().map(|(_, value)| value).collect();
        assert_eq!(values, [Some(7.0), None, Some(0.0)]);
        peaks.record(Duration::from_secs(2000), 1.0);
        assert_eq!(peaks.points().next(), Some((0.0, Some(7.0))));
        assert_eq!(peaks.points().count(), 10_001);
    }

    #[test]
    fn admissions_are_thinned_without_losing_count_or_end() {
        let at_ns: Vec<u64> = (0..50_001).map(|index| 7_000_000_000 + index * 1_000_000).collect();
        let admissions = Admissions::new(3, 50.0, 20, &at_ns);
        assert!(admissions.points.len() <= POINTS_MAX, "{}", admissions.points.len());
        assert_eq!(admissions.points.first(), Some(&(0.0, 1)));
        assert_eq!(admissions.points.last(), Some(&(50.0, 50_001)));
        assert!(admissions.points.is_sorted_by(|one, next| one.1 < next.1));
        assert_eq!(Admissions::new(0, 1.0, 1, &at_ns[..3]).points.len(), 3);
        assert_eq!(Admissions::new(0, 1.0, 1, &[]).points, []);
    }

    #[test]
    fn pods_are_counted_by_calls() {
        let mut counts = CallCounts::default();
        for calls in [1, 2, 2, 5000, 100] {
            counts.record(calls);
        }
        let rows: Vec<_> = counts.rows().iter().map(|row| (row.calls, row.pods)).collect();
        assert_eq!(rows, [(1, 1), (2, 2), (100, 2)]);
    }
}
