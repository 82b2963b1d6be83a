//! Leases through simulated days: outages, revocations, successors.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A gateway that leases for `ttl`, is away now and then, and forgets what has run out.
#[derive(Clone, Debug)]
struct World {
    ttl: Duration,
    /// A call's time, whatever comes of it.
    latency: Duration,
    /// From when to when nobody answers, in order.
    outages: Vec<(Duration, Duration)>,
    end: Duration,
}

/// What became of a holder.
#[derive(Debug, Default)]
struct Life {
    /// When calls ended, and what the holder heard.
    heard: Vec<(Duration, News)>,
    /// From when to when the gateway's leases held.
    held: Vec<(Duration, Duration)>,
}

impl World {
    fn is_away(&self, at: Duration) -> bool {
        self.outages.iter().any(|(from, until)| (*from..*until).contains(&at))
    }

    fn live(&self, seed: u64) -> Life {
        let mut schedule = RenewalSchedule::new(seed);
        let mut jitter = Jitter::new(seed ^ 1);
        let mut life = Life::default();
        let mut duty = Duty::Authorize { after: Duration::ZERO };
        let mut now = Duration::ZERO;
        while now < self.end {
            let (after, renews) = match duty {
                Duty::Renew { after } => (after, true),
                Duty::Authorize { after } => (after, false),
                Duty::Stop => panic!("nobody took the address"),
            };
            now += after + self.latency;
            let lives = life.held.last().is_some_and(|(_, until)| *until > now);
            let news = if self.is_away(now) {
                News::Silence
            } else if renews && !lives {
                News::Gone
            } else {
                if lives {
                    life.held.last_mut().unwrap().1 = now + self.ttl;
                } else {
                    life.held.push((now, now + self.ttl));
                }
                // As the server spreads them.
                News::Leased { renew_after: jitter.between(self.ttl * 2 / 5, self.ttl / 2) }
            };
            life.heard.push((now, news));
            duty = schedule.heard(news);
        }
        life
    }
}

fn world() -> impl Strategy<Value = World> {
    let spans = prop::collection::vec((1u64..7200, 1u64..7200), 0..6);
    (10u64..3600, 1u64..1000, spans).prop_map(|(ttl_s, latency_ms, spans)| {
        let mut at = Duration::ZERO;
        let outages = spans
            .into_iter()
            .map(|(well_s, away_s)| {
                let from = at + Duration::from_secs(well_s);
                at = from + Duration::from_secs(away_s);
                (from, at)
            })
            .collect();
        World {
            ttl: Duration::from_secs(ttl_s),
            latency: Duration::from_millis(latency_ms),
            outages,
            end: at + Duration::from_hours(3),
        }
    })
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        (0u64..1_000_000).prop_map(|ms| News::Leased { renew_after: Duration::from_millis(ms) }),
        Just(News::Unrenewed),
        Just(News::Silence),
        Just(News::Denied),
        Just(News::Gone),
        Just(News::Superseded),
    ]
}

proptest! {
    #[test]
    fn a_lease_never_runs_out_while_the_gateway_is_there(world in world(), seed: u64) {
        let world = World { outages: Vec::new(), ..world };
        let life = world.live(seed);
        prop_assert_eq!(life.held.len(), 1);
        let renewed = life.heard.iter().all(|(_, news)| matches!(news, News::Leased { .. }));
        prop_assert!(renewed, "{:?}", life.heard);
    }

    #[test]
    fn a_lease_is_held_again_soon_after_every_outage(world in world(), seed: u64) {
        let life = world.live(seed);
        // The longest delay, the call after it, and, where the lease has run out meanwhile, one more.
        let soon = MINUTE + 2 * world.latency;
        for (_, until) in &world.outages {
            let at = *until + soon;
            let away_again = world.outages.iter().any(|(from, again)| *from <= at && again > until);
            let held = life.held.iter().any(|(from, until)| *from <= at && *until > at);
            prop_assert!(held || away_again, "not held at {at:?}: {:?}", life.held);
        }
    }

    #[test]
    fn an_outage_is_answered_with_few_calls(world in world(), seed: u64) {
        let life = world.live(seed);
        for (from, until) in &world.outages {
            let calls = life.heard.iter().filter(|(at, _)| (*from..*until).contains(at)).count();
            // Seven while the delay doubles, then one in half of the longest.
            let most = 7 + until.saturating_sub(*from).as_secs() / 30 + 1;
            prop_assert!(calls as u64 <= most, "{calls} calls, {most} at most");
        }
    }

    #[test]
    fn whatever_is_heard_the_next_duty_fits_it(heard in prop::collection::vec(news(), 1..60), seed: u64) {
        let (mut schedule, mut twin) = (RenewalSchedule::new(seed), RenewalSchedule::new(seed));
        let mut settled = News::Gone;
        for news in heard {
            if settled != News::Superseded && news != News::Silence {
                settled = news;
            }
            let duty = schedule.heard(news);
            prop_assert_eq!(duty, twin.heard(news));
            let fits = match (settled, duty) {
                (News::Leased { .. }, Duty::Renew { after }) => after >= SECOND / 2,
                (News::Superseded, Duty::Stop) => true,
                (News::Gone | News::Denied | News::Unrenewed, Duty::Authorize { after }) => {
                    news == News::Gone || after >= SECOND / 2
                }
                _ => false,
            };
            prop_assert!(fits, "{duty:?} after {news:?}");
        }
    }
}

#[test]
fn the_gateway_says_when_but_not_at_once() {
    let mut schedule = RenewalSchedule::new(1);
    let leased = |after| News::Leased { renew_after: after };
    assert_eq!(schedule.heard(leased(5 * MINUTE)), Duty::Renew { after: 5 * MINUTE });
    assert_eq!(schedule.heard(leased(Duration::ZERO)), Duty::Renew { after: SECOND });
}

#[test]
fn silence_is_answered_with_delays_that_double_up_to_a_minute() {
    let mut schedule = RenewalSchedule::new(1);
    schedule.heard(News::Leased { renew_after: MINUTE });
    for ceiling_s in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        let Duty::Renew { after } = schedule.heard(News::Silence) else { panic!("gave up") };
        let ceiling = ceiling_s * SECOND;
        assert!(after >= ceiling / 2 && after <= ceiling, "{after:?} of {ceiling:?}");
    }
    // An answer ends it.
    schedule.heard(News::Leased { renew_after: MINUTE });
    assert!(matches!(schedule.heard(News::Silence), Duty::Renew { after } if after <= SECOND));
}

#[test]
fn what_is_gone_is_asked_for_at_once_and_what_is_denied_after_minutes() {
    let mut schedule = RenewalSchedule::new(1);
    schedule.heard(News::Leased { renew_after: MINUTE });
    assert_eq!(schedule.heard(News::Gone), Duty::Authorize { after: Duration::ZERO });
    let Duty::Authorize { after } = schedule.heard(News::Denied) else { panic!("gave up") };
    assert!((DENIED_DELAY / 2..=DENIED_DELAY).contains(&after), "{after:?}");
    let Duty::Authorize { after } = schedule.heard(News::Unrenewed) else { panic!("gave up") };
    assert!((UNRENEWED_DELAY / 2..=UNRENEWED_DELAY).contains(&after), "{after:?}");
}
