//! Spans of time as people write and read them: `90s`, `1h30m`, `500ms`.

use std::time::Duration;

/// Units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads `90s`, `10m`, `1h30m`, `7d` or `500ms`: whole numbers with units that fall from left to right.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut smaller = &UNITS[..];
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let index = smaller.iter().position(|(name, _)| *name == unit)?;
        let number: u64 = number.parse().ok()?;
        total_ms = total_ms.checked_add(number.checked_mul(smaller[index].1)?)?;
        smaller = &smaller[index + 1..];
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// The span as a person says it: in milliseconds below a second, with one decimal below a minute, in whole seconds
/// above.
pub(crate) fn spoken(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        return format!("{}ms", span.as_millis());
    }
    if span < Duration::from_mins(1) {
        let tenths = span.as_millis() / 100;
        return match tenths % 10 {
            0 => format!("{}s", tenths / 10),
            tenth => format!("{}.{tenth}s", tenths / 10),
        };
    }
    let mut rest = span.as_secs() * 1000;
    let mut words = String::new();
    for (unit, milliseconds) in UNITS {
        if rest >= milliseconds {
            words.extend([&(rest / milliseconds).to_string(), unit]);
            rest %= milliseconds;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("90s", 90_000),
            ("9m", 540_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("500ms", 500),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "9", "m", "9 m", "9x", "-9s", "1.5s", "30m1h", "9m9m", "9M", "99999999999999999999s"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_spoken() {
        for (ms, words) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (3250, "3.2s"),
            (59_999, "59.9s"),
            (540_000, "9m"),
            (5_430_000, "1h30m30s"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(spoken(Duration::from_millis(ms)), words);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[0-9dhms .-]{0,12}|\\PC{0,12}") {
            if let Some(span) = parse(&text) {
                prop_assert!(text.starts_with(|first: char| first.is_ascii_digit()), "{:?} as {:?}", text, span);
            }
        }

        #[test]
        fn what_is_spoken_reads_back_but_for_its_fraction(seconds in 60u64..10_000_000) {
            let span = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&spoken(span)), Some(span));
        }
    }
}
