//! The only module that reads a clock.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// The instant by which durations are measured and timers set.
#[expect(clippy::disallowed_methods, reason = "this is the crate's clock module")]
pub fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock by which a gateway on this machine stamps `admitted_at`.
pub fn boot_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    // The boot clock starts at zero and is never negative.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
