//! Exact reports.

use clap::Parser as _;

use super::*;
use crate::{
    cli::{Cli, Command},
    storm::report::tests::all_authorized,
    timeline::Series,
};

fn args() -> IncidentArgs {
    match Cli::try_parse_from(["podgate-loadtest", "incident"]).unwrap().command {
        Command::Incident(args) => args,
        other => panic!("{other:?}"),
    }
}

fn run(storm: StormReport, counts: Counts) -> Run {
    let timeline = Timeline {
        authorized: Series::new(),
        calls: Series::new(),
        admissions: None,
        time_to_grant: Vec::new(),
        calls_per_pod: Vec::new(),
        background_worst_ms: None,
    };
    Run::new(&args(), storm, timeline, counts)
}

/// Two collapses and a cure.
pub(crate) fn incident() -> IncidentReport {
    let collapsed = |authorized, calls_total: u64, calls_per_pod_max| StormReport {
        authorized,
        gave_up: 2000 - authorized,
        completion_s: Some(1.02),
        calls_total,
        calls_per_pod_mean: calls_total as f64 / 2000.0,
        calls_per_pod_max,
        ..all_authorized()
    };
    let cured = StormReport { completion_s: Some(10.06), ..all_authorized() };
    IncidentReport {
        immediate: run(collapsed(190, 18_100, 10), Counts { done: 2000, waiting: 16_100 }),
        jitter: run(collapsed(206, 15_000, 12), Counts { done: 12_000, waiting: 3000 }),
        podgate: run(cured, Counts { done: 2000, waiting: 0 }),
        backend_time: args().backend_time,
    }
}

#[test]
fn collapse_and_cure_read_so() {
    let report = incident();
    assert_eq!(report.broken(), Vec::<String>::new());
    assert_eq!(
        report.sentence(),
        "Of 2,000 pods at once before a backend that needs 5.00 ms for each grant, 190 got through a plain ACL service \
         with immediate retries and 206 with full jitter; with podgate before the same backend all got through, the last \
         after 10.1 s, where the backend's work alone takes 10.0 s."
    );
    assert_eq!(
        report.render(),
        "
A plain ACL service, immediate retries: 190 of 2,000 pods got through, the last of them after 1.02 s, and 1,810 gave up, \
with 9.05 calls a pod; 90.5 % of the backend's work was for nobody.
A plain ACL service, full jitter: 206 of 2,000 pods got through, the last of them after 1.02 s, and 1,794 gave up, with \
7.50 calls a pod; 98.3 % of the backend's work was for nobody.
podgate: all 2,000 pods got through, the last after 10.1 s, with 2.56 calls a pod; 0.0 % of the backend's work was for \
nobody.

                           immediate retries  full jitter  podgate
  pods                                 2,000        2,000    2,000
  authorized                             190          206    2,000
  gave up                              1,810        1,794        0
  completion                          1.02 s       1.02 s   10.1 s
  optimum                             10.0 s       10.0 s   10.0 s
  time to grant, median               400 ms       400 ms   400 ms
  time to grant, p99                  1.60 s       1.60 s   1.60 s
  calls                               18,100       15,000    5,123
  calls a pod, mean                     9.05         7.50     2.56
  calls a pod, most                       10           12        5
  backend's grants                     2,000       12,000    2,000
  of these wasted                     90.5 %       98.3 %    0.0 %
  still queued for nobody             16,100        3,000        0
"
    );
}

#[test]
fn the_keys_of_the_contract_are_there() {
    let json = serde_json::to_value(incident()).unwrap();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(3));
    for way in ["immediate", "jitter", "podgate"] {
        for key in [
            "pods",
            "authorized",
            "gave_up",
            "completion_s",
            "optimum_s",
            "completion_ratio",
            "calls_total",
            "calls_per_pod_mean",
            "calls_per_pod_max",
            "time_to_grant_s",
            "backend_grants",
            "backend_waiting",
            "backend_work_wasted",
        ] {
            assert!(json[way].get(key).is_some(), "{way}: {key}");
        }
    }
    assert_eq!(
        (&json["podgate"]["optimum_s"], &json["podgate"]["completion_ratio"]),
        (&10.0.into(), &1.006.into())
    );
    assert_eq!(
        (&json["jitter"]["completion_ratio"], &json["jitter"]["backend_work_wasted"]),
        (&serde_json::Value::Null, &0.983.into())
    );
}

#[test]
fn what_podgate_breaks_is_broken_and_nothing_else() {
    let mut report = incident();
    let nobody = StormReport {
        authorized: 0,
        gave_up: 2000,
        completion_s: None,
        time_to_grant_s: None,
        ..all_authorized()
    };
    report.podgate = run(nobody, Counts { done: 0, waiting: 0 });
    assert_eq!(report.broken().len(), 1);
    let text = report.render();
    assert!(
        text.contains(
            "podgate: none of 2,000 pods got through, with 2.56 calls a pod; the backend did nothing."
        ),
        "{text}"
    );
    assert!(text.ends_with("Broken by podgate:\n  2,000 pods stayed undecided: .\n"), "{text}");
    assert!(
        report.sentence().contains("podgate before the same backend none got through, where"),
        "{}",
        report.sentence()
    );
}

#[test]
fn a_run_of_a_late_generator_is_doubted_by_name() {
    let mut report = incident();
    assert_eq!(report.doubts(), Vec::<String>::new());
    report.jitter.storm.start_lag_p99_s = 0.9;
    assert!(report.render().ends_with(
        "\nfull jitter: The load tester was late itself (1 % of its pods began over 900 ms after their time): discard this \
         run.\n"
    ), "{}", report.render());
}
