//! How long a grant lives, and when its holder is told to renew it.

use std::time::Duration;

use crate::{grant::Grant, time::WallTime};

/// By what a grant goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tenure {
    /// Its pod never renews: it lives until it is taken or given back, and at the latest for `max_age`.
    Fixed,
    /// Its pod renews: it lives by `ttl` from each renewal, and has no oldest age, since each renewal is decided again.
    Renewed,
}

/// For how long an app's grants live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of one that is renewed, from each renewal.
    pub ttl: Duration,
    /// Of one that is not.
    pub max_age: Duration,
}

/// What holds while the gateway cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// Nothing.
    Deny,
    /// A living lease goes on, for at most so long beyond its end.
    LastGrant(Duration),
}

/// Where in its lease a renewal lies: from this share of what is left on, within the next one.
const RENEW_FROM: f64 = 0.4;
const RENEW_WITHIN: f64 = 0.2;

impl Tenure {
    /// When a grant ends that was made or renewed `now`.
    pub fn end(self, lifetimes: Lifetimes, now: WallTime) -> WallTime {
        match self {
            Self::Fixed => now.plus(lifetimes.max_age),
            Self::Renewed => now.plus(lifetimes.ttl),
        }
    }

    /// The tenure of a grant that is asked for with both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fixed, Self::Fixed) => Self::Fixed,
            (Self::Renewed, _) | (_, Self::Renewed) => Self::Renewed,
        }
    }
}

impl Grant {
    /// How much longer than to its end it goes on where nobody can renew it.
    pub fn grace(&self) -> Option<Duration> {
        match (self.tenure, self.fallback) {
            (Tenure::Renewed, Fallback::LastGrant(grace)) => Some(grace),
            (Tenure::Renewed, Fallback::Deny) | (Tenure::Fixed, _) => None,
        }
    }

    /// The same grant for a gateway that was not there when it ended: nobody could renew it then. It goes on for as long as
    /// its fallback says, and not at all where that is over as well.
    pub fn after_outage(&self, now: WallTime) -> Option<Self> {
        let expires_at = self.expires_at.plus(self.grace()?);
        let was_missed = !self.lives(now);
        (was_missed && now < expires_at).then(|| Self { expires_at, ..self.clone() })
    }

    /// How long after `now` its holder should renew it, if it is renewed at all: after 40 to 60 % of what is left, spread
    /// by id and generation, so that pods that were granted together do not come back together.
    pub fn renew_after(&self, now: WallTime) -> Option<Duration> {
        match self.tenure {
            Tenure::Fixed => None,
            Tenure::Renewed => {
                let spread = fraction(self.id.0 ^ self.generation.rotate_left(32));
                Some(self.expires_at.since(now).mul_f64(RENEW_FROM + RENEW_WITHIN * spread))
            }
        }
    }
}

/// A number as a fraction of one, so that near numbers lie far apart: the finalizer of splitmix64 (Steele, Lea and Flood,
/// OOPSLA 2014).
fn fraction(number: u64) -> f64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_numbers_are_spread_evenly() {
        let mut tenths = [0; 10];
        for number in 0..10_000 {
            tenths[(fraction(number) * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1_100).contains(count)), "{tenths:?}");
    }

    #[test]
    fn who_renews_once_is_renewed() {
        let lifetimes = Lifetimes { ttl: Duration::from_secs(600), max_age: Duration::from_secs(86_400) };
        let now = WallTime::from_millis(5_000);
        assert_eq!(Tenure::Fixed.with(Tenure::Renewed), Tenure::Renewed);
        assert_eq!(Tenure::Renewed.with(Tenure::Fixed).end(lifetimes, now), now.plus(lifetimes.ttl));
        assert_eq!(Tenure::Fixed.with(Tenure::Fixed).end(lifetimes, now), now.plus(lifetimes.max_age));
    }
}
