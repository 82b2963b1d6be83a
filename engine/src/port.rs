//! Ports and protocols.

use std::{fmt, num::NonZeroU16, str::FromStr};

use crate::fault::{Unreadable, nearest, shown};

/// Transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl FromStr for Protocol {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            other => Err(one_of("protocol", other, &["TCP", "UDP"])),
        }
    }
}

/// The refusal of a word that is none of the known ones.
pub(crate) fn one_of(what: &str, given: &str, known: &[&str]) -> Unreadable {
    let hint = nearest(given, known.iter().copied())
        .map(|near| format!("; did you mean `{near}`?"))
        .unwrap_or_default();
    Unreadable(format!("{} is no {what}; expected {}{hint}", shown(given), known.join(", ")))
}

/// A port or a range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The range from `first` to `last`, or why there is none.
    pub fn new(first: u32, last: u32) -> Result<Self, Unreadable> {
        let port = |number: u32| {
            u16::try_from(number)
                .ok()
                .and_then(NonZeroU16::new)
                .ok_or_else(|| Unreadable(format!("{number} is no port; expected 1 to 65535")))
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(Unreadable(format!(
                "the range {first}-{last} runs backwards; expected {last}-{first}"
            )));
        }
        Ok(Self { first, last })
    }

    /// The first port.
    pub fn first(self) -> u16 {
        self.first.get()
    }

    /// The last port.
    pub fn last(self) -> u16 {
        self.last.get()
    }

    /// Whether each port of `other` is one of these.
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether some port is one of both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for PortRange {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let number = |digits: &str| {
            Some(digits)
                .filter(|digits| {
                    !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|b| b.is_ascii_digit())
                })
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| {
                    Unreadable(format!(
                        "{} is no port; expected one such as `3306` or a range such as `6379-6381`",
                        shown(text)
                    ))
                })
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(number(first)?, number(last)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn absurd_ports_are_refused() {
        for text in ["", "0", "65536", "-1", "1-", "7-3", "99999999999999999999", "80 ", "+80", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?} was read as a port");
        }
    }

    proptest! {
        #[test]
        fn ranges_read_back(a in 1u32..=65535, b in 1u32..=65535) {
            let range = PortRange::new(a.min(b), a.max(b)).unwrap();
            prop_assert_eq!(range.to_string().parse::<PortRange>().unwrap(), range);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            let _ = text.parse::<PortRange>();
        }
    }
}
