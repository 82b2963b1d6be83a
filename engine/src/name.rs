//! Names of things: documents, rules, clusters, pods.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::fault::{Unreadable, shown};

/// Name of an app or another document: lower-case letters, digits, `-` and `.`, 1 to 253 bytes, as Kubernetes names
/// objects (RFC 1123 subdomain).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName(Arc<str>);

impl DocumentName {
    /// Reads a name.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Whether `text` is a name.
    pub fn check(text: &str) -> Result<(), Unreadable> {
        let letters =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        let edge =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = text.as_bytes();
        if bytes.len() <= 253
            && bytes.iter().all(|byte| letters(*byte))
            && edge(bytes.first())
            && edge(bytes.last())
        {
            return Ok(());
        }
        Err(Unreadable(format!(
            "{} is no name; expected 1 to 253 lower-case letters, digits, `-` and `.`, with a letter or digit at both \
             ends",
            shown(text)
        )))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Borrow<str> for DocumentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a word that people chose, such as a rule's or a cluster's name: no white space, no control characters.
pub fn parse_word(what: &str, text: &str, bytes_max: usize) -> Result<Arc<str>, Unreadable> {
    let printable = |byte: u8| byte.is_ascii_graphic();
    if !text.is_empty() && text.len() <= bytes_max && text.bytes().all(printable) {
        return Ok(text.into());
    }
    Err(Unreadable(format!(
        "{} is no {what}; expected 1 to {bytes_max} printable ASCII characters without spaces",
        shown(text)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_names_are_rfc_1123_subdomains() {
        for good in ["a", "hotel-order", "a.b-c.9"] {
            assert_eq!(DocumentName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", ".a", "A", "a_b", "ü", &"a".repeat(254)] {
            assert!(DocumentName::parse(bad).is_err(), "{bad:?} was read as a name");
        }
    }
}
