//! How far ahead slots may be booked: what settings and profiles accept, and how they say no.

use std::time::Duration;

use podgate_tests::{
    binary::{Binary, Ended},
    caller::Caller,
    gateway::Setup,
    home::Home,
    requests::authorize,
    yaml::profile,
};

async fn print(flags: &[&str]) -> Ended {
    Binary::Podgate.run(&[&["config", "--print"], flags].concat(), &[]).await
}

/// Validates a profile with these limits.
async fn validate(limits: &str) -> Ended {
    let home = Home::new();
    home.write("shop.yaml", profile("shop", "db.shop.svc", &format!("  limits: {limits}\n")));
    Binary::Podgate.run(&["validate", &home.path("").display().to_string()], &[]).await
}

fn expect_fault(ended: &Ended, fault: &str) {
    assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains(fault), "{fault:?} is not in:\n{}", ended.err);
}

#[tokio::test]
async fn the_settings_keep_a_horizon_within_its_bounds_and_its_rate() {
    for good in [
        &["--default-horizon", "2s"][..],
        &["--default-horizon", "1h"],
        // Exactly as many slots as are kept.
        &["--default-rate", "1000/s", "--default-horizon", "1000s"],
        &["--default-rate", "1/h", "--default-burst", "1000000"],
    ] {
        let ended = print(good).await;
        assert_eq!(ended.code, Some(0), "{good:?}: {}", ended.err);
    }
    for (bad, fault) in [
        (
            &["--default-horizon", "1s"][..],
            "--default-horizon: 1s is less than the 2s for which a call is held open until its slot, so nothing would ever be \
             booked; expected 2s to 1h",
        ),
        (&["--default-horizon", "61m"], "--default-horizon: 1h 1m is out of bounds; expected 2s to 1h"),
        (
            &["--default-rate", "1000/s", "--default-horizon", "1001s"],
            "--default-horizon: 1000/s booked 16m 41s ahead are more than the 1000000 slots that are kept (rate × \
             horizon); expected at most 16m 40s at this rate",
        ),
        // The horizon that is the default is held against the rate as well.
        (
            &["--default-rate", "10000/s"],
            "10000/s booked 2m ahead are more than the 1000000 slots that are kept",
        ),
        (&["--default-rate", "0/s"], "--default-rate: `0/s` is no rate"),
        (&["--default-burst", "0"], "--default-burst: 0 is no burst; expected 1 to 1000000"),
        (&["--capacity-rate", "0/s"], "--capacity-rate: `0/s` is no rate"),
        (&["--capacity-burst", "0"], "--capacity-burst: 0 is no burst"),
    ] {
        expect_fault(&print(bad).await, fault);
    }
}

#[tokio::test]
async fn a_profile_keeps_a_horizon_within_its_bounds_and_its_rate() {
    for good in [
        "{ horizon: 2s }",
        "{ horizon: 1h }",
        "{ rate: 1000/s, horizon: 1000s }",
        // Where it says nothing of a horizon, it has as much of the default as its rate allows.
        "{ rate: 1000000/s, burst: 1000000 }",
    ] {
        let ended = validate(good).await;
        assert_eq!(ended.code, Some(0), "{good}: {}", ended.err);
    }
    for (bad, fault) in [
        ("{ horizon: 1s }", "spec.limits.horizon: 1s is less than the 2s for which a call is held open"),
        ("{ horizon: 3601s }", "spec.limits.horizon: "),
        (
            "{ rate: 1000/s, horizon: 1001s }",
            "spec.limits.horizon: 1000/s booked 16m 41s ahead are more than the 1000000 slots that are kept (rate × \
             horizon); expected at most 16m 40s at this rate",
        ),
        ("{ rate: 0/s }", "spec.limits.rate: `0/s` is no rate"),
        ("{ burst: 0 }", "spec.limits.burst: 0 is no burst; expected 1 to 1000000"),
        ("{ burst: 1000001 }", "spec.limits.burst: 1000001 is no burst; expected 1 to 1000000"),
    ] {
        expect_fault(&validate(bad).await, fault);
    }
}

/// A profile says the horizon, the settings say the rate, and nobody has held the one against the other.
#[tokio::test]
async fn a_horizon_is_cut_to_what_the_rate_of_the_settings_allows() {
    let profile = profile("shop", "db.shop.svc", "  limits: { horizon: 1h }\n");
    let setup = Setup::new()
        .with_file("shop.yaml", profile)
        .flag("--default-rate", "10000/s")
        .flag("--default-horizon", "1m")
        .flag("--capacity-rate", "1/h")
        .flag("--capacity-burst", "1");
    let gateway = setup.start().await;
    let caller = Caller::of(&gateway).await;
    caller.granted(authorize("shop", "first", &[])).await;
    let (reason, delay) = caller.pushed_back(authorize("shop", "second", &[])).await;
    assert_eq!(reason, "CAPACITY");
    // U(H/2, H), where H is a million slots of a tenth of a millisecond.
    assert!((Duration::from_secs(50)..=Duration::from_secs(100)).contains(&delay), "{delay:?}");
}
