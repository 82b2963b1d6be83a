//! `grpc-timeout`: how long a caller waits for its answer.

use std::time::Duration;

/// The header.
pub const HEADER: &str = "grpc-timeout";

/// Reads a timeout: at most eight digits and a unit (gRPC over HTTP/2, "Timeout"). One that cannot be read is taken as
/// none, as grpc-go does.
pub fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_none(text in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Some(timeout) = parse(&text) {
                prop_assert!(timeout <= Duration::from_secs(99_999_999 * 3600));
            }
        }
    }

    #[test]
    fn timeouts_of_every_unit_are_read_and_nonsense_is_none() {
        assert_eq!(parse(b"10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse(b"7u"), Some(Duration::from_micros(7)));
        for text in ["", "S", "10", "-1S", "123456789S", "10x", "1 S"] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
