//! What charts show and say.

use std::time::Duration;

use super::*;
use crate::timeline::{Bin, Peaks};

/// Of three pods.
pub(crate) fn timeline() -> Timeline {
    let mut authorized = Counted::new();
    let mut calls = Counted::new();
    for at_ms in [50, 150, 160] {
        authorized.record(Duration::from_millis(at_ms));
        calls.record(Duration::from_millis(at_ms));
    }
    calls.record(Duration::from_millis(310));
    Timeline {
        authorized,
        calls,
        admissions: Some(Admissions::new(0, 10.0, 2, &[0, 50_000_000, 300_000_000])),
        time_to_grant: vec![
            Bin { upper_s: 0.1, count: 2 },
            Bin { upper_s: 0.2, count: 0 },
            Bin { upper_s: 0.3, count: 1 },
        ],
        calls_per_pod: vec![CallsPerPod { calls: 1, pods: 2 }, CallsPerPod { calls: 2, pods: 1 }],
        background_worst_ms: None,
    }
}

fn nothing() -> Timeline {
    Timeline {
        authorized: Counted::new(),
        calls: Counted::new(),
        admissions: None,
        time_to_grant: Vec::new(),
        calls_per_pod: Vec::new(),
        background_worst_ms: None,
    }
}

fn drawn(timeline: &Timeline) -> Drawn<'_> {
    Drawn { name: "podgate", tone: Tone::Green, timeline }
}

#[test]
fn a_run_alone_is_told_without_its_name() {
    let timeline = timeline();
    let runs = [drawn(&timeline)];
    let optimum = Optimum { points: vec![(0.0, 0.0), (0.1, 3.0)], end_s: 0.1 };
    let chart = authorized(&runs, Some(optimum));
    assert_eq!(
        chart.note,
        "Pods with a grant, by the time since the start. 3 pods, the last by 200 ms. The optimum ends at 100 ms."
    );
    assert_eq!(chart.series[0].points, [(0.0, 0.0), (0.1, 1.0), (0.2, 3.0), (0.4, 3.0)]);
    assert_eq!((chart.series[1].name.as_str(), chart.series[1].tone), ("optimum", Tone::Reference));

    let chart = calls(&runs);
    assert_eq!(
        chart.note,
        "Calls that came to their end, a second, over 100 ms each. 4 in all, at most 20 a second."
    );
    let last = chart.series[0].points.last().copied();
    assert_eq!(last, Some((0.4, 0.0)));

    assert_eq!(calls_per_pod(&runs).note, "Pods, by the number of their calls. 1 to 2 calls, most often 1.");

    let chart = time_to_grant(&runs);
    assert_eq!(
        chart.note,
        "Pods that had their grant within so long of their arrival. Half of them within 100 ms, all within 300 ms."
    );
    assert_eq!(chart.series[0].points, [(0.0, 0.0), (0.1, 2.0), (0.2, 2.0), (0.3, 3.0)]);
}

#[test]
fn several_runs_are_told_by_name() {
    let (full, empty) = (timeline(), nothing());
    let runs = [Drawn { name: "full jitter", tone: Tone::Blue, timeline: &empty }, drawn(&full)];
    assert_eq!(
        authorized(&runs, None).note,
        "Pods with a grant, by the time since the start. Full jitter: no pod. podgate: 3 pods, the last by 200 ms."
    );
    assert!(time_to_grant(&runs).note.contains("Full jitter: no pod. podgate: half"));
    assert!(calls_per_pod(&runs).note.contains("Full jitter: no pod came to its end. podgate: 1 to 2"));
    let tones: Vec<_> = calls(&runs).series.iter().map(|series| series.tone).collect();
    assert_eq!(tones, [Tone::Blue, Tone::Green]);
}

#[test]
fn a_rate_stands_against_its_bound() {
    let timeline = timeline();
    let chart = rate(drawn(&timeline), "for one app").unwrap();
    assert_eq!(
        chart.note,
        "How full the bucket for one app was, by the gateway's clock: each of 3 admissions raises the level by one, and the \
         rate of 10 a second lowers it. It came to 1.5; the burst is 2, and 5.0 is never passed, since booked turns may come \
         a little late or early."
    );
    assert_eq!(chart.series[0].points, [(0.0, 1.0), (0.05, 1.5), (0.3, 1.0)]);
    assert_eq!(chart.series[1].points, [(0.0, 2.0), (0.3, 2.0)]);
    assert_eq!(chart.series[2].points, [(0.0, 5.0), (0.3, 5.0)]);
    assert_eq!(rate(drawn(&nothing()), ""), None);
}

#[test]
fn the_background_is_shown_where_there_is_one() {
    let mut timeline = nothing();
    assert_eq!(background(drawn(&timeline)), None);
    let mut peaks = Peaks::new();
    peaks.record(Duration::from_millis(10), 4.0);
    peaks.record(Duration::from_millis(250), 12.0);
    timeline.background_worst_ms = Some(peaks);
    let chart = background(drawn(&timeline)).unwrap();
    assert!(chart.note.ends_with("The slowest of all took 12 ms, 200 ms after the start."), "{}", chart.note);
    assert_eq!(chart.series[0].points, [(0.0, 4.0), (0.2, 12.0)]);
}

#[test]
fn long_runs_are_drawn_with_few_steps_that_lose_no_call() {
    let mut timeline = nothing();
    for second in 0..60 {
        timeline.calls.record(Duration::from_millis(second * 1000 + 10));
    }
    let chart = calls(&[drawn(&timeline)]);
    let points = &chart.series[0].points;
    assert!(points.len() <= RATE_BUCKETS_MAX + 1, "{}", points.len());
    let (step_s, _) = points[1];
    let calls: f64 = points.iter().map(|(_, per_s)| per_s * step_s).sum();
    assert!((calls - 60.0).abs() < 1e-6, "{calls}");
}

#[test]
fn a_run_that_stops_early_stays_where_it_is() {
    let (short, long) = (timeline(), {
        let mut long = nothing();
        long.calls.record(Duration::from_secs(9));
        long
    });
    let chart = authorized(&[drawn(&short), drawn(&long)], None);
    assert_eq!(chart.series[0].points.last(), Some(&(9.1, 3.0)));
    assert_eq!(chart.series[1].points, [(0.0, 0.0), (9.1, 0.0)]);
}
