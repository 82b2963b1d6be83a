//! Times a pod's calls from what its client says.

use std::{cell::RefCell, rc::Rc};

use podgate_client::{Answer, FailureKind, Granted, Origin, Step};
use tokio::time::Instant;

use crate::{
    clock,
    storm::tally::{Admission, Freshness, Tally},
};

/// Times a pod's calls, each from when it *should* have been sent: a generator that is late must not make the server
/// look quick. How late it was is counted too.
pub(crate) struct CallWatch {
    /// When the call that runs, or comes next, should have been sent.
    intended: Instant,
    sending: Sending,
    pub(crate) calls: u32,
    first_sent_ns: Option<u64>,
    sent_ns: u64,
    received_ns: u64,
    /// The storm's start.
    start: Instant,
    tally: Rc<RefCell<Tally>>,
}

/// Whether the generator has begun with the call that is intended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Due,
    Begun,
}

impl CallWatch {
    pub(crate) fn new(arrival: Instant, start: Instant, tally: Rc<RefCell<Tally>>) -> Self {
        Self {
            intended: arrival,
            sending: Sending::Due,
            calls: 0,
            first_sent_ns: None,
            sent_ns: 0,
            received_ns: 0,
            start,
            tally,
        }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            // The connection is part of the call's latency, but not of the generator's lateness.
            Step::Connecting { .. } => self.begun(),
            Step::Calling { .. } => {
                self.begun();
                self.sent_ns = clock::boot_ns();
                self.first_sent_ns.get_or_insert(self.sent_ns);
            }
            Step::Answered { answer, .. } => self.answered(answer),
            Step::Waiting { delay, .. } => self.next_at(Instant::now_by_clock() + *delay),
        }
    }

    fn begun(&mut self) {
        if self.sending == Sending::Due {
            self.sending = Sending::Begun;
            let lateness = Instant::now_by_clock().saturating_duration_since(self.intended);
            self.tally.borrow_mut().sent(lateness);
        }
    }

    fn next_at(&mut self, intended: Instant) {
        self.intended = intended;
        self.sending = Sending::Due;
    }

    fn answered(&mut self, answer: &Answer) {
        self.received_ns = clock::boot_ns();
        let now = Instant::now_by_clock();
        let reached = !matches!(answer, Answer::Failed(failure) if failure.kind == FailureKind::Unreached);
        if reached {
            self.calls += 1;
            let (at, latency) =
                (now.saturating_duration_since(self.start), now.saturating_duration_since(self.intended));
            self.tally.borrow_mut().called(at, latency);
        }
        // Where no wait is announced, the next call is due at once.
        self.next_at(now);
    }

    /// The admission behind a grant; none where everything was a common port.
    pub(crate) fn admission(&self, granted: &Granted) -> Option<Admission> {
        let freshness = match granted.origin {
            Origin::Fresh => Freshness::Fresh,
            Origin::Repeated => Freshness::Repeated,
            Origin::Common => return None,
        };
        let sent_ns = match freshness {
            Freshness::Fresh => self.sent_ns,
            Freshness::Repeated => self.first_sent_ns.unwrap_or(self.sent_ns),
        };
        granted.admitted_at_ns.map(|admitted_at_ns| Admission {
            admitted_at_ns,
            sent_ns,
            received_ns: self.received_ns,
            freshness,
        })
    }
}

/// tokio's instants, by the crate's one clock.
pub(crate) trait NowByClock {
    fn now_by_clock() -> Self;
}

impl NowByClock for Instant {
    fn now_by_clock() -> Self {
        Self::from_std(clock::now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::storm::tally::BootClock;

    fn watch(due: Instant) -> (CallWatch, Rc<RefCell<Tally>>) {
        let tally = Rc::new(RefCell::new(Tally::new(1, BootClock::Shared, None)));
        (CallWatch::new(due, due, Rc::clone(&tally)), tally)
    }

    fn endpoint() -> podgate_client::Endpoint {
        "http://127.0.0.1:7420".parse().unwrap()
    }

    fn calling() -> Step {
        Step::Calling { endpoint: endpoint(), call: 1, attempt: 1 }
    }

    fn failed(kind: FailureKind) -> Step {
        let failure = podgate_client::Failure { kind, reason: String::new(), retry_after: None };
        Step::Answered { latency: Duration::ZERO, answer: Answer::Failed(failure) }
    }

    fn waiting(delay: Duration) -> Step {
        Step::Waiting { delay, until: delay, why: podgate_client::Why::Pushback }
    }

    #[test]
    fn a_call_counts_from_when_it_was_due() {
        let (mut watch, tally) = watch(Instant::now_by_clock() - Duration::from_secs(5));
        watch.step(&Step::Connecting { endpoint: endpoint() });
        watch.step(&calling());
        watch.step(&failed(FailureKind::Throttled));
        assert_eq!((watch.calls, tally.borrow().calls_total()), (1, 1));
        assert!(tally.borrow().round_trip() >= Duration::from_millis(4990));
        assert!(watch.intended.elapsed() < Duration::from_secs(4));
        watch.step(&waiting(Duration::from_mins(1)));
        assert!(watch.intended > Instant::now_by_clock() + Duration::from_secs(50));
    }

    #[test]
    fn lateness_is_counted_once_a_call() {
        let (mut watch, tally) = watch(Instant::now_by_clock() - Duration::from_secs(5));
        watch.step(&Step::Connecting { endpoint: endpoint() });
        // The kept connection turned out to be gone: it is the same call.
        watch.step(&calling());
        watch.step(&calling());
        assert_eq!(tally.borrow().lateness.count(), 1);
        assert!(tally.borrow().lateness.quantile_us(1.0).is_some_and(|us| us >= 4_990_000.0));
        watch.step(&failed(FailureKind::Throttled));
        watch.step(&waiting(Duration::ZERO));
        watch.step(&calling());
        assert_eq!(tally.borrow().lateness.count(), 2);
        assert!(tally.borrow().lateness.quantile_us(0.5).is_some_and(|us| us < 4_000_000.0));
    }

    #[test]
    fn a_dial_that_reaches_nobody_is_no_call() {
        let (mut watch, tally) = watch(Instant::now_by_clock());
        watch.step(&Step::Connecting { endpoint: endpoint() });
        watch.step(&failed(FailureKind::Unreached));
        assert_eq!((watch.calls, tally.borrow().calls_total(), watch.first_sent_ns), (0, 0, None));
    }
}
