//! The limiter by example, and against what must always hold.

use proptest::prelude::*;

use super::*;
use crate::draft::{DescriptorDraft, RateLimitsDraft};

fn limit(key: &str, value: Option<&str>, rate: &str, burst: u64) -> DescriptorDraft {
    DescriptorDraft {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        rate: Some(rate.to_owned()),
        burst: Some(burst),
        ..DescriptorDraft::default()
    }
}

fn shadow(of: DescriptorDraft) -> DescriptorDraft {
    DescriptorDraft { shadow: Some("true".to_owned()), ..of }
}

fn document(descriptors: Vec<DescriptorDraft>) -> Arc<RateLimits> {
    let draft = RateLimitsDraft {
        name: "d".to_owned(),
        domain: "d".to_owned(),
        descriptors,
        ..RateLimitsDraft::default()
    };
    Arc::new(RateLimits::parse(&draft).unwrap())
}

fn limiter(descriptors: Vec<DescriptorDraft>) -> RateLimiter {
    let mut limiter = RateLimiter::new(100);
    limiter.set([&document(descriptors)], at_ms(0));
    limiter
}

fn at_ms(ms: i64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn hits<'a>(key: &'a str, value: &'a str, hits: u32) -> Asked<'a> {
    Asked { entries: vec![(key, value)], hits }
}

/// Of a descriptor: its ruling, what remains and when it resets, in milliseconds.
type Told = Option<(Ruling, u32, u64)>;

fn told(decided: &Decided) -> (Ruling, Vec<Told>) {
    let standings = decided.standings.iter();
    let one =
        |standing: &Standing| (standing.ruling, standing.remaining, standing.resets_in.as_millis() as u64);
    (decided.ruling, standings.map(|standing| standing.as_ref().map(one)).collect())
}

use Ruling::{Over, Shadowed, Within};

#[test]
fn a_burst_passes_and_then_the_rate_with_the_exact_wait() {
    let mut limiter = limiter(vec![limit("path", Some("/"), "10/s", 2)]);
    let mut ask = |ms| told(&limiter.decide("d", &[hits("path", "/", 1)], at_ms(ms)));
    assert_eq!(ask(0), (Within, vec![Some((Within, 1, 100))]));
    assert_eq!(ask(0), (Within, vec![Some((Within, 0, 200))]));
    assert_eq!(ask(30), (Over, vec![Some((Over, 0, 70))]));
    assert_eq!(ask(99), (Over, vec![Some((Over, 0, 1))]));
    assert_eq!(ask(100), (Within, vec![Some((Within, 0, 200))]));
}

#[test]
fn what_nothing_limits_passes() {
    let mut limiter = limiter(vec![limit("path", Some("/"), "1/h", 1)]);
    assert_eq!(told(&limiter.decide("e", &[hits("path", "/", 1)], at_ms(0))), (Within, vec![None]));
    assert_eq!(told(&limiter.decide("d", &[hits("path", "/x", 9)], at_ms(0))), (Within, vec![None]));
}

#[test]
fn a_refused_call_spends_in_no_bucket() {
    let mut limiter = limiter(vec![limit("a", Some("x"), "1/s", 5), limit("b", Some("x"), "1/s", 1)]);
    let both = [hits("a", "x", 1), hits("b", "x", 1)];
    assert_eq!(limiter.decide("d", &both, at_ms(0)).ruling, Within);
    for _ in 0..10 {
        let refused = told(&limiter.decide("d", &both, at_ms(0)));
        assert_eq!(refused, (Over, vec![Some((Within, 4, 1_000)), Some((Over, 0, 1_000))]));
    }
    // One descriptor twice is one bucket.
    let twice = [hits("a", "x", 3), hits("a", "x", 3)];
    assert_eq!(told(&limiter.decide("d", &twice, at_ms(0))).0, Over);
    assert_eq!(limiter.decide("d", &twice[..1], at_ms(0)).standings[0].as_ref().unwrap().remaining, 1);
}

#[test]
fn a_shadow_counts_and_lets_through() {
    let shadow = shadow(limit("a", Some("x"), "1/s", 1));
    let mut limiter = limiter(vec![shadow, limit("b", Some("x"), "1/s", 2)]);
    let both = [hits("a", "x", 1), hits("b", "x", 1)];
    assert_eq!(limiter.decide("d", &both, at_ms(0)).ruling, Within);
    let shadowed = told(&limiter.decide("d", &both, at_ms(0)));
    assert_eq!(shadowed, (Within, vec![Some((Shadowed, 0, 1_000)), Some((Within, 0, 2_000))]));
    assert_eq!(limiter.decide("d", &both, at_ms(0)).ruling, Over);
}

#[test]
fn hits_are_many_none_or_more_than_can_ever_be() {
    let mut limiter = limiter(vec![limit("a", Some("x"), "10/s", 5)]);
    let mut ask = |hits_wanted| told(&limiter.decide("d", &[hits("a", "x", hits_wanted)], at_ms(0)));
    assert_eq!(ask(6), (Over, vec![Some((Over, 5, 0))]));
    assert_eq!(ask(u32::MAX).0, Over);
    assert_eq!(ask(4), (Within, vec![Some((Within, 1, 400))]));
    assert_eq!(ask(3), (Over, vec![Some((Over, 1, 200))]));
    assert_eq!(ask(0), (Within, vec![Some((Within, 1, 400))]));
}

#[test]
fn values_have_buckets_of_their_own_until_there_is_no_place_for_more() {
    let mut limiter = limiter(vec![limit("user", None, "1/h", 1)]);
    let names: Vec<String> = (0..150).map(|number| format!("user-{number}")).collect();
    let mut ask = |name: &str, ms| limiter.decide("d", &[hits("user", name, 1)], at_ms(ms)).ruling;
    let passed = names.iter().filter(|name| ask(name, 0) == Within).count();
    // A hundred have their own, and one of the others got the one that they share.
    assert_eq!(passed, 101);
    assert_eq!(ask(&"x".repeat(VALUE_BYTES_MAX + 1), 0), Over);
    assert_eq!(limiter.usage(), (100, 51));
    limiter.sweep(at_ms(0));
    assert_eq!(limiter.usage().0, 100);
    limiter.sweep(at_ms(3_600_000));
    assert_eq!(limiter.usage().0, 0);
}

#[test]
fn lists_of_values_are_told_apart() {
    let below = DescriptorDraft {
        key: "a".to_owned(),
        descriptors: vec![limit("b", None, "1/h", 1)],
        ..DescriptorDraft::default()
    };
    let mut limiter = limiter(vec![below]);
    for (a, b) in [("x", "y"), ("x1:y", ""), ("", "x1:y"), ("xy", "")] {
        let asked = [Asked { entries: vec![("a", a), ("b", b)], hits: 1 }];
        assert_eq!(limiter.decide("d", &asked, at_ms(0)).ruling, Within, "{a:?} {b:?}");
        assert_eq!(limiter.decide("d", &asked, at_ms(0)).ruling, Over);
    }
}

#[test]
fn what_was_spent_stays_spent_through_a_reload() {
    let rules = |rate: &str, burst| vec![limit("a", Some("x"), rate, burst), limit("user", None, "1/h", 1)];
    let mut limiter = limiter(rules("1/h", 2));
    let both = [hits("a", "x", 1), hits("user", "li", 1)];
    assert_eq!(limiter.decide("d", &both, at_ms(0)).ruling, Within);
    // Another limit came before them, and one of them has another quota.
    let mut more = rules("1/m", 3);
    more.insert(0, limit("0", None, "1/h", 1));
    limiter.set([&document(more)], at_ms(0));
    assert_eq!(limiter.usage().0, 1);
    let asked = [hits("a", "x", 1)];
    assert_eq!(told(&limiter.decide("d", &asked, at_ms(0))).1, [Some((Within, 1, 120_000))]);
    assert_eq!(limiter.decide("d", &[hits("user", "li", 1)], at_ms(0)).ruling, Over);
    limiter.set([], at_ms(0));
    assert_eq!(limiter.usage().0, 0);
    assert_eq!(told(&limiter.decide("d", &asked, at_ms(0))), (Within, vec![None]));
}

proptest! {
    /// Whatever is asked in whatever order: no bucket that binds lets more through than its bound in any window, what is
    /// refused changes nothing, and the told wait is exact on both sides.
    #[test]
    fn bounds_hold_and_waits_are_exact(
        rates in prop::collection::vec((1u32..500, 1u64..20), 3),
        calls in prop::collection::vec((0i64..30_000, prop::collection::vec((0usize..3, 0u32..6), 1..4)), 1..150),
    ) {
        let keys = ["0", "1", "2"];
        let rules = keys.iter().zip(&rates);
        let mut limiter =
            limiter(rules.map(|(key, (rate, burst))| limit(key, Some("x"), &format!("{rate}/s"), *burst)).collect());
        let (mut now, mut passed) = (at_ms(0), [const { Vec::<(Moment, u32)>::new() }; 3]);
        for (step_us, asks) in calls {
            now = now.offset(step_us * 1_000);
            let asked: Vec<_> = asks.iter().map(|(at, number)| hits(keys[*at], "x", *number)).collect();
            let before = format!("{limiter:?}");
            let decided = limiter.decide("d", &asked, now);
            if decided.ruling == Within {
                for (at, number) in &asks {
                    passed[*at].push((now, *number));
                }
                continue;
            }
            prop_assert_eq!(&before, &format!("{limiter:?}"));
            // Of two descriptors of one bucket the call waits for the later one.
            let overs = decided.standings.iter().flatten().filter(|standing| standing.ruling == Over);
            let wait = overs.map(|standing| standing.resets_in).max().unwrap();
            let sum = |of: usize| asks.iter().filter(|(at, _)| *at == of).map(|(_, number)| u64::from(*number)).sum::<u64>();
            if (0..3).all(|of| sum(of) <= rates[of].1) {
                let due = now.offset(i64::try_from(wait.as_nanos()).unwrap());
                prop_assert_eq!(limiter.clone().decide("d", &asked, due.offset(-1)).ruling, Over);
                prop_assert_eq!(limiter.clone().decide("d", &asked, due).ruling, Within);
            }
        }
        for ((rate, burst), passed) in rates.iter().zip(&passed) {
            for first in 0..passed.len() {
                let mut sum = 0u128;
                for (to, number) in &passed[first..] {
                    sum += u128::from(*number);
                    let bound = u128::from(*burst) + to.since(passed[first].0).as_nanos() * u128::from(*rate) / 1_000_000_000;
                    prop_assert!(sum <= bound, "{} in a window of {}", sum, bound);
                }
            }
        }
    }
}
