//! The charts of timelines: one run's, or those of several side by side.

use crate::{
    figures::{grouped, spoken_s},
    over_admission::over_admission_max,
    page::{Chart, Kind, Series, Tone},
    timeline::{Admissions, CallsPerPod, Series as Counted, Timeline},
};

const SINCE_START: &str = "seconds since the start";
/// Buckets of a rate: as many as can be told apart on a phone.
const RATE_BUCKETS_MAX: usize = 120;

/// A run to be drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn<'a> {
    pub(super) name: &'a str,
    pub(super) tone: Tone,
    pub(super) timeline: &'a Timeline,
}

/// What no scheme that keeps the rate can be ahead of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Optimum {
    /// Seconds, and the most pods that can be authorized by then.
    pub(super) points: Vec<(f64, f64)>,
    /// When the last can be.
    pub(super) end_s: f64,
}

/// How many pods were authorized by when, against the optimum.
pub(super) fn authorized(runs: &[Drawn<'_>], optimum: Option<Optimum>) -> Chart {
    let told = |run: &Drawn<'_>| {
        let total: u64 = run.timeline.authorized.counts().iter().sum();
        let end_s = run.timeline.authorized.running_total().last().map_or(0.0, |(end_s, _)| end_s);
        match total {
            0 => format!("{}: no pod.", run.name),
            1 => format!("{}: 1 pod, by {}.", run.name, spoken_s(end_s)),
            total => format!("{}: {} pods, the last by {}.", run.name, grouped(total), spoken_s(end_s)),
        }
    };
    let mut note = sentences("Pods with a grant, by the time since the start.", runs, told);
    let end_s = latest(runs, |run| run.timeline.calls.running_total().last().map(|(end_s, _)| end_s));
    let mut series: Vec<Series> = runs
        .iter()
        .map(|run| {
            let totals = run.timeline.authorized.running_total().map(|(at_s, total)| (at_s, total as f64));
            rising(run, totals.collect(), end_s)
        })
        .collect();
    if let Some(optimum) = optimum {
        note += " The optimum ends at ";
        note += &spoken_s(optimum.end_s);
        note.push('.');
        series.push(reference("optimum", optimum.points));
    }
    Chart { title: "Authorized pods".to_owned(), note, x: SINCE_START, y: "pods", kind: Kind::Line, series }
}

/// Calls a second, as the server answered them or the pods gave them up.
pub(super) fn calls(runs: &[Drawn<'_>]) -> Chart {
    let joined = runs.iter().map(|run| run.timeline.calls.counts().len()).max().unwrap_or(0);
    let joined = joined.div_ceil(RATE_BUCKETS_MAX).max(1);
    let told = |run: &Drawn<'_>| {
        let total: u64 = run.timeline.calls.counts().iter().sum();
        let most = per_s(&run.timeline.calls, joined).map(|(_, per_s)| per_s).fold(0.0, f64::max);
        format!("{}: {} in all, at most {} a second.", run.name, grouped(total), grouped(most.round() as u64))
    };
    let bucket_s = runs.iter().map(|run| run.timeline.calls.bucket_s()).fold(0.0, f64::max) * joined as f64;
    let first = format!("Calls that came to their end, a second, over {} each.", spoken_s(bucket_s));
    Chart {
        title: "Calls a second".to_owned(),
        note: sentences(&first, runs, told),
        x: SINCE_START,
        y: "calls a second",
        kind: Kind::Step,
        series: runs.iter().map(|run| one(run, per_s(&run.timeline.calls, joined))).collect(),
    }
}

/// Begin and height of each step, over so many buckets each. A step lasts until the next; the last falls to zero.
fn per_s(counted: &Counted, joined: usize) -> impl Iterator<Item = (f64, f64)> {
    let width_s = counted.bucket_s() * joined as f64;
    let steps =
        counted.counts().chunks(joined).map(move |counts| counts.iter().sum::<u64>() as f64 / width_s);
    steps.chain(std::iter::once(0.0)).enumerate().map(move |(index, per_s)| (index as f64 * width_s, per_s))
}

/// How many pods made how many calls.
pub(super) fn calls_per_pod(runs: &[Drawn<'_>]) -> Chart {
    let told = |run: &Drawn<'_>| {
        let rows = &run.timeline.calls_per_pod;
        let most_often = rows.iter().max_by_key(|row| row.pods);
        match (rows.first(), most_often, rows.last()) {
            (Some(least), Some(often), Some(most)) if least.calls < most.calls => {
                format!("{}: {} to {} calls, most often {}.", run.name, least.calls, most.calls, often.calls)
            }
            (Some(least), ..) => format!("{}: {} each.", run.name, counted_calls(least.calls)),
            (None, ..) => format!("{}: no pod came to its end.", run.name),
        }
    };
    let points = |row: &CallsPerPod| (f64::from(row.calls), row.pods as f64);
    Chart {
        title: "Calls a pod".to_owned(),
        note: sentences("Pods, by the number of their calls.", runs, told),
        x: "calls of a pod",
        y: "pods",
        kind: Kind::Bars { width: 1.0 },
        series: runs.iter().map(|run| one(run, run.timeline.calls_per_pod.iter().map(points))).collect(),
    }
}

/// How many pods had their grant after how long.
pub(super) fn time_to_grant(runs: &[Drawn<'_>]) -> Chart {
    let told = |run: &Drawn<'_>| {
        let total: u64 = run.timeline.time_to_grant.iter().map(|bin| bin.count).sum();
        match within(run.timeline, total.div_ceil(2)).zip(within(run.timeline, total)) {
            Some((half_s, all_s)) => {
                format!(
                    "{}: half of them within {}, all within {}.",
                    run.name,
                    spoken_s(half_s),
                    spoken_s(all_s)
                )
            }
            None => format!("{}: no pod.", run.name),
        }
    };
    let end_s = latest(runs, |run| run.timeline.time_to_grant.last().map(|bin| bin.upper_s));
    Chart {
        title: "Time to grant".to_owned(),
        note: sentences("Pods that had their grant within so long of their arrival.", runs, told),
        x: "seconds since the pod's arrival",
        y: "pods",
        kind: Kind::Line,
        series: runs
            .iter()
            .map(|run| {
                let mut sum = 0;
                let sums = run.timeline.time_to_grant.iter().map(|bin| {
                    sum += bin.count;
                    (bin.upper_s, sum as f64)
                });
                rising(run, sums.collect(), end_s)
            })
            .collect(),
    }
}

/// How full the bucket was: each admission raises the level by one, and the rate lowers it again, never below zero. The
/// highest level is the largest n − R·Δ of all windows, which the burst bounds. None where nobody was admitted.
pub(super) fn rate(run: Drawn<'_>, of: &str) -> Option<Chart> {
    let Admissions { rate_per_s, burst, points, .. } = run.timeline.admissions.as_ref()?;
    let (end_s, total) = *points.last()?;
    let levels = levels(points, *rate_per_s);
    let highest = levels.iter().map(|(_, level)| *level).fold(0.0, f64::max);
    let bound = f64::from(*burst);
    let limit = bound + over_admission_max(*rate_per_s);
    Some(Chart {
        title: "Rate against its bound".to_owned(),
        note: format!(
            "How full the bucket {of} was, by the gateway's clock: each of {} admissions raises the level by one, and the \
             rate of {rate_per_s} a second lowers it. It came to {highest:.1}; the burst is {bound}, and {limit:.1} is never \
             passed, since booked turns may come a little late or early.",
            grouped(total),
        ),
        x: "seconds since the first admission",
        y: "tokens",
        kind: Kind::Line,
        series: vec![
            one(&run, levels.into_iter()),
            reference("burst", vec![(0.0, bound), (end_s, bound)]),
            Series {
                name: "never passed".to_owned(),
                tone: Tone::Vermillion,
                points: vec![(0.0, limit), (end_s, limit)],
            },
        ],
    })
}

/// The level after each admission.
fn levels(points: &[(f64, u64)], rate_per_s: f64) -> Vec<(f64, f64)> {
    let (mut level, mut before_s, mut before) = (0.0_f64, 0.0, 0);
    let after = points.iter().map(|(at_s, count)| {
        level = (level - rate_per_s * (at_s - before_s)).max(0.0) + (count - before) as f64;
        (before_s, before) = (*at_s, *count);
        (*at_s, level)
    });
    after.collect()
}

/// The slowest calls of the other apps; none where there were none.
pub(super) fn background(run: Drawn<'_>) -> Option<Chart> {
    let peaks: Vec<(f64, f64)> = run
        .timeline
        .background_worst_ms
        .as_ref()?
        .points()
        .filter_map(|(at_s, worst)| Some((at_s, worst?)))
        .collect();
    let (worst_at_s, worst_ms) = peaks.iter().copied().max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    Some(Chart {
        title: "The other apps' slowest calls".to_owned(),
        note: format!(
            "The slowest call of the background in each tenth of a second, by when it was due. The slowest of all took {}, \
             {} after the start.",
            spoken_s(worst_ms / 1e3),
            spoken_s(worst_at_s)
        ),
        x: SINCE_START,
        y: "milliseconds",
        kind: Kind::Line,
        series: vec![Series { name: "other apps".to_owned(), tone: Tone::Blue, points: peaks }],
    })
}

/// The end of the bin by which so many pods had their grant.
fn within(timeline: &Timeline, pods: u64) -> Option<f64> {
    let mut sum = 0;
    let reached = timeline.time_to_grant.iter().find(|bin| {
        sum += bin.count;
        sum >= pods
    });
    reached.filter(|_| pods > 0).map(|bin| bin.upper_s)
}

/// The latest of the runs' ends.
fn latest(runs: &[Drawn<'_>], end_s: impl Fn(&Drawn<'_>) -> Option<f64>) -> f64 {
    runs.iter().filter_map(end_s).fold(0.0, f64::max)
}

/// A sum over time, from zero on; after its last change it stays as it is, to the end of the chart.
fn rising(run: &Drawn<'_>, sums: Vec<(f64, f64)>, end_s: f64) -> Series {
    let (last_s, total) = sums.last().copied().unwrap_or_default();
    let rest = (last_s < end_s).then_some((end_s, total));
    one(run, std::iter::once((0.0, 0.0)).chain(sums).chain(rest))
}

fn one(run: &Drawn<'_>, points: impl Iterator<Item = (f64, f64)>) -> Series {
    Series { name: run.name.to_owned(), tone: run.tone, points: points.collect() }
}

fn reference(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.to_owned(), tone: Tone::Reference, points }
}

fn counted_calls(calls: u32) -> String {
    if calls == 1 { "1 call".to_owned() } else { format!("{} calls", grouped(u64::from(calls))) }
}

/// What the chart is, and then a sentence for each run; one that is alone needs no name.
fn sentences(first: &str, runs: &[Drawn<'_>], told: impl Fn(&Drawn<'_>) -> String) -> String {
    let told = runs.iter().map(|run| {
        let sentence = told(run);
        match (runs.len(), sentence.strip_prefix(run.name).and_then(|rest| rest.strip_prefix(": "))) {
            (1, Some(rest)) => capitalized(rest),
            _ => capitalized(&sentence),
        }
    });
    std::iter::once(first.to_owned()).chain(told).collect::<Vec<_>>().join(" ")
}

/// `podgate` is a name and stays as it is.
fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match letters.next() {
        Some(first) if !sentence.starts_with("podgate") => first.to_uppercase().chain(letters).collect(),
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
#[path = "charts_tests.rs"]
pub(crate) mod tests;
