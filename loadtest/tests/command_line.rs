//! What the binary says and with which code it ends, where no gateway is needed.

use assert_cmd::Command;

fn loadtest(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podgate-loadtest"));
    command.args(line.split_whitespace());
    command
}

#[test]
fn generates_and_refuses_a_directory_of_somebody_else() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("profiles");
    let generate = |out: &std::path::Path| {
        let mut command = loadtest("generate --apps 12 --rules 3 --seed 4 --per-file 5");
        command.arg("--out").arg(out).assert()
    };
    let said = format!(
        "Wrote 12 profiles of 3 rules each into 3 files under {}, and common ports beside them (seed 4).\n",
        out.display()
    );
    generate(&out).success().stdout(said);
    generate(&out).success();
    generate(parent.path()).code(3);
}

#[test]
fn wrong_usage_is_told_from_a_run_that_cannot_be_made() {
    loadtest("storm --spread 5x").assert().code(2);
    loadtest("--help").assert().code(0);
    // Port 1 of loopback: nobody listens.
    loadtest("storm --endpoint http://127.0.0.1:1").assert().code(3);
}

#[test]
fn a_simulation_holds_or_breaks_or_cannot_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let storm = "simulate --pods 100 --apps 1 --rate 10 --burst 10 --restarts 1";
    let held = loadtest(storm).arg("--json").arg(&json).assert().success();
    assert!(String::from_utf8_lossy(&held.get_output().stdout).contains("100 pods of 1 app"));
    let figures: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&figures["authorized"], &figures["restarts"]), (&100.into(), &1.into()));
    loadtest(&format!("{storm} --seeds 3")).assert().success();
    loadtest(&format!("{storm} --policy immediate")).assert().code(1);
    loadtest(&format!("{storm} --policy immediate --seeds 3")).assert().code(1);
    loadtest("simulate --pods 10 --spread 2s --within 1s").assert().code(3);
}

#[test]
fn says_how_many_pods_fit() {
    let refused = loadtest("storm --pods 4000000").assert().code(3);
    let said = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(said.contains("4000000 connections need 4000100 file descriptors"), "{said}");
}

#[test]
fn a_child_without_its_parent_ends_at_once() {
    loadtest("gateway --parent 1 -- serve").assert().code(3);
}
