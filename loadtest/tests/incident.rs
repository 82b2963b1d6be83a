//! A small incident on real sockets: the collapse, the cure, the figures and the page.

use assert_cmd::Command;
use serde_json::Value;

#[test]
fn retries_collapse_before_the_backend_that_podgate_keeps_busy() {
    let directory = tempfile::tempdir().unwrap();
    let (json, html) = (directory.path().join("figures.json"), directory.path().join("page.html"));
    let line = "incident --pods 60 --backend-time 20ms --call-timeout 200ms --budget 3s";
    let mut command = Command::new(env!("CARGO_BIN_EXE_podgate-loadtest"));
    let assert = command
        .args(line.split_whitespace())
        .args(["--json".as_ref(), json.as_os_str(), "--html".as_ref(), html.as_os_str()])
        .assert()
        .success();
    let figures: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    for way in ["immediate", "jitter"] {
        let run = &figures[way];
        // 200 ms of a call's life are 10 grants of 20 ms: hardly more pods can get through at first, and then none.
        assert!(run["authorized"].as_u64().unwrap() < 30, "{way}: {run}");
        assert!(run["backend_work_wasted"].as_f64().unwrap() > 0.5, "{way}: {run}");
        assert_eq!(run["completion_ratio"], Value::Null, "{way}");
    }
    assert!(figures["immediate"]["backend_waiting"].as_u64().unwrap() > 100);
    let cured = &figures["podgate"];
    assert_eq!((cured["authorized"].as_u64(), cured["pods"].as_u64()), (Some(60), Some(60)));
    assert_eq!(
        (cured["backend_grants"].as_u64(), cured["backend_work_wasted"].as_f64()),
        (Some(60), Some(0.0))
    );
    assert!(cured["completion_ratio"].as_f64().unwrap() < 2.0, "{cured}");
    let said = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(said.contains("podgate: all 60 pods got through"), "{said}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("Of 60 pods at once before a backend that needs 20 ms for each grant"));
}
