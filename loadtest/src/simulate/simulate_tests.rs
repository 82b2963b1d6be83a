//! What simulations tell: of storms that go well, and of those in which everything goes wrong.

use clap::Parser as _;

use super::*;
use crate::{
    cli::{Cli, Command},
    over_admission::over_admission,
};

/// Everything that goes wrong, all at once, in a storm of about 15 s.
const MISHAPS: &str = "--pods 300 --apps 1 --rate 20 --burst 40 --loss 0.01 --no-shows 0.1 --crashes 0.05 --slow 0.2 \
                       --restarts 2";

fn args(line: &str) -> SimulateArgs {
    let words = ["podgate-loadtest", "simulate"].into_iter().chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Simulate(args) => args,
        other => panic!("{other:?}"),
    }
}

fn report(line: &str) -> SimulateReport {
    run(&args(line)).unwrap().report
}

#[test]
fn a_seed_tells_the_same_every_time_to_the_byte() {
    let json = |line: &str| serde_json::to_string_pretty(&report(line)).unwrap();
    let first = json(MISHAPS);
    assert_eq!(first, json(MISHAPS));
    assert_ne!(first, json(&format!("{MISHAPS} --seed 2")));
    assert!(first.contains("\"completion_s\"") && first.contains("\"tickets_refused_on_time\""), "{first}");
}

#[test]
fn a_booked_storm_ends_at_the_optimum_with_two_calls_a_pod() {
    let SimulateReport { storm, tickets_refused_on_time, .. } =
        report("--pods 1000 --apps 1 --rate 100 --burst 100 --spread 1s");
    assert_eq!((storm.authorized, storm.gave_up, storm.rate_bound_violations), (1_000, 0, 0));
    assert!(storm.completion_ratio.is_some_and(|ratio| (0.99..=1.02).contains(&ratio)), "{storm:?}");
    assert_eq!((storm.calls_per_pod_max, tickets_refused_on_time, storm.tickets_late), (2, 0, Some(0)));
    assert_eq!(storm.calls_total, 1_000 + storm.deferred.unwrap());
    assert_eq!(storm.tickets_on_time, storm.deferred);
}

/// 1,000 pods at 20 a second wait as long as 10,000 at 200: the times are those of design §3.
#[test]
fn full_jitter_ends_when_the_design_says() {
    for (cap, end_s, calls) in
        [("5s", 52.0, 13.1), ("10s", 56.0, 9.3), ("30s", 68.0, 7.5), ("60s", 93.0, 7.4)]
    {
        let line = format!(
            "--pods 1000 --apps 1 --rate 20 --burst 20 --policy jitter --base 400ms --cap {cap} --attempts 0"
        );
        let SimulateReport { storm, .. } = report(&line);
        let completion_s = storm.completion_s.unwrap();
        assert!((completion_s / end_s - 1.0).abs() < 0.15, "cap {cap}: {completion_s} s");
        assert!(
            (storm.calls_per_pod_mean / calls - 1.0).abs() < 0.15,
            "cap {cap}: {}",
            storm.calls_per_pod_mean
        );
        assert_eq!((storm.authorized, storm.rate_bound_violations, storm.deferred), (1_000, 0, Some(0)));
    }
}

#[test]
fn whatever_goes_wrong_every_pod_is_decided_and_the_bound_and_the_tickets_hold() {
    let sum = run_seeds(&args(MISHAPS), 40).unwrap();
    assert!(sum.holds(), "{sum:?}");
    assert_eq!((sum.seeds, sum.gave_up, sum.restarts), (40, 0, 80));
    assert_eq!(sum.authorized + sum.no_shows, 40 * 300);
    assert!((900..1_500).contains(&sum.no_shows) && sum.crashes > 200 && sum.calls_lost > 100, "{sum:?}");
    assert!(sum.tickets_on_time > 5_000 && sum.tickets_late > 0, "{sum:?}");
}

#[test]
fn the_bound_is_taken_from_every_admission() {
    let args =
        args(&format!("{} --capacity-rate 30 --capacity-burst 15", MISHAPS.replace("--apps 1", "--apps 3")));
    let scenario = Scenario::new(&args, args.rate());
    let mut simulation = Simulation::run(&scenario, args.seed).unwrap();
    let bounds = bounds(&scenario, &mut simulation);
    let admitted = &simulation.gateway.ledger.admitted;
    let of = |wanted: Option<u32>| -> Vec<u64> {
        let of_app = admitted.iter().filter(|(_, app)| wanted.is_none_or(|wanted| wanted == *app));
        of_app.map(|(at, _)| at.as_nanos() as u64).collect()
    };
    let worst = (0..3).map(|app| over_admission(&of(Some(app)), 20.0, 40)).fold(0.0, f64::max);
    assert!((bounds.over_admission - worst).abs() < 1e-9 && worst <= 5.0 + 1e-6, "{bounds:?}");
    assert!(over_admission(&of(None), 30.0, 15) <= 7.0 + 1e-6);
    assert_eq!(bounds.violations, 0);
    // As many as were told of, those that went away with their grant, and those whose grant died with a process.
    assert!(admitted.len() as u32 >= simulation.tally.authorized, "{}", admitted.len());
}

#[test]
fn the_rate_that_is_needed_is_the_smallest() {
    let needed = report("--pods 500 --apps 1 --burst 20 --within 20s");
    let rate = needed.rate_needed_per_s.unwrap();
    // (500 − 20) / 20 = 24, and the way there and back.
    assert!((24.0..=26.0).contains(&rate), "{rate}");
    assert!(needed.storm.completion_s.is_some_and(|completion_s| completion_s <= 20.0));
    assert!(needed.render().contains(&format!("The app needs a rate of {rate}/s with a burst of 20")));
    let slower = report(&format!("--pods 500 --apps 1 --burst 20 --rate {}", rate - 1.0));
    assert!(slower.storm.completion_s.is_some_and(|completion_s| completion_s > 20.0));
    let slow = report("--pods 40 --apps 1 --burst 20 --within 2m");
    assert_eq!(slow.rate_needed.as_deref().map(|rate| rate.ends_with("/h")), Some(true));
    let rate = slow.rate_needed_per_s.unwrap();
    assert!((1.0 / 6.0..0.18).contains(&rate), "{rate}");
}

#[test]
fn no_rate_helps_pods_that_arrive_too_late_or_share_too_little() {
    for (line, why) in [
        ("--pods 10 --spread 10s --within 5s", "longer to arrive"),
        ("--pods 100 --apps 1 --capacity-rate 1 --within 10s", "not even the largest"),
    ] {
        let error = run(&args(line)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_budget_that_is_too_short_for_all_is_said_and_forgiven_and_running_out_of_attempts_is_not() {
    let short = report("--pods 300 --apps 1 --rate 20 --burst 10 --budget 5s");
    assert!(short.holds() && short.excused() > 100 && short.failed() == 0, "{short:?}");
    assert!(short.render().contains("is shorter than the optimum"), "{}", short.render());
    let hasty = report("--pods 300 --apps 1 --rate 20 --burst 10 --policy immediate");
    assert!(!hasty.holds() && hasty.failed() > 200 && hasty.excused() == 0, "{hasty:?}");
    assert!(hasty.render().contains("stayed undecided"), "{}", hasty.render());
}

#[test]
fn seeds_add_up_to_what_each_is_alone() {
    let sum = run_seeds(&args(MISHAPS), 3).unwrap();
    let each: Vec<_> = (1..=3).map(|seed| report(&format!("{MISHAPS} --seed {seed}"))).collect();
    assert_eq!(sum.calls_total, each.iter().map(|report| report.storm.calls_total).sum::<u64>());
    assert_eq!(sum.crashes, each.iter().map(|report| u64::from(report.crashes)).sum::<u64>());
    assert_eq!(
        sum.calls_per_pod_max,
        each.iter().map(|report| report.storm.calls_per_pod_max).max().unwrap()
    );
    assert!(sum.render().contains("3 seeds (1 to 3) of 300 pods of 1 app"), "{}", sum.render());
}

#[test]
fn a_pod_whose_answer_was_lost_is_told_of_the_grant_that_it_has() {
    // 15 % of the answers vanish, after the grant was made: asking again costs nothing.
    let lossy = report("--pods 200 --apps 1 --rate 200 --burst 200 --loss 0.3 --attempts 0");
    assert!(lossy.holds() && lossy.storm.repeated > 10 && lossy.calls_lost > 40, "{lossy:?}");
    assert_eq!(lossy.storm.authorized, 200);
}
