//! The only module of the tests that reads a clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since boot (CLOCK_BOOTTIME): the clock by which a gateway tells when it admitted.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The time since 1970 (CLOCK_REALTIME): the clock by which a gateway tells when a lease ends.
pub fn since_1970() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Waits until an instant since boot that a gateway has told, as a caller does that keeps its appointment.
pub async fn until(instant: Duration) {
    // A timer counts the time that the machine does not sleep, in whole milliseconds: it may end early.
    while let Some(left) = instant.checked_sub(since_boot()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left).await;
    }
}
