//! Instants in UTC, as RFC 3339 has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// `2026-11-23T12:00:47Z`, in whole seconds; before 1970 it is 1970.
pub(crate) fn rfc3339(instant: SystemTime) -> String {
    let (year, month, day, second) = civil(instant);
    format!("{year:04}-{month:02}-{day:02}T{}", time_of_day(second))
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
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day, seconds % 86_400)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
