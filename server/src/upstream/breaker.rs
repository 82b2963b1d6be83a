//! The circuit breaker: a service that fails is given a rest, and is asked by one call whether it is back.

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it.
const IN_A_ROW: u32 = 5;
/// Calls that are looked back at, and how many of them must have failed to open it.
const WINDOW: u32 = 32;
const FAILED_OF_WINDOW: u32 = 24;
/// The first rest and the longest one, before jitter of a half up or down; each one is twice the one before.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(20);

/// What the breaker lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Every call.
    Closed = 0,
    /// The one call that asks whether the service is back.
    HalfOpen = 1,
    /// None.
    Open = 2,
}

/// The breaker. It is told what came of each call, and reads no clock.
#[derive(Debug)]
pub(crate) struct Breaker {
    phase: Phase,
    until: Instant,
    in_a_row: u32,
    /// What came of the last calls, the latest in the lowest bit: 1 failed.
    window: u32,
    seen: u32,
    openings: u32,
}

impl Breaker {
    pub(crate) fn new(now: Instant) -> Self {
        Self { phase: Phase::Closed, until: now, in_a_row: 0, window: 0, seen: 0, openings: 0 }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// When the rest is over, where there is one.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        (self.phase == Phase::Open).then_some(self.until)
    }

    /// Lets the one call pass that asks whether the service is back, where the rest is over; tells whether it may.
    pub(crate) fn half_open(&mut self, now: Instant) -> bool {
        let is_due = self.phase == Phase::Open && self.until <= now;
        if is_due {
            self.phase = Phase::HalfOpen;
        }
        is_due
    }

    /// A call was answered. Whichever it was, the service is there.
    pub(crate) fn answered(&mut self) {
        if self.phase != Phase::Closed {
            (self.window, self.seen, self.openings) = (0, 0, 0);
        }
        self.phase = Phase::Closed;
        self.in_a_row = 0;
        self.note(0);
    }

    /// A call failed. `jitter`, from 0 to 1, spreads the end of the rest.
    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) {
        self.in_a_row += 1;
        self.note(1);
        let is_too_much = self.in_a_row >= IN_A_ROW
            || (self.seen >= WINDOW && self.window.count_ones() >= FAILED_OF_WINDOW);
        match self.phase {
            Phase::Closed if is_too_much => self.open(now, jitter),
            Phase::HalfOpen => self.open(now, jitter),
            // What was in flight when it opened says nothing new.
            Phase::Closed | Phase::Open => {}
        }
    }

    fn open(&mut self, now: Instant, jitter: f64) {
        let rest = REST_MIN.saturating_mul(1 << self.openings.min(16)).min(REST_MAX);
        self.phase = Phase::Open;
        self.until = now + rest.mul_f64(0.5 + jitter.clamp(0.0, 1.0));
        self.openings += 1;
    }

    fn note(&mut self, failed: u32) {
        self.window = self.window << 1 | failed;
        self.seen = (self.seen + 1).min(WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No jitter: the middle of it.
    const MIDDLE: f64 = 0.5;

    #[test]
    fn failures_in_a_row_open_it_and_one_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for _ in 1..IN_A_ROW {
            breaker.failed(now, MIDDLE);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
        breaker.answered();
        for _ in 1..IN_A_ROW {
            breaker.failed(now, MIDDLE);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
        breaker.failed(now, MIDDLE);
        assert_eq!((breaker.phase(), breaker.rests_until()), (Phase::Open, Some(now + REST_MIN)));
        assert!(!breaker.half_open(now + REST_MIN - Duration::from_millis(1)));
        assert!(breaker.half_open(now + REST_MIN));
        assert!(!breaker.half_open(now + REST_MIN));
        breaker.answered();
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn a_share_of_failures_opens_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        for call in 0..100 {
            if call % 2 == 0 {
                breaker.failed(now, MIDDLE);
            } else {
                breaker.answered();
            }
            assert_eq!(breaker.phase(), Phase::Closed);
        }
        // Four of five fail, never five in a row: it opens as soon as the window is full.
        let mut breaker = Breaker::new(now);
        let pattern = [true, true, true, true, false];
        let opened = (0..100).find(|call| {
            if pattern[call % 5] {
                breaker.failed(now, MIDDLE);
            } else {
                breaker.answered();
            }
            breaker.phase() == Phase::Open
        });
        assert_eq!(opened, Some(31));
    }

    #[test]
    fn each_rest_is_twice_the_one_before_up_to_the_longest_and_jittered() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..IN_A_ROW).for_each(|_| breaker.failed(now, MIDDLE));
        let mut rests = Vec::new();
        for _ in 0..7 {
            let until = breaker.rests_until().unwrap();
            rests.push(until.duration_since(now).as_secs());
            assert!(breaker.half_open(until));
            breaker.failed(now, MIDDLE);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 20, 20]);
        for (jitter, rest) in [(0.0, 10), (1.0, 30)] {
            assert!(breaker.half_open(breaker.rests_until().unwrap()));
            breaker.failed(now, jitter);
            assert_eq!(breaker.rests_until().unwrap(), now + Duration::from_secs(rest));
        }
    }

    #[test]
    fn what_was_in_flight_when_it_opened_does_not_lengthen_the_rest() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now);
        (0..20).for_each(|_| breaker.failed(now, MIDDLE));
        assert_eq!(breaker.rests_until(), Some(now + REST_MIN));
    }
}
