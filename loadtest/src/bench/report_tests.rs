//! Exact reports.

use std::time::Duration;

use super::*;

fn slice(calls: u64, cpu_ms: u64) -> Slice {
    let mut latency = Durations::new();
    (0..calls).for_each(|_| latency.record(Duration::from_millis(2)));
    Slice {
        calls,
        wrong: 0,
        wrong_example: None,
        latency,
        wall: Duration::from_secs(2),
        server_cpu: Duration::from_millis(cpu_ms),
        generator_cpu: Duration::from_millis(1500),
    }
}

fn report(mode: Mode, slices: &Slices) -> ModeReport {
    ModeReport::new(mode, NonZeroU32::MIN, slices, None)
}

fn bench(reports: Reports) -> BenchReport {
    BenchReport { connections: 8, in_flight: 32, duration_s: 4.0, workers: 1, addresses: 4096, reports }
}

fn common() -> ModeReport {
    let slices = Slices {
        gateway: vec![slice(200_000, 1960), slice(190_000, 1960)],
        echo: vec![slice(250_000, 1900); 2],
    };
    report(Mode::Common, &slices)
}

#[test]
fn a_benchmark_reads_so() {
    let busy_generator = Slice { generator_cpu: Duration::from_millis(1900), ..slice(100_000, 1000) };
    let repeat = report(Mode::Repeat, &Slices { gateway: vec![busy_generator], echo: Vec::new() });
    let text = bench(Reports::All(vec![common(), repeat])).render();
    assert_eq!(
        text,
        "
8 connections × 32 calls in flight, 4 s each, 1 worker of the gateway, 4,096 addresses tracked before.
common: 95,000 calls a second at 9.80 µs of CPU each, 1.29 times a bare tonic echo.
repeat: 50,000 calls a second at 10.00 µs of CPU each.

                   calls/s  p50 ms  p99 ms  CPU µs/call  server busy  generator busy
  common  gateway   95,000    2.00    2.00         9.80         98 %            75 %
             echo  125,000    2.00    2.00         7.60         95 %            75 %
            ratio     0.76                         1.29
  repeat  gateway   50,000    2.00    2.00        10.00         50 %            95 %

repeat: the gateway was busy for only 50 % of its workers' time, so the generator was the limit, not the server: \
calls/s are too low, and CPU a call is too high where less is batched.
"
    );
}

#[test]
fn what_held_grants_take_is_told() {
    let slices = Slices { gateway: vec![slice(10, 2000)], echo: Vec::new() };
    let held = Some(Held::new(1_000_000, 20_000_000, 370_000_000));
    let report = ModeReport::new(Mode::Check, NonZeroU32::MIN, &slices, held);
    let text = bench(Reports::One(Box::new(report))).render();
    assert!(
        text.contains("The gateway held 1,000,000 grants, which took 350 bytes each of its RAM.\n"),
        "{text}"
    );
}

#[test]
fn an_idle_generator_is_not_blamed() {
    let warned = |mode| {
        let report =
            report(mode, &Slices { gateway: vec![slice(100_000, 1000)], echo: vec![slice(100_000, 2000)] });
        warnings(&report).concat()
    };
    assert!(warned(Mode::Check).contains("so whatever else runs on this machine was the limit"));
    assert!(
        warned(Mode::Fresh).contains("so the disk, or whatever else runs on this machine, was the limit")
    );
}

#[test]
fn wrong_answers_are_shown_and_fail() {
    let mut broken = slice(10, 2000);
    broken.wrong = 3;
    broken.wrong_example = Some("denied: no".to_owned());
    let report = bench(Reports::One(Box::new(report(
        Mode::Fresh,
        &Slices { gateway: vec![broken], echo: Vec::new() },
    ))));
    assert!(!report.is_right());
    assert!(report.render().contains("fresh: 3 answers were not what is measured; the first: denied: no\n"));
}

#[test]
fn the_keys_of_the_contract_are_there() {
    let json = serde_json::to_value(bench(Reports::One(Box::new(common())))).unwrap();
    for key in ["calls_per_s", "p50_ms", "p99_ms", "cpu_us_per_call"] {
        assert!(json[key].is_f64() && json["baseline"][key].is_f64(), "{key}");
    }
    assert_eq!((json["mode"].as_str(), json["baseline"]["mode"].as_str()), (Some("common"), Some("common")));
    assert!(json["cpu_ratio"].is_f64() && json["calls_ratio"].is_f64());
    let all = serde_json::to_value(bench(Reports::All(vec![common()]))).unwrap();
    assert!(all.is_array());
}
