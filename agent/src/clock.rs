//! The only module of the agent that reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use podgate_engine::time::WallTime;

/// Now on the wall clock, in which the ends of grants are told.
#[expect(clippy::disallowed_methods, reason = "this is the clock's module")]
pub(crate) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
