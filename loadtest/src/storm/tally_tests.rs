//! What is counted, and as what.

use super::*;

fn authorized(admitted_at_ns: u64, freshness: Freshness) -> Authorized {
    Authorized {
        at: Duration::from_millis(admitted_at_ns),
        waited: Duration::from_millis(1),
        admission: Some(Admission { admitted_at_ns, sent_ns: 10, received_ns: 20, freshness }),
        grant_id: Some(admitted_at_ns.to_string()),
    }
}

#[test]
fn an_admission_lies_inside_its_call() {
    let mut tally = Tally::new(1, BootClock::Shared, None);
    for (at, outside) in [(10, 0), (20, 0), (9, 1), (21, 2)] {
        tally.authorized(0, 1, authorized(at, Freshness::Fresh));
        assert_eq!(tally.outside_call, Some(outside), "{at}");
    }
    tally.authorized(0, 1, authorized(5, Freshness::Repeated));
    assert_eq!(tally.outside_call, Some(2));
    tally.authorized(0, 1, authorized(21, Freshness::Repeated));
    assert_eq!((tally.outside_call, tally.repeated, tally.authorized), (Some(3), 2, 6));
    let mut foreign = Tally::new(1, BootClock::Foreign, None);
    foreign.authorized(0, 1, authorized(9, Freshness::Fresh));
    assert_eq!(foreign.outside_call, None);
}

#[test]
fn counts_ends_and_finds_the_worst_app() {
    let mut tally = Tally::new(2, BootClock::Foreign, Some(Duration::from_millis(12)));
    tally.authorized(0, 2, authorized(15, Freshness::Fresh));
    for _ in 0..4 {
        tally.authorized(1, 3, authorized(12, Freshness::Fresh));
    }
    tally.denied(1);
    tally.gave_up(GaveUp::Throttled, "rate", 16);
    tally.gave_up(GaveUp::Throttled, "other", 4);
    assert_eq!((tally.decided(), tally.gave_up_total(), tally.calls_per_pod_max), (8, 2, 16));
    assert_eq!(tally.gave_up_reasons[&GaveUp::Throttled], "rate");
    assert_eq!(tally.last_authorized, Duration::from_millis(15));
    // Those of the second app came within the time, the first's at 15 ms did not.
    assert_eq!(tally.authorized_in_time, 4);
    let bounds = tally.bounds(1.0, 3);
    assert!((bounds.over_admission - 1.0).abs() < 1e-6, "{bounds:?}");
    assert_eq!((bounds.violations, bounds.nearest.as_ref().map(|nearest| nearest.app)), (0, Some(1)));
    assert_eq!(tally.bounds(1.0, 2).violations, 1);
    let timeline = tally.timeline(&bounds);
    assert_eq!(timeline.authorized.counts(), [5]);
    let calls: Vec<_> = timeline.calls_per_pod.iter().map(|row| (row.calls, row.pods)).collect();
    assert_eq!(calls, [(1, 1), (2, 1), (3, 4), (4, 1), (16, 1)]);
    assert_eq!(tally.take_grants().len(), 5);
}
