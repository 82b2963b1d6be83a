//! The token bucket, kept as GCRA (the virtual-scheduling form of ITU-T I.371, annex A) with two marks.
//!
//! The *frontier* is the theoretical arrival time: the last instant that is promised to anyone. The *meter* is a
//! leaky level of actual admissions (leak R, height B). As long as nothing is booked ahead the two move together;
//! booking moves the frontier past now, while only admissions raise the meter, and the meter is what makes the bound
//! hard: in any window Δ, at most B + R·Δ + 0.2·R + 1 are admitted, and no more than B + R·Δ where nobody came late.

use std::time::Duration;

use crate::{meter::Meter, quota::Quota, time::Moment};

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    quota: Quota,
    frontier: Moment,
    meter: Meter,
}

/// Whether a walk-in may pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, and its token is spent.
    Admitted,
    /// Not before this long has passed, and nothing is spent. Never zero.
    Wait(Duration),
}

impl Bucket {
    /// A bucket that has been left alone for ever: the whole burst is there.
    pub fn full(quota: Quota, now: Moment) -> Self {
        Self { quota, frontier: now.offset(-quota.span_ns()), meter: Meter::empty(now) }
    }

    /// A bucket of which no more is known than how far it may have been booked, as after a restart at `now`: as if the
    /// whole burst had been spent just then.
    pub fn drained(quota: Quota, frontier: Moment, now: Moment) -> Self {
        Self { quota, frontier: frontier.max(now), meter: Meter::full(quota, now) }
    }

    /// What it allows.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// The last instant that is promised to anyone.
    pub fn frontier(&self) -> Moment {
        self.frontier
    }

    /// The first instant at which a walk-in would pass if nobody else came; at or before `now` means at once.
    pub fn next_slot(&self, now: Moment) -> Moment {
        self.next_slot_beside(0, now)
    }

    /// The same where `due` holders of slots that have begun are still expected: room is kept for them.
    pub(crate) fn next_slot_beside(&self, due: u32, now: Moment) -> Moment {
        self.conforming(now).max(self.meter.has_room_at(self.quota, due))
    }

    /// Whether the level leaves room for one more beside `due` that are expected, whatever is booked ahead: what
    /// no-shows have left behind.
    pub(crate) fn has_room_beside(&self, due: u32, now: Moment) -> bool {
        self.meter.has_room_at(self.quota, due) <= now
    }

    /// When who comes on time can be admitted. It is at or before their slot wherever this bucket alone has booked it.
    pub(crate) fn takes_on_time_at(&self) -> Moment {
        self.meter.takes_on_time_at(self.quota)
    }

    /// Admits a walk-in now, or tells how long it would have to wait.
    pub fn admit(&mut self, now: Moment) -> Admission {
        let slot = self.next_slot(now);
        if slot > now {
            return Admission::Wait(slot.since(now));
        }
        self.spend(now);
        Admission::Admitted
    }

    /// Spends one token, for a walk-in that has seen that `next_slot` is not after `now`.
    pub(crate) fn spend(&mut self, now: Moment) {
        self.frontier = self.conforming(now);
        self.meter.raise(now, self.quota);
    }

    /// Promises `slot`, which is not before `next_slot`.
    pub(crate) fn book(&mut self, slot: Moment) {
        self.frontier = slot;
    }

    /// Admits one that the frontier has seen already, or that takes what a no-show left.
    pub(crate) fn raise(&mut self, now: Moment) {
        self.meter.raise(now, self.quota);
    }

    fn conforming(&self, now: Moment) -> Moment {
        self.frontier.max(now.offset(-self.quota.span_ns())).offset(self.quota.interval_ns())
    }

    /// How many walk-ins would pass at once now.
    pub fn available(&self, now: Moment) -> u32 {
        let room = |slot: Moment| {
            let ahead = now.as_nanos().saturating_sub(slot.as_nanos());
            if ahead < 0 { 0 } else { ahead / self.quota.interval_ns() + 1 }
        };
        u32::try_from(room(self.next_slot(now))).unwrap_or(u32::MAX).min(self.quota.burst.get())
    }

    /// Whether it is as good as new.
    pub fn is_full(&self, now: Moment) -> bool {
        self.frontier <= now.offset(-self.quota.span_ns()) && self.meter.is_empty(now)
    }

    /// Takes another quota from now on. What has been spent stays spent, token for token, up to the new burst; what
    /// has been promised stays promised.
    pub fn set_quota(&mut self, quota: Quota, now: Moment) {
        if quota == self.quota {
            return;
        }
        if self.frontier <= now {
            let spent_ns = self.frontier.offset(self.quota.span_ns()).since(now).as_nanos() as i128;
            let scaled = spent_ns * i128::from(quota.interval_ns()) / i128::from(self.quota.interval_ns());
            let spent_ns = scaled.min(i128::from(quota.span_ns())) as i64;
            self.frontier = now.offset(spent_ns - quota.span_ns());
        }
        self.meter = self.meter.rescaled(self.quota, quota, now);
        self.quota = quota;
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use governor::{
        Quota as GovernorQuota, RateLimiter,
        clock::{Clock as _, FakeRelativeClock},
    };
    use proptest::prelude::*;

    use super::*;

    fn quota(rate: &str, burst: u32) -> Quota {
        Quota { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() }
    }

    fn at_ms(ms: i64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::full(quota("50/s", 3), at_ms(0));
        for _ in 0..3 {
            assert_eq!(bucket.admit(at_ms(0)), Admission::Admitted);
        }
        assert_eq!(bucket.available(at_ms(0)), 0);
        assert_eq!(bucket.admit(at_ms(0)), Admission::Wait(Duration::from_millis(20)));
        assert_eq!(bucket.admit(at_ms(19)), Admission::Wait(Duration::from_millis(1)));
        assert_eq!(bucket.admit(at_ms(20)), Admission::Admitted);
        assert_eq!(bucket.available(at_ms(1_000)), 3);
    }

    #[test]
    fn after_a_restart_nothing_is_left_of_the_burst() {
        let mut bucket = Bucket::drained(quota("50/s", 100), at_ms(0), at_ms(7));
        assert_eq!(bucket.admit(at_ms(7)), Admission::Wait(Duration::from_millis(20)));
        assert_eq!(bucket.admit(at_ms(27)), Admission::Admitted);
    }

    #[test]
    fn a_new_quota_forgets_no_spent_token() {
        let mut bucket = Bucket::full(quota("10/s", 20), at_ms(0));
        for _ in 0..20 {
            assert_eq!(bucket.admit(at_ms(0)), Admission::Admitted);
        }
        bucket.set_quota(quota("1000/s", 30), at_ms(0));
        assert_eq!(bucket.available(at_ms(0)), 10);
        bucket.set_quota(quota("10/s", 5), at_ms(0));
        assert_eq!(bucket.available(at_ms(0)), 0);
        assert_eq!(bucket.admit(at_ms(100)), Admission::Admitted);
    }

    fn quotas() -> impl Strategy<Value = Quota> {
        ((1u32..2_000), (1u32..50)).prop_map(|(rate, burst)| quota(&format!("{rate}/s"), burst))
    }

    proptest! {
        /// governor keeps one mark and we keep two; without booking they must agree to the nanosecond.
        #[test]
        fn governor_agrees(quota in quotas(), gaps_us in prop::collection::vec(0u64..40_000, 1..200)) {
            let clock = FakeRelativeClock::default();
            let oracle = RateLimiter::direct_with_clock(
                GovernorQuota::with_period(quota.rate.interval()).unwrap().allow_burst(quota.burst),
                clock.clone(),
            );
            let mut now = at_ms(0);
            let mut bucket = Bucket::full(quota, now);
            for gap in gaps_us {
                clock.advance(Duration::from_micros(gap));
                now = now.offset(i64::try_from(gap).unwrap() * 1_000);
                let expected = match oracle.check() {
                    Ok(()) => Admission::Admitted,
                    Err(refusal) => Admission::Wait(refusal.wait_time_from(clock.now())),
                };
                prop_assert_eq!(bucket.admit(now), expected);
            }
        }

        /// The told wait is exact on both sides: a nanosecond earlier is refused, on time is admitted.
        #[test]
        fn waits_are_exact(quota in quotas(), gaps_us in prop::collection::vec(0u64..40_000, 1..100)) {
            let mut now = at_ms(0);
            let mut bucket = Bucket::full(quota, now);
            for gap in gaps_us {
                now = now.offset(i64::try_from(gap).unwrap() * 1_000);
                if let Admission::Wait(wait) = bucket.admit(now) {
                    let due = now.offset(i64::try_from(wait.as_nanos()).unwrap());
                    prop_assert_ne!(bucket.clone().admit(due.offset(-1)), Admission::Admitted);
                    prop_assert_eq!(bucket.clone().admit(due), Admission::Admitted);
                }
            }
        }

        /// The bound holds in every window, also where the clock of one caller lags behind another's.
        #[test]
        fn no_window_holds_more_than_the_bound(
            quota in quotas(),
            steps_us in prop::collection::vec(-3_000i64..20_000, 1..300),
        ) {
            let mut now = at_ms(1_000);
            let mut bucket = Bucket::full(quota, now);
            let mut admitted = Vec::new();
            for step_us in steps_us {
                now = now.offset(step_us * 1_000);
                if bucket.admit(now) == Admission::Admitted {
                    admitted.push(now);
                }
            }
            admitted.sort_unstable();
            let interval = quota.rate.interval().as_nanos();
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128;
                    let bound = u128::from(quota.burst.get()) + to.since(*from).as_nanos() / interval;
                    prop_assert!(count <= bound, "{count} admitted in {:?}, bound {bound}", to.since(*from));
                }
            }
        }

        #[test]
        fn available_is_how_many_pass(quota in quotas(), spent in 0u32..60, later_us in 0i64..100_000) {
            let mut bucket = Bucket::full(quota, at_ms(0));
            for _ in 0..spent {
                bucket.admit(at_ms(0));
            }
            let now = at_ms(0).offset(later_us * 1_000);
            let expected = bucket.available(now);
            let mut passed = 0;
            while bucket.admit(now) == Admission::Admitted {
                passed += 1;
            }
            prop_assert_eq!(passed, expected);
        }
    }
}
