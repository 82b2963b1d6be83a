//! Instants in UTC, as RFC 3339 has them.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Days from 0000-03-01, from which years of the calendar's rule are counted, to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// `2026-11-23T12:00:47Z`, in whole seconds; before 1970 it is 1970.
pub(crate) fn rfc3339(instant: SystemTime) -> String {
    let (year, month, day, second) = civil(instant);
    format!("{year:04}-{month:02}-{day:02}T{}", time_of_day(second))
}

/// `2026-11-23T12:00:47.250Z`, in whole milliseconds; before 1970 it is 1970.
pub(crate) fn rfc3339_millis(instant: SystemTime) -> String {
    let millis = instant.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    format!("{}.{millis:03}Z", rfc3339(instant).trim_end_matches('Z'))
}

/// Reads what [`rfc3339_millis`] writes, and nothing else.
pub(crate) fn parse_millis(text: &str) -> Option<SystemTime> {
    let number = |digits: Range<usize>| text.get(digits)?.parse::<u64>().ok();
    let days = days(number(0..4)?, number(5..7)?, number(8..10)?)?;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let instant = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(number(20..23)?);
    // Days, hours and separators that there are not come out as others.
    (rfc3339_millis(instant) == text).then_some(instant)
}

/// `12:00:47Z`.
pub(crate) fn clock_time(instant: SystemTime) -> String {
    time_of_day(civil(instant).3)
}

fn time_of_day(second: u64) -> String {
    format!("{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month, day and second of the day: Howard Hinnant's `civil_from_days`, for days since 1970.
fn civil(instant: SystemTime) -> (u64, u64, u64, u64) {
    let seconds = instant.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let days = seconds / 86_400 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day, seconds % 86_400)
}

/// Days since 1970, by the inverse of [`civil`]; none before. For years of four digits, and the rest of two.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = ((153 * shifted_month + 2) / 5 + day).checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(DAYS_BEFORE_1970)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(clock_time(UNIX_EPOCH + Duration::from_secs(3661)), "01:01:01Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = (1969, 12, 31);
        for day in 0..200_000 {
            let (year, month, day, _) = civil(UNIX_EPOCH + Duration::from_secs(day * 86_400));
            let next = (year, month, day);
            let rolls = day == 1 && (month == before.1 + 1 || (month, before.1) == (1, 12));
            assert!(next > before && (rolls || day == before.2 + 1), "{before:?} then {next:?}");
            before = next;
        }
    }
    #[test]
    fn only_what_is_written_is_read() {
        for text in [
            "",
            "2026-11-23T12:00:47Z",
            "2026-11-23T12:00:47.25Z",
            "2026-11-23T12:00:47.250",
            "2026-11-23t12:00:47.250Z",
            "2026-11-23T12:00:47.250+00:00",
            "2026-02-30T12:00:47.250Z",
            "2026-13-01T12:00:47.250Z",
            "2026-00-01T12:00:47.250Z",
            "2026-11-00T12:00:47.250Z",
            "2026-11-23T24:00:00.000Z",
            "2026-11-23T12:00:60.000Z",
            "+026-11-23T12:00:47.250Z",
            "1969-12-31T23:59:59.999Z",
            "0000-01-01T00:00:00.000Z",
            "\u{2003}26-11-23T12:00:47.250Z",
        ] {
            assert_eq!(parse_millis(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn instants_read_back(millis in 0u64..253_402_300_800_000) {
            let instant = UNIX_EPOCH + Duration::from_millis(millis);
            prop_assert_eq!(parse_millis(&rfc3339_millis(instant)), Some(instant));
        }

        #[test]
        fn no_text_is_too_strange(text in "[0-9T:.Z+-]{0,26}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{12}Z|\\PC{0,26}") {
            if let Some(instant) = parse_millis(&text) {
                prop_assert_eq!(rfc3339_millis(instant), text);
            }
        }
    }
}
