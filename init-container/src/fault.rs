//! What is wrong with a setting.

use std::fmt;

use strsim::osa_distance;

/// A setting that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The flag, the variable, or the file with its line.
    pub(crate) source: String,
    /// What was given, and what was expected.
    pub(crate) what: String,
}

impl Fault {
    pub(crate) fn new(source: impl Into<String>, what: impl Into<String>) -> Self {
        Self { source: source.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.what)
    }
}

/// Text from outside as it may be shown: on one line, at most 100 bytes, in quotes.
pub(crate) fn quoted(text: &str) -> String {
    const BYTES_MAX: usize = 100;
    if text.len() <= BYTES_MAX {
        return format!("{text:?}");
    }
    format!("{:?}… ({} bytes)", &text[..text.floor_char_boundary(BYTES_MAX)], text.len())
}

/// The known name that a misspelt one most likely means, at most `distance_max` edits away.
pub(crate) fn nearest(
    given: &str,
    known: impl Iterator<Item = &'static str>,
    distance_max: usize,
) -> Option<&'static str> {
    let given = if given.len() > 64 { return None } else { given };
    known
        .map(|name| (osa_distance(given, name), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        let text = "é".repeat(1000);
        assert_eq!(quoted(&text), format!("\"{}\"… (2000 bytes)", "é".repeat(50)));
        assert_eq!(quoted("a\nb\u{1b}"), r#""a\nb\u{1b}""#);
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = || ["app", "endpoint", "wait"].into_iter();
        assert_eq!(nearest("endpiont", known(), 2), Some("endpoint"));
        assert_eq!(nearest("colour", known(), 2), None);
    }
}
