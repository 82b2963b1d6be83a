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
fn neither_is_one_at_the_booked_time() {
    let mut schedule = Schedule::new(policy(), 1);
    for _ in 0..15 {
        let next = schedule.failed(Setback::Deferred(SECOND), SECOND);
        assert_eq!(next, Next::Call { after: SECOND, why: Why::Appointment });
        assert_eq!((schedule.attempts(), schedule.attempt()), (1, 1));
    }
    let last = schedule.failed(Setback::Deferred(SECOND), SECOND);
    assert_eq!((last, schedule.calls()), (Next::GiveUp(GiveUp::Calls), 16));
}

#[test]
fn attempts_are_the_calls_between_the_servers_words() {
    let mut schedule = Schedule::new(policy(), 1);
    for attempts in 1..=4 {
        assert!(matches!(schedule.failed(Setback::Deferred(SECOND), SECOND), Next::Call { .. }));
        assert_eq!(schedule.attempts(), attempts);
        // The gateway was there at the booked time, but did not answer; what follows is a guess.
        assert!(matches!(schedule.failed(Setback::Silent, SECOND), Next::Call { .. }));
        assert_eq!((schedule.attempts(), schedule.attempt()), (attempts, attempts + 1));
    }
    assert!(matches!(schedule.failed(Setback::Silent, SECOND), Next::GiveUp(GiveUp::Attempts)));
}

#[test]
fn a_turn_beyond_the_budget_ends_it_at_once() {
    for setback in [Setback::Pushback(Duration::MAX), Setback::Deferred(Duration::from_mins(9))] {
        let next = Schedule::new(policy(), 1).failed(setback, SECOND);
        assert_eq!(next, Next::GiveUp(GiveUp::TurnBeyondBudget));
    }
}

#[test]
fn an_appointment_of_an_earlier_life_is_no_attempt() {
    let mut schedule = Schedule::new(policy(), 1);
    assert_eq!(schedule.resume(3 * SECOND), 3 * SECOND);
    assert_eq!(schedule.attempt(), 0);
    // Nobody may be there yet when it is due.
    assert!(matches!(schedule.failed(Setback::Unreached, 3 * SECOND), Next::Call { .. }));
    schedule.answered();
    assert_eq!((schedule.calls(), schedule.attempts()), (1, 0));
}

#[test]
fn an_appointment_that_cannot_be_kept_is_not_waited_for() {
    let ignoring = RetryPolicy { appointments: Appointments::Ignore, ..policy() };
    for (policy, due_in) in [(policy(), Duration::MAX), (policy(), policy().budget), (ignoring, SECOND)] {
        let mut schedule = Schedule::new(policy, 1);
        assert_eq!(schedule.resume(due_in), Duration::ZERO);
        assert_eq!(schedule.attempt(), 1);
    }
}

#[test]
fn who_ignores_appointments_guesses_as_if_nothing_had_been_said() {
    let policy = RetryPolicy { appointments: Appointments::Ignore, ..policy() };
    let guessed = drive(Schedule::new(policy, 1), &[Setback::Silent; 20], Duration::ZERO);
    assert_eq!(guessed.1, Some(GiveUp::Attempts));
    for told in [Setback::Pushback(3 * SECOND), Setback::Deferred(3 * SECOND)] {
        assert_eq!(drive(Schedule::new(policy, 1), &[told; 20], Duration::ZERO), guessed);
    }
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
    let policy = RetryPolicy { pace: Pace::Immediate, appointments: Appointments::Ignore, ..policy() };
    let told = Setback::Pushback(3 * SECOND);
    let (delays, end) = drive(Schedule::new(policy, 1), &[told; 20], Duration::ZERO);
    assert_eq!((delays, end), (vec![(Duration::ZERO, Why::OwnGuess); 4], Some(GiveUp::Attempts)));
    let unbounded = RetryPolicy { attempts_max: None, calls_max: NonZeroU32::MAX, ..policy };
    let (delays, end) = drive(Schedule::new(unbounded, 1), &vec![told; 1000], Duration::from_millis(1));
    assert_eq!((delays.len(), end), (1000, None));
}

fn setback() -> impl Strategy<Value = Setback> {
    prop_oneof![
        Just(Setback::Unreached),
        Just(Setback::Silent),
        (0u64..40_000).prop_map(|ms| Setback::Pushback(Duration::from_millis(ms))),
        (0u64..40_000).prop_map(|ms| Setback::Deferred(Duration::from_millis(ms))),
        Just(Setback::Pushback(Duration::MAX)),
        Just(Setback::Deferred(Duration::MAX)),
    ]
}

prop_compose! {
    fn any_policy()(
        jitter in any::<bool>(),
        keeps in any::<bool>(),
        base_ms in 0u64..5_000,
        cap_ms in 0u64..60_000,
        attempts in proptest::option::of(1u32..40),
        calls in 1u32..60,
        budget_ms in 0u64..600_000,
    ) -> RetryPolicy {
        let (base, cap) = (Duration::from_millis(base_ms), Duration::from_millis(cap_ms));
        RetryPolicy {
            pace: if jitter { Pace::FullJitter { base, cap } } else { Pace::Immediate },
            appointments: if keeps { Appointments::Keep } else { Appointments::Ignore },
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
            match (policy.pace, policy.appointments, setback) {
                (_, Appointments::Keep, Setback::Pushback(told)) => {
                    prop_assert_eq!((after, why), (told, Why::Pushback));
                    on_word = true;
                }
                (_, Appointments::Keep, Setback::Deferred(due_in)) => {
                    prop_assert_eq!((after, why), (due_in, Why::Appointment));
                    on_word = true;
                }
                (Pace::FullJitter { cap, .. }, _, Setback::Unreached) => {
                    prop_assert!(after >= UNREACHED_DELAY.0 && after <= cap.max(UNREACHED_DELAY.1));
                }
                (Pace::Immediate, _, Setback::Unreached) => prop_assert_eq!(after, UNREACHED_DELAY.0),
                (Pace::FullJitter { base, cap }, ..) => {
                    let doublings = schedule.attempts().saturating_sub(1).min(30);
                    prop_assert!(after <= base.saturating_mul(1 << doublings).min(cap));
                    prop_assert_eq!(why, Why::OwnGuess);
                    on_word = false;
                }
                (Pace::Immediate, ..) => {
                    prop_assert_eq!((after, why), (Duration::ZERO, Why::OwnGuess));
                    on_word = false;
                }
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
