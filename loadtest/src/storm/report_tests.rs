//! Exact reports.

use super::*;

fn percentiles(p50: f64) -> Percentiles {
    Percentiles { p50, p90: p50 * 2.0, p99: p50 * 4.0, p999: p50 * 5.0, max: p50 * 8.0 }
}

fn all_authorized() -> StormReport {
    StormReport {
        pods: 2000,
        authorized: 2000,
        denied: 0,
        gave_up: 0,
        completion_s: Some(3.209),
        optimum_s: 1.602,
        completion_ratio: Some(2.003),
        calls_total: 5123,
        calls_per_pod_mean: 2.562,
        calls_per_pod_max: 5,
        over_admission: 0.0,
        call_latency_ms: Some(percentiles(1.5)),
        time_to_grant_s: Some(percentiles(0.4)),
        server: Some(ServerFigures { cpu_us_per_call: 182.4, rss_bytes_max: 64 << 20 }),
        seed: 1,
        apps: 20,
        spread_s: 1.0,
        rate_per_s: 50.0,
        burst: 20,
        policy: "jitter",
        repeated: 0,
        admitted_outside_call: Some(0),
        gave_up_reasons: BTreeMap::new(),
        gave_up_examples: BTreeMap::new(),
        start_lag_p99_s: 0.002,
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
2,000 pods of 20 apps arrived within 1.00 s (policy jitter, seed 1), and all were authorized, the last after 3.21 s: \
2.00 times the optimum of 1.60 s, before which no scheme that keeps the rate can end.
No app was admitted faster than its limit of 50 a second and 20 at once allows.

  pods                          2,000
    authorized                  2,000
    denied                          0
    gave up                         0
  completion                   3.21 s
  optimum                      1.60 s
  completion / optimum          2.003
  calls                         5,123
    a pod, mean                  2.56
    a pod, most                     5
  over-admission, tokens        0.000
  admitted outside the call         0
  server CPU a call            182 µs
  server memory, most        64.0 MiB
  generator's lag, p99        2.00 ms

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
        over_admission: 3.25,
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
2,000 pods of 20 apps arrived within 1.00 s (policy jitter, seed 1), but only 1,688 were authorized, the last after \
3.21 s; 0 were denied, and 312 gave up. The rate would have allowed all of them after 1.60 s.
Admissions passed each app's limit of 50 a second and 20 at once by up to 3.25 tokens.
The gateway was killed in the middle and started again, and acknowledged grants are gone.
"
    ), "{text}");
    assert!(
        text.ends_with(
            "
Broken:
  312 pods stayed undecided: 300 throttled, 12 unavailable.
  Admissions passed the bound by 3.25 tokens.
  1 pod were admitted, they were told, at an instant outside their call.
  2 acknowledged grants are gone.
  The first of the throttled was told: over the rate

The load tester was late itself (1 % of the pods started over 400 ms after their time): discard this run.
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
        admitted_outside_call: None,
        ..all_authorized()
    };
    let text = report.render();
    assert!(text.contains("1 pod of 1 app arrived within 1.00 s (policy jitter, seed 1), and none was authorized: 1 were denied, and 0 gave up."), "{text}");
    assert!(text.contains("  arrival to grant             -    -    -      -    -\n"), "{text}");
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
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    for key in ["p50", "p90", "p99", "p999", "max"] {
        assert!(json["call_latency_ms"][key].is_f64() && json["time_to_grant_s"][key].is_f64(), "{key}");
    }
    assert!(json["server"]["cpu_us_per_call"].is_f64() && json["server"]["rss_bytes_max"].is_u64());
}
