//! Durations and rates as a person writes them: `400ms`, `1m30s`; `50`, `50/s`, `600/m`.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// Longest duration that is accepted: a week.
pub const DURATION_MAX: Duration = Duration::from_hours(7 * 24);
/// Highest count of a rate, as in profiles.
pub const RATE_COUNT_MAX: u32 = 1_000_000;

/// What is wrong with a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of a duration's form.
    #[error("expected a duration such as 400ms, 1s, 2m or 1m30s")]
    Duration,
    /// Longer than [`DURATION_MAX`].
    #[error("expected at most 7 days")]
    TooLong,
    /// Not of a rate's form, or out of bounds.
    #[error("expected a rate such as 50, 50/s, 600/m or 36000/h, with a whole number from 1 to 1000000")]
    Rate,
}

/// Parses `400ms`, `1s`, `2m`, `1h`, `7d` and sums of them in falling order of unit, such as `1m30s`.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut unit_before_ms = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(QuantityError::Duration),
        };
        if digits == 0 || unit_ms >= unit_before_ms {
            return Err(QuantityError::Duration);
        }
        let count: u64 = number.parse().map_err(|_| QuantityError::TooLong)?;
        let part_ms = count.checked_mul(unit_ms).ok_or(QuantityError::TooLong)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(QuantityError::TooLong)?;
        unit_before_ms = unit_ms;
        rest = tail;
    }
    let total = Duration::from_millis(total_ms);
    match unit_before_ms {
        u64::MAX => Err(QuantityError::Duration),
        _ if total > DURATION_MAX => Err(QuantityError::TooLong),
        _ => Ok(total),
    }
}

/// A rate: so many in a second, minute or hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// So many a second.
    pub const fn per_second(count: NonZeroU32) -> Self {
        Self { count, per: Per::Second }
    }

    /// So many an hour.
    pub const fn per_hour(count: NonZeroU32) -> Self {
        Self { count, per: Per::Hour }
    }

    /// The rate, a second.
    pub fn per_s(self) -> f64 {
        let seconds = match self.per {
            Per::Second => 1.0,
            Per::Minute => 60.0,
            Per::Hour => 3600.0,
        };
        f64::from(self.count.get()) / seconds
    }
}

impl FromStr for Rate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, per) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), Per::Second),
            Some((number, "m")) => (number, Per::Minute),
            Some((number, "h")) => (number, Per::Hour),
            Some(_) => return Err(QuantityError::Rate),
        };
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Rate);
        }
        let count = number.parse().ok().filter(|count: &NonZeroU32| count.get() <= RATE_COUNT_MAX);
        count.map(|count| Self { count, per }).ok_or(QuantityError::Rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("400ms"), Ok(Duration::from_millis(400)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("7d"), Ok(DURATION_MAX));
        for wrong in ["", "1", "s", "1.5s", "-1s", "1s1m", "1s1s", "1 s", "1S", "1µs"] {
            assert_eq!(parse_duration(wrong), Err(QuantityError::Duration), "{wrong:?}");
        }
        for wrong in ["8d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(wrong), Err(QuantityError::TooLong), "{wrong:?}");
        }
    }

    #[test]
    fn rates() {
        for (text, per_s, shown) in [
            ("50", 50.0_f64, "50/s"),
            ("50/s", 50.0, "50/s"),
            ("600/m", 10.0, "600/m"),
            ("1/h", 1.0 / 3600.0, "1/h"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.per_s().to_bits(), rate.to_string().as_str()), (per_s.to_bits(), shown));
        }
        for wrong in
            ["", "0", "0/s", "/s", "50/", "50/d", "5.5/s", "-1", "+1", "1000001", "50/s/s", "99999999999"]
        {
            assert_eq!(wrong.parse::<Rate>(), Err(QuantityError::Rate), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = text.parse::<Rate>();
        }

        #[test]
        fn a_shown_rate_parses_to_itself(count in 1..=RATE_COUNT_MAX, unit in "[smh]") {
            let text = format!("{count}/{unit}");
            prop_assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }

        #[test]
        fn parts_add_up(h in 0_u64..100, m in 0_u64..100, s in 0_u64..100, ms in 0_u64..2000) {
            let expected = Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms);
            prop_assert_eq!(parse_duration(&format!("{h}h{m}m{s}s{ms}ms")), Ok(expected));
        }
    }
}
