//! Text from outside, made fit for a log line: bounded, and without control characters.

/// Longest piece of foreign text that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 300;

/// The text on one line, at most 300 bytes of it.
pub(crate) fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(SHOWN_BYTES_MAX));
    for character in text.chars() {
        let character = if character.is_control() { ' ' } else { character };
        if line.len() + character.len_utf8() > SHOWN_BYTES_MAX {
            line.push('…');
            break;
        }
        line.push(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_forged_log_line_stays_on_its_own() {
        assert_eq!(shown("no\r\n12:00:00 granted\u{1b}[2J"), "no  12:00:00 granted [2J");
    }

    proptest! {
        #[test]
        fn shown_text_is_short_and_printable(text in any::<String>(), times in 1usize..200) {
            let line = shown(&text.repeat(times));
            prop_assert!(line.len() <= SHOWN_BYTES_MAX + '…'.len_utf8());
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
