//! What the schedule promises, by example and as properties.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> RetryPolicy {
    RetryPolicy::default()
}

/// Drives a schedule with one setback after the other, each call lasting `call`; gives the delays and the end.
fn drive(
    mut schedule: Schedule,
    setbacks: &[Setback],
    call: Duration,
) -> (Vec<(Duration, Why)>, Option<GiveUp>) {
    let (mut elapsed, mut delays) = (Duration::ZERO, Vec::new());
    for setback in setbacks {
        elapsed += call;
        match schedule.failed(*setback, elapsed) {
            Next::Call { after, why } => {
                delays.push((after, why));
                elapsed += after;
            }
            Next::GiveUp(bound) => return (delays, Some(bound)),
        }
    }
    (delays, None)
}

#[test]
fn without_the_servers_word_five_attempts_are_made() {
    let (delays, end) = drive(Schedule::new(policy(), 1), &[Setback::Silent; 20], Duration::ZERO);
    assert_eq!((delays.len(), end), (4, Some(GiveUp::Attempts)));
    for ((delay, why), ceiling) in delays.into_iter().zip([1, 2, 4, 8]) {
        assert!(delay <= ceiling * SECOND && why == Why::OwnGuess, "{delay:?} of {ceiling} s");
    }
}

#[test]
fn with_it_sixteen_calls_are_made() {
    let told = Setback::Pushback(3 * SECOND);
    let (delays, end) = drive(Schedule::new(policy(), 1), &[told; 20], Duration::ZERO);
    assert_eq!(delays, [(3 * SECOND, Why::Pushback); 15]);
    assert_eq!(end, Some(GiveUp::Calls));
}

#[test]
fn a_call_at_the_ordered_time_is_no_attempt() {
    let mut schedule = Schedule::new(policy(), 1);
    assert_eq!((schedule.calls(), schedule.attempt()), (0, 1));
    for _ in 0..3 {
        assert!(matches!(schedule.failed(Setback::Pushback(SECOND), SECOND), Next::Call { .. }));
        assert_eq!(schedule.attempt(), 1);
    }
    assert!(matches!(schedule.failed(Setback::Silent, SECOND), Next::Call { .. }));
    assert_eq!((schedule.calls(), schedule.attempts(), schedule.attempt()), (4, 1, 2));
}

#[test]
fn a_pushback_beyond_the_budget_ends_it_at_once() {
    let mut schedule = Schedule::new(policy(), 1);
    let next = schedule.failed(Setback::Pushback(Duration::MAX), SECOND);
    assert_eq!(next, Next::GiveUp(GiveUp::PushbackBeyondBudget));
}

#[test]
fn dials_that_reach_nobody_go_on_to_the_end_of_the_budget() {
    let (delays, end) = drive(Schedule::new(policy(), 1), &vec![Setback::Unreached; 10_000], Duration::ZERO);
    assert_eq!(end, Some(GiveUp::Budget));
    let quick = delays.iter().scan(Duration::ZERO, |elapsed, (delay, _)| {
        let before = *elapsed;
        *elapsed += *delay;
        (before < UNREACHED_QUICK).then_some(*delay)
    });
    assert!(quick.clone().count() > 60);
    assert!(quick.into_iter().all(|delay| (UNREACHED_DELAY.0..=UNREACHED_DELAY.1).contains(&delay)));
    assert!(delays.len() < 200, "{} dials", delays.len());
}

#[test]
fn immediate_calls_at_once_whatever_is_said() {
    let policy = RetryPolicy { pace: Pace::Immediate, ..policy() };
    let told = Setback::Pushback(3 * SECOND);
    let (delays, end) = drive(Schedule::new(policy, 1), &[told; 20], Duration::ZERO);
    assert_eq!((delays, end), (vec![(Duration::ZERO, Why::OwnGuess); 4], Some(GiveUp::Attempts)));
    let unbounded = RetryPolicy { attempts_max: None, calls_max: NonZeroU32::MAX, ..policy };
    let (delays, end) = drive(Schedule::new(unbounded, 1), &[told; 1000], Duration::from_millis(1));
    assert_eq!((delays.len(), end), (1000, None));
}

fn setback() -> impl Strategy<Value = Setback> {
    prop_oneof![
        Just(Setback::Unreached),
        Just(Setback::Silent),
        (0u64..40_000).prop_map(|ms| Setback::Pushback(Duration::from_millis(ms))),
        Just(Setback::Pushback(Duration::MAX)),
    ]
}

prop_compose! {
    fn any_policy()(
        jitter in any::<bool>(),
        base_ms in 0u64..5_000,
        cap_ms in 0u64..60_000,
        attempts in proptest::option::of(1u32..40),
        calls in 1u32..60,
        budget_ms in 0u64..600_000,
    ) -> RetryPolicy {
        let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
        RetryPolicy {
            pace: if jitter { Pace::FullJitter { base, cap } } else { Pace::Immediate },
            attempts_max: attempts.and_then(NonZeroU32::new),
            calls_max: NonZeroU32::new(calls).unwrap(),
            budget: Duration::from_millis(budget_ms),
        }
    }
}

proptest! {
    #[test]
    fn no_bound_is_ever_passed(
        policy in any_policy(),
        seed in any::<u64>(),
        setbacks in proptest::collection::vec((setback(), 0u64..3_000), 1..120),
    ) {
        let mut schedule = Schedule::new(policy, seed);
        let (mut elapsed, mut own, mut on_word) = (Duration::ZERO, 0u32, false);
        for (calls, (setback, call_ms)) in setbacks.into_iter().enumerate() {
            elapsed += Duration::from_millis(call_ms);
            if setback != Setback::Unreached && !on_word {
                own += 1;
            }
            prop_assert!(schedule.attempt() <= policy.attempts_max.map_or(u32::MAX, NonZeroU32::get));
            let Next::Call { after, why } = schedule.failed(setback, elapsed) else { break };
            prop_assert!(schedule.calls() < policy.calls_max.get());
            prop_assert!(schedule.calls() as usize <= calls + 1);
            prop_assert_eq!(schedule.attempts(), own);
            prop_assert!(elapsed + after < policy.budget);
            match (policy.pace, setback) {
                (Pace::FullJitter { .. }, Setback::Pushback(told)) => {
                    prop_assert_eq!((after, why), (told, Why::Pushback));
                    on_word = true;
                }
                (Pace::FullJitter { base, cap }, Setback::Silent) => {
                    let doublings = schedule.attempts().saturating_sub(1).min(30);
                    prop_assert!(after <= base.saturating_mul(1 << doublings).min(cap));
                    on_word = false;
                }
                (Pace::FullJitter { cap, .. }, Setback::Unreached) => {
                    prop_assert!(after >= UNREACHED_DELAY.0 && after <= cap.max(UNREACHED_DELAY.1));
                }
                (Pace::Immediate, Setback::Unreached) => prop_assert_eq!(after, UNREACHED_DELAY.0),
                (Pace::Immediate, _) => prop_assert_eq!(after, Duration::ZERO),
            }
            elapsed += after;
        }
    }

    #[test]
    fn equal_seeds_draw_equal_delays(seed in any::<u64>(), setbacks in proptest::collection::vec(setback(), 1..30)) {
        let run = |seed| drive(Schedule::new(policy(), seed), &setbacks, SECOND);
        prop_assert_eq!(run(seed), run(seed));
    }
}
