//! The only place that reads the wall clock.

use std::time::SystemTime;

/// The time of day.
#[expect(clippy::disallowed_methods, reason = "this is the crate's clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}
