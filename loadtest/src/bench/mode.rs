//! What is called.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Authorize for common ports only.
    Common,
    /// Authorize again, with a grant that lives.
    Repeat,
    /// Authorize for a new pod each time: a durable grant each.
    Fresh,
    /// Check an address that holds a grant.
    Check,
    /// Authorize for a destination that is not allowed.
    Denied,
    /// Authorize for an app whose bucket is empty.
    Throttled,
}

impl Mode {
    /// All of them, in the order of the reports.
    pub const ALL: [Self; 6] =
        [Self::Common, Self::Repeat, Self::Fresh, Self::Check, Self::Denied, Self::Throttled];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Common => "common",
            Self::Repeat => "repeat",
            Self::Fresh => "fresh",
            Self::Check => "check",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One mode, or all of them in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modes {
    /// One.
    One(Mode),
    /// All.
    All,
}

/// No mode has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected common, repeat, fresh, check, denied, throttled or all")]
pub struct ModeError;

impl FromStr for Modes {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        if text == "all" {
            return Ok(Self::All);
        }
        Mode::ALL.into_iter().find(|mode| mode.name() == text).map(Self::One).ok_or(ModeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_their_modes() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(Modes::One(mode)));
        }
        assert_eq!("all".parse(), Ok(Modes::All));
        assert_eq!("Fresh".parse::<Modes>(), Err(ModeError));
    }
}
