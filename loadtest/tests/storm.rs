//! Small storms and benchmarks on a real gateway, from outside.
#![expect(clippy::unwrap_used, reason = "the helper of a test fails it")]

use assert_cmd::{Command, assert::Assert};
use serde_json::Value;

/// Runs the binary with `--json`, and returns how it ended and what it wrote.
fn run(line: &str) -> (Assert, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_podgate-loadtest"));
    let assert = command.args(line.split_whitespace()).arg("--json").arg(&json).assert();
    let figures =
        std::fs::read(&json).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    (assert, figures)
}

#[test]
fn a_storm_authorizes_every_pod_within_the_bound() {
    let (assert, figures) = run("storm --pods 60 --apps 3 --spread 200ms --rate 50 --burst 10");
    assert.success();
    assert_eq!((figures["pods"].as_u64(), figures["authorized"].as_u64()), (Some(60), Some(60)));
    // 0.2·R + 1.
    assert!(figures["over_admission"].as_f64().unwrap() <= 11.0);
    assert_eq!(
        (&figures["rate_bound_violations"], &figures["policy"]),
        (&Value::from(0), &Value::from("booked"))
    );
    assert!(figures["goodput_per_s"].as_f64().unwrap() > 1.0);
    assert_eq!((&figures["background"], &figures["overload"]), (&Value::Null, &Value::Null));
    assert_eq!(figures["admitted_outside_call"], 0);
    assert!(figures["completion_ratio"].as_f64().unwrap() > 0.9);
    assert!(figures["server"]["rss_bytes_max"].as_u64().unwrap() > 1_000_000);
}

#[test]
fn pods_keep_the_turns_that_are_booked_for_them() {
    let (assert, figures) = run("storm --pods 60 --apps 2 --spread 100ms --rate 6 --burst 6");
    assert.success();
    assert_eq!(figures["authorized"], 60);
    let count = |key: &str| figures[key].as_u64().unwrap();
    // Of each app 6 pass at once and 12 within the 2 s in which a call is held open; the last 12 have to come again.
    assert!(count("deferred") > 0 && count("parked") > 0, "{figures}");
    assert_eq!(
        count("tickets_on_time") + count("tickets_late") + count("tickets_early"),
        count("deferred"),
        "{figures}"
    );
}

#[test]
fn pods_that_do_not_wait_give_up_and_that_fails() {
    let (assert, figures) =
        run("storm --pods 60 --apps 1 --spread 0s --rate 1 --burst 10 --policy immediate");
    assert.code(1);
    assert!(figures["gave_up"].as_u64().unwrap() > 0);
    assert_eq!(figures["completion_ratio"], Value::Null);
}

#[test]
fn no_acknowledged_grant_is_lost_by_a_kill() {
    let (assert, figures) =
        run("storm --pods 60 --apps 3 --spread 500ms --rate 50 --burst 10 --kill-gateway-after 250ms \
                                 --background-apps 2 --background-rate 20");
    assert.success();
    assert_eq!((figures["authorized"].as_u64(), figures["grants_lost"].as_u64()), (Some(60), Some(0)));
    assert!(figures["background"]["idle_calls"].as_u64().unwrap() >= 100, "{figures}");
    assert_eq!(figures["background"]["idle_success"], 1.0);
    assert!(figures["background"]["calls"].as_u64().unwrap() > 0, "{figures}");
}

#[test]
fn an_overload_lets_no_more_through_than_the_capacity_and_breaks_nothing() {
    let (assert, figures) =
        run("storm --overload 5 --capacity 50 --duration 1s --budget 1s --apps 4 --policy jitter \
                                 --background-apps 3 --background-rate 12");
    assert.success();
    assert_eq!((figures["pods"].as_u64(), figures["rate_per_s"].as_f64()), (Some(250), Some(50.0)));
    assert!(figures["gave_up"].as_u64().unwrap() > 0, "{figures}");
    assert_eq!((&figures["optimum_s"], &figures["completion_ratio"]), (&Value::Null, &Value::Null));
    // A second's worth beforehand, one a second, and what booked turns may come early or late by.
    let ratio = figures["goodput_ratio"].as_f64().unwrap();
    assert!(ratio > 0.2 && ratio <= 2.0 + 11.0 / 50.0, "{figures}");
    assert_eq!(figures["overload"]["turned_away"], 0);
    assert!(figures["overload"]["alive_max"].as_u64().unwrap() > 1, "{figures}");
    assert!(figures["background"]["calls"].as_u64().unwrap() > 0, "{figures}");
}

#[test]
fn every_mode_gets_the_answers_that_it_measures() {
    let (assert, figures) =
        run("bench --mode all --connections 2 --in-flight 4 --duration 200ms --baseline --addresses 20");
    assert.success();
    let modes: Vec<_> =
        figures.as_array().unwrap().iter().map(|mode| mode["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["common", "repeat", "fresh", "check", "denied", "throttled"]);
    for mode in figures.as_array().unwrap() {
        assert!(mode["calls_per_s"].as_f64().unwrap() > 0.0, "{mode}");
        assert!(mode["baseline"]["calls_per_s"].as_f64().unwrap() > 0.0, "{mode}");
    }
}
