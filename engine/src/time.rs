//! Instants, as the caller's clock gives them.

use std::time::Duration;

/// An instant on a clock that never goes back, in nanoseconds since an epoch of the caller's choice.
///
/// Signed, because a bucket looks back by up to a whole burst, which may lie before the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(i64);

impl Moment {
    /// The instant `ns` nanoseconds after the epoch.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The instant `ns` later (or earlier, where negative); stops at the ends of time.
    #[must_use]
    pub const fn offset(self, ns: i64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// How long after `earlier` this instant is; zero where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// An instant on the wall clock, in milliseconds since 1970. What outlives a restart is kept in these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// The instant `ms` milliseconds after 1970 began.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The instant `by` later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this instant is; zero where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
