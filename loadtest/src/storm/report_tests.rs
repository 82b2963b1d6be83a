//! Exact reports.

use super::*;

fn percentiles(p50: f64) -> Percentiles {
    Percentiles { p50, p90: p50 * 2.0, p99: p50 * 4.0, p999: p50 * 5.0, max: p50 * 8.0 }
}

/// A storm that held.
pub(crate) fn all_authorized() -> StormReport {
    StormReport {
        pods: 2000,
        authorized: 2000,
        denied: 0,
        gave_up: 0,
        completion_s: Some(3.209),
        optimum_s: Some(1.602),
        completion_ratio: Some(2.003),
        calls_total: 5123,
        calls_per_pod_mean: 2.562,
        calls_per_pod_max: 5,
        over_admission: 0.0,
        call_latency_ms: Some(percentiles(1.5)),
        time_to_grant_s: Some(percentiles(0.4)),
        server: Some(ServerFigures {
            cpu_us_per_call: 182.4,
            rss_bytes_max: 64 << 20,
            cpu_s: 0.934,
            goodput_per_cpu_s: Some(2141.328),
        }),
        seed: 1,
        policy: "booked",
        parked: Some(1200),
        deferred: Some(300),
        pushed_back: Some(0),
        tickets_on_time: Some(299),
        tickets_late: Some(1),
        tickets_early: Some(40),
        goodput_per_s: Some(623.247),
        rate_bound_violations: 0,
        generator_lateness_ms_p99: 1.5,
        background: None,
        overload: None,
        goodput_ratio: None,
        recovery_s: None,
        apps: 20,
        spread_s: 1.0,
        rate_per_s: 50.0,
        burst: 20,
        repeated: 0,
        admitted_outside_call: Some(0),
        gave_up_reasons: BTreeMap::new(),
        gave_up_examples: BTreeMap::new(),
        start_lag_p99_s: 0.002,
        pinned: false,
        cpu_quota: None,
        gateway_killed: Killed::Never,
        grants_lost: None,
    }
}

#[test]
fn a_storm_that_held_reads_so() {
    let report = all_authorized();
    assert_eq!(report.broken(), Vec::<String>::new());
    assert_eq!(
        report.render(),
        "
2,000 pods of 20 apps arrived within 1.00 s (policy booked, seed 1), and all were authorized, the last after 3.21 s: \
2.00 times the optimum of 1.60 s, before which no scheme that keeps the rate can end.
No app was admitted faster than its limit of 50 a second and 20 at once allows.

  pods                                2,000
    authorized                        2,000
    denied                                0
    gave up                               0
  completion                         3.21 s
  optimum                            1.60 s
  completion / optimum                2.003
  authorized a second                   623
  calls                               5,123
    a pod, mean                        2.56
    a pod, most                           5
    held until their turn             1,200
    told to come later                  300
    pushed back                           0
  tickets on time                       299
  tickets late                            1
  tickets early                          40
  over-admission, tokens              0.000
  admitted outside the call               0
  server CPU a call                  182 µs
  server CPU in all                  934 ms
  authorized a CPU second             2,141
  server memory, most              64.0 MiB
  generator's lag at arrival, p99   2.00 ms
  generator's lag at a call, p99    1.50 ms

                                 p50      p90      p99    p99.9     max
  a call, from its due time  1.50 ms  3.00 ms  6.00 ms  7.50 ms   12 ms
  arrival to grant            400 ms   800 ms   1.60 s   2.00 s  3.20 s
"
    );
}

#[test]
fn a_storm_that_broke_a_promise_says_which() {
    let report = StormReport {
        authorized: 1688,
        gave_up: 312,
        completion_ratio: None,
        over_admission: 13.25,
        rate_bound_violations: 2,
        admitted_outside_call: Some(1),
        gave_up_reasons: [("throttled", 300), ("unavailable", 12)].into(),
        gave_up_examples: [("throttled", "over the rate".to_owned())].into(),
        start_lag_p99_s: 0.4,
        gateway_killed: Killed::During,
        grants_lost: Some(2),
        ..all_authorized()
    };
    let text = report.render();
    assert!(text.starts_with(
        "
2,000 pods of 20 apps arrived within 1.00 s (policy booked, seed 1), but only 1,688 were authorized, the last after \
3.21 s; 0 were denied, and 312 gave up. The rate would have allowed all of them after 1.60 s.
Admissions passed each app's limit of 50 a second and 20 at once by up to 13.25 tokens.
The gateway was killed in the middle and started again, and acknowledged grants are gone.
"
    ), "{text}");
    assert!(
        text.ends_with(
            "
Broken:
  312 pods stayed undecided: 300 throttled, 12 unavailable.
  Admissions of 2 apps passed the bound by up to 13.25 tokens; at most 11 are allowed (0.2·R + 1).
  1 pod were admitted, they were told, at an instant outside their call.
  2 acknowledged grants are gone.
  The first of the throttled was told: over the rate

The load tester was late itself (1 % of its pods began over 400 ms after their time): discard this run.
"
        ),
        "{text}"
    );
    assert_eq!(report.broken().len(), 4);
}

#[test]
fn none_authorized() {
    let report = StormReport {
        pods: 1,
        authorized: 0,
        denied: 1,
        completion_s: None,
        completion_ratio: None,
        apps: 1,
        call_latency_ms: None,
        time_to_grant_s: None,
        server: None,
        parked: None,
        admitted_outside_call: None,
        ..all_authorized()
    };
    let text = report.render();
    assert!(text.contains("1 pod of 1 app arrived within 1.00 s (policy booked, seed 1), and none was authorized: 1 were denied, and 0 gave up."), "{text}");
    assert!(text.contains("  arrival to grant             -    -    -      -    -\n"), "{text}");
}

#[test]
fn what_booked_turns_may_go_over_the_bound_is_no_broken_promise() {
    let report = StormReport { over_admission: 10.5, ..all_authorized() };
    assert_eq!(report.broken(), Vec::<String>::new());
    assert!(report.render().contains(
        "No app was admitted faster than its limit of 50 a second and 20 at once allows, but for 10.5 tokens of the 11.0 \
         that booked turns may come late or early by."
    ));
}

fn overloaded() -> StormReport {
    StormReport {
        pods: 50_000,
        authorized: 5_200,
        gave_up: 44_800,
        optimum_s: None,
        completion_ratio: None,
        gave_up_reasons: [("throttled", 44_800)].into(),
        background: Some(BackgroundFigures {
            success: Some(0.99978),
            p99_ms: Some(12.5),
            idle_p99_ms: Some(8.0),
            calls: 9_000,
            idle_calls: 300,
            idle_success: Some(1.0),
        }),
        overload: Some(OverloadFigures {
            factor: 10.0,
            capacity_per_s: 500.0,
            duration_s: 10.0,
            authorized_in_time: 5_000,
            alive_max: 812,
            turned_away: 0,
        }),
        goodput_ratio: Some(0.986),
        recovery_s: Some(0.25),
        pinned: true,
        ..all_authorized()
    }
}

#[test]
fn an_overload_breaks_nothing_and_says_what_became_of_it() {
    let report = overloaded();
    assert_eq!(report.broken(), Vec::<String>::new());
    let text = report.render();
    assert!(text.starts_with(
        "
For 10.0 s, 50,000 pods of 20 apps arrived, 10 times the 500 a second that the gateway may admit (policy booked, seed 1): \
in this time it authorized 99 % of that rate, its burst and the background included, 5,200 pods were authorized in all, \
and 44,800 gave up; the background was served as before 250 ms after the last came.
No app was admitted faster than its limit of 50 a second and 20 at once allows.
Of 9,000 pods of other apps in the background, 99.97 % were authorized, 99 % of them within 12 ms (before the storm 8.00 ms).
"
    ), "{text}");
    for line in ["    why", "44,800 throttled", "  goodput / capacity", "0.986", "  recovery", "250 ms"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("optimum"), "{text}");
    let crowded = OverloadFigures { turned_away: 7, ..overloaded().overload.unwrap() };
    let text = StormReport { overload: Some(crowded), recovery_s: None, ..overloaded() }.render();
    assert!(
        text.ends_with("\nThe load tester had no room for 7 pods: discard this run, or make it smaller.\n"),
        "{text}"
    );
    assert!(
        text.contains("gave up; the background was not served as before within 10 s of the last."),
        "{text}"
    );
}

#[test]
fn the_keys_of_the_contract_are_there() {
    let json = serde_json::to_value(all_authorized()).unwrap();
    for key in [
        "pods",
        "authorized",
        "denied",
        "gave_up",
        "completion_s",
        "optimum_s",
        "completion_ratio",
        "calls_total",
        "calls_per_pod_mean",
        "calls_per_pod_max",
        "over_admission",
        "call_latency_ms",
        "time_to_grant_s",
        "server",
        "seed",
        "policy",
        "parked",
        "deferred",
        "pushed_back",
        "tickets_on_time",
        "tickets_late",
        "tickets_early",
        "goodput_per_s",
        "rate_bound_violations",
        "generator_lateness_ms_p99",
        "background",
        "goodput_ratio",
        "recovery_s",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    for key in ["p50", "p90", "p99", "p999", "max"] {
        assert!(json["call_latency_ms"][key].is_f64() && json["time_to_grant_s"][key].is_f64(), "{key}");
    }
    assert!(json["server"]["cpu_us_per_call"].is_f64() && json["server"]["rss_bytes_max"].is_u64());
}
