//! The meter: a leaky level of actual admissions, which makes a bucket's bound hard whatever was booked.

use std::time::Duration;

use crate::{quota::Quota, time::Moment};

/// How late a ticket may come and still be on time. So many seconds of the rate, and one more, are what admissions
/// may exceed the burst by: ticket holders of 200 ms may come all together.
pub(crate) const LATENESS_NS: i64 = 200_000_000;

/// A leaky level of actual admissions (leak R), kept as the instant at which it will be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    empty_at: Moment,
}

impl Meter {
    pub(crate) fn empty(now: Moment) -> Self {
        Self { empty_at: now }
    }

    /// As if the whole burst had been admitted just now.
    pub(crate) fn full(quota: Quota, now: Moment) -> Self {
        Self { empty_at: now.offset(quota.span_ns()) }
    }

    /// The first instant at which level + `beside` + 1 ≤ B: where `beside` more are expected, one more has room. Where
    /// more than a whole burst is expected, it is an empty level that has room: else those who do not come would keep
    /// everyone else out.
    pub(crate) fn has_room_at(&self, quota: Quota, beside: u32) -> Moment {
        self.has_room_for_at(quota, beside.min(quota.burst.get() - 1) + 1)
    }

    /// The first instant at which level + `hits` ≤ B, for at most B of them.
    pub(crate) fn has_room_for_at(&self, quota: Quota, hits: u32) -> Moment {
        let wanted_ns = quota.interval_ns() * i64::from(hits);
        self.empty_at.offset(wanted_ns.saturating_sub(quota.span_ns()))
    }

    /// How many there is room for now.
    pub(crate) fn room(&self, quota: Quota, now: Moment) -> u32 {
        let level_ns = self.empties_in(now).as_nanos() as i64;
        u32::try_from((quota.span_ns() - level_ns) / quota.interval_ns()).unwrap_or(0)
    }

    /// How long until nothing is left of what was admitted.
    pub(crate) fn empties_in(&self, now: Moment) -> Duration {
        self.empty_at.since(now)
    }

    /// The first instant at which level + 1 ≤ B + 0.2·R + 1: from then on, who is on time has room.
    pub(crate) fn takes_on_time_at(&self, quota: Quota) -> Moment {
        self.empty_at.offset(-quota.span_ns() - LATENESS_NS)
    }

    pub(crate) fn raise(&mut self, now: Moment, quota: Quota) {
        self.raise_by(now, quota, 1);
    }

    pub(crate) fn raise_by(&mut self, now: Moment, quota: Quota, hits: u32) {
        self.empty_at = self.empty_at.max(now).offset(quota.interval_ns() * i64::from(hits));
    }

    /// Whether nothing is left of what was admitted.
    pub(crate) fn is_empty(&self, now: Moment) -> bool {
        self.empty_at <= now
    }

    /// The same level, token for token, at another rate; at most the new burst.
    pub(crate) fn rescaled(&self, from: Quota, to: Quota, now: Moment) -> Self {
        let left_ns = self.empty_at.since(now).as_nanos() as i128;
        let scaled = left_ns * i128::from(to.interval_ns()) / i128::from(from.interval_ns());
        Self { empty_at: now.offset(scaled.min(i128::from(to.span_ns())) as i64) }
    }
}
