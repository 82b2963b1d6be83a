//! Rates and bursts.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use crate::fault::{Unreadable, shown};

/// Highest rate: one admission a microsecond.
const PER_SECOND_MAX: u64 = 1_000_000;

/// A sustained rate: so many in a second, minute or hour; at least 1/h, at most 1,000,000/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    unit: RateUnit,
}

/// What a rate counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RateUnit {
    /// `/s`
    Second,
    /// `/m`
    Minute,
    /// `/h`
    Hour,
}

impl RateUnit {
    fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// `count` in each second.
    pub fn per_second(count: NonZeroU32) -> Self {
        Self { count, unit: RateUnit::Second }
    }

    /// How many in each unit.
    pub fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The unit.
    pub fn unit(self) -> RateUnit {
        self.unit
    }

    /// T = 1/R, rounded up to a nanosecond so that rounding never adds to the rate.
    pub fn interval(self) -> Duration {
        let unit_ns = self.unit.seconds() * 1_000_000_000;
        Duration::from_nanos(unit_ns.div_ceil(u64::from(self.count.get())))
    }

    /// Admissions a second.
    pub fn as_per_second(self) -> f64 {
        f64::from(self.count.get()) / self.unit.seconds() as f64
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            RateUnit::Second => 's',
            RateUnit::Minute => 'm',
            RateUnit::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

impl FromStr for Rate {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let refuse = || {
            Unreadable(format!(
                "{} is no rate; expected one such as `50/s`, `600/m` or `36000/h`, from 1/h to {PER_SECOND_MAX}/s",
                shown(text)
            ))
        };
        let (count, unit) = text.split_once('/').ok_or_else(refuse)?;
        let unit = match unit {
            "s" => RateUnit::Second,
            "m" => RateUnit::Minute,
            "h" => RateUnit::Hour,
            _ => return Err(refuse()),
        };
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse());
        }
        let count: NonZeroU32 = count.parse().map_err(|_| refuse())?;
        if u64::from(count.get()) > PER_SECOND_MAX * unit.seconds() {
            return Err(refuse());
        }
        Ok(Self { count, unit })
    }
}

/// Most tokens of a burst.
pub const BURST_MAX: u32 = 1_000_000;

/// What a bucket allows: in any window Δ at most B + R·Δ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    /// R.
    pub rate: Rate,
    /// B.
    pub burst: NonZeroU32,
}

impl Quota {
    /// T in nanoseconds.
    pub(crate) fn interval_ns(self) -> i64 {
        self.rate.interval().as_nanos() as i64
    }

    /// B·T in nanoseconds: at most 10⁶ · 3.6·10¹², which an i64 holds with room to spare.
    pub(crate) fn span_ns(self) -> i64 {
        self.interval_ns() * i64::from(self.burst.get())
    }
}

/// Most slots that one bucket books ahead, R·H: what keeps a horizon inside memory.
pub const BOOKINGS_MAX: u64 = 1_000_000;

/// The longest horizon that can be had at a rate.
pub fn horizon_max(rate: Rate) -> Duration {
    rate.interval().saturating_mul(BOOKINGS_MAX as u32)
}

/// Reads a burst.
pub fn parse_burst(number: u64) -> Result<NonZeroU32, Unreadable> {
    u32::try_from(number)
        .ok()
        .filter(|burst| *burst <= BURST_MAX)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| Unreadable(format!("{number} is no burst; expected 1 to {BURST_MAX}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_have_bounds_and_units() {
        assert_eq!("50/s".parse::<Rate>().unwrap().interval(), Duration::from_millis(20));
        assert_eq!("3/s".parse::<Rate>().unwrap().interval(), Duration::from_nanos(333_333_334));
        assert_eq!("1/h".parse::<Rate>().unwrap().interval(), Duration::from_secs(3600));
        assert!("3600000000/h".parse::<Rate>().is_ok());
        for bad in ["", "0/s", "1000001/s", "5", "5/", "/s", "5/d", "-5/s", "+5/s", "5 /s", "99999999999/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad:?} was read as a rate");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_reads_back(text in "[0-9]{0,11}/?[smhd]?|\\PC{0,16}") {
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
            }
        }
    }
}
