//! A service that does one piece of work after the other: pure, with the time from outside.

use std::time::Duration;

use tokio::time::Instant;

/// First come, first served, one piece at a time, each taking equally long. What was taken is done, whether or not
/// somebody still waits for it.
///
/// When a piece is done follows from when it came, so nothing drifts: a timer that fires late makes one answer late,
/// and not the service slower.
#[derive(Debug)]
pub(crate) struct Serial {
    work: Duration,
    taken: u64,
    /// When everything that was taken is done.
    free_at: Option<Instant>,
}

impl Serial {
    /// A service that is idle; a piece takes `work`.
    pub(crate) fn new(work: Duration) -> Self {
        Self { work, taken: 0, free_at: None }
    }

    /// Takes pieces at `now`, and tells when the last of them is done.
    pub(crate) fn take(&mut self, pieces: u32, now: Instant) -> Instant {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let done_at = begin + self.work * pieces;
        self.taken += u64::from(pieces);
        self.free_at = Some(done_at);
        done_at
    }

    /// Pieces that are not done yet at `now`, with the one in work.
    pub(crate) fn waiting(&self, now: Instant) -> u64 {
        let left = self.free_at.map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(now));
        // At most what was taken, which fits.
        left.as_nanos().div_ceil(self.work.as_nanos().max(1)) as u64
    }

    /// Pieces that are done at `now`.
    pub(crate) fn done(&self, now: Instant) -> u64 {
        self.taken.saturating_sub(self.waiting(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn one_after_the_other_and_idle_in_between() {
        let start = Instant::from_std(clock::now());
        let mut serial = Serial::new(ms(5));
        assert_eq!((serial.waiting(start), serial.done(start)), (0, 0));
        assert_eq!(serial.take(1, start), start + ms(5));
        assert_eq!(serial.take(2, start + ms(1)), start + ms(15));
        assert_eq!((serial.waiting(start + ms(1)), serial.done(start + ms(1))), (3, 0));
        assert_eq!((serial.waiting(start + ms(5)), serial.done(start + ms(5))), (2, 1));
        assert_eq!((serial.waiting(start + ms(6)), serial.done(start + ms(6))), (2, 1));
        assert_eq!(serial.take(1, start + ms(100)), start + ms(105));
        assert_eq!((serial.waiting(start + ms(500)), serial.done(start + ms(500))), (0, 4));
    }

    proptest! {
        #[test]
        fn never_faster_than_its_work(gaps_ms in prop::collection::vec((0_u64..20, 1_u32..5), 1..50)) {
            let start = Instant::from_std(clock::now());
            let mut serial = Serial::new(ms(5));
            let (mut now, mut done_before) = (start, start);
            for (gap_ms, pieces) in gaps_ms {
                now += ms(gap_ms);
                let done_at = serial.take(pieces, now);
                prop_assert!(done_at >= done_before + ms(5) * pieces);
                prop_assert!(done_at >= now + ms(5) * pieces);
                prop_assert_eq!(serial.done(now) + serial.waiting(now), serial.taken);
                done_before = done_at;
            }
            prop_assert_eq!(serial.done(done_before), serial.taken);
        }
    }
}
