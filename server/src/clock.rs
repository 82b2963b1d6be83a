//! The only module of the gateway that reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;
use podgate_engine::{
    digest::digest_of,
    time::{Moment, WallTime},
};
use rustix::time::{ClockId, clock_gettime};

/// Now on the boot clock: it never goes back, and counts through suspension (CLOCK_BOOTTIME).
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    Moment::from_nanos(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

/// Now on the wall clock. It may go back; only what outlives a restart is kept in it.
#[expect(clippy::disallowed_methods, reason = "this is the clock's module")]
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Which boot of the machine this is: the boot clock begins anew with each. The same number where it cannot be told, so that
/// a clock that nobody knows is taken to have gone on.
pub fn boot_id() -> u64 {
    std::fs::read("/proc/sys/kernel/random/boot_id").map_or(0, |id| digest_of(&id))
}

/// The boot clock as governor wants it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

/// An instant of [`BootClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(pub Moment);

impl Clock for BootClock {
    type Instant = BootInstant;

    fn now(&self) -> BootInstant {
        BootInstant(now())
    }
}

impl Reference for BootInstant {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.offset(-i64::try_from(duration.as_u64()).unwrap_or(i64::MAX)))
    }
}

impl std::ops::Add<Nanos> for BootInstant {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        Self(self.0.offset(i64::try_from(duration.as_u64()).unwrap_or(i64::MAX)))
    }
}
