//! The virtual pods: a task each, with the client library that real pods use.

use std::{cell::RefCell, net::IpAddr, num::NonZeroU32, rc::Rc};

use podgate_client::{
    Answer, Appointments, Ask, AuthorizeError, Client, ClientConfig, Destination, FailureKind, Granted,
    Origin, Pace, Pod, RetryPolicy, Step, Subject,
};
use tokio::time::Instant;

use crate::{
    cli::{Policy, StormArgs},
    clock,
    storm::{
        StormError, documents,
        gateway::{Gateway, Reach},
        population::VirtualPod,
        tally::{Admission, Authorized, Freshness, GaveUp, Tally},
    },
};

/// What all pods share.
pub(crate) struct Crew {
    client: Client,
    destinations: Vec<Destination>,
    reach: Reach,
    start: Instant,
    tally: Rc<RefCell<Tally>>,
}

/// One pod's whole life.
pub(crate) struct PodTask {
    client: Client,
    ask: Ask,
    app: u32,
    arrival: Instant,
    start: Instant,
    tally: Rc<RefCell<Tally>>,
}

impl Crew {
    pub(crate) fn new(
        args: &StormArgs,
        gateway: &Gateway,
        start: Instant,
        tally: Rc<RefCell<Tally>>,
    ) -> Result<Self, StormError> {
        let mut config = ClientConfig::new(vec![gateway.endpoint().clone()]);
        config.retry = retry_policy(args);
        let destinations = documents::DESTINATIONS
            .iter()
            .take(usize::from(args.destinations))
            .map(|text| text.parse().map_err(|error| StormError::Client(format!("{text}: {error}"))))
            .collect::<Result<_, _>>()?;
        let client =
            Client::new(&config, args.seed).map_err(|error| StormError::Client(error.to_string()))?;
        Ok(Self { client, destinations, reach: gateway.reach(), start, tally })
    }
}

/// `--attempts 0` lifts the bound on the calls in all too.
fn retry_policy(args: &StormArgs) -> RetryPolicy {
    let pace = match args.policy {
        Policy::Jitter => Pace::FullJitter { base: args.base, cap: args.cap },
        Policy::Immediate => Pace::Immediate,
    };
    let attempts_max = NonZeroU32::new(args.attempts);
    let calls_max =
        attempts_max.map_or(NonZeroU32::MAX, |attempts| attempts.max(RetryPolicy::default().calls_max));
    // Both are policies of clients that guess.
    let appointments = Appointments::Ignore;
    RetryPolicy { pace, appointments, attempts_max, calls_max, budget: args.budget }
}

impl PodTask {
    pub(crate) fn new(crew: &Crew, pod: VirtualPod) -> Self {
        let app = documents::app_name(pod.app);
        let own = match crew.reach {
            Reach::Loopback => Some(IpAddr::V4(pod.address)),
            Reach::Network => None,
        };
        let ask = Ask {
            subject: Subject::Pod(Pod {
                namespace: documents::NAMESPACE.to_owned(),
                name: format!("{app}-{}", &pod.uid[..8]),
                uid: pod.uid,
                service_account: app.clone(),
                node: "loadtest".to_owned(),
                addresses: own.into_iter().collect(),
                ..Pod::default()
            }),
            app,
            destinations: crew.destinations.clone(),
        };
        Self {
            client: crew.client.sibling(own, pod.seed),
            ask,
            app: pod.app,
            arrival: crew.start + pod.arrival,
            start: crew.start,
            tally: Rc::clone(&crew.tally),
        }
    }

    /// Arrives, asks until there is an end, and counts it.
    pub(crate) async fn run(self) {
        tokio::time::sleep_until(self.arrival).await;
        self.tally.borrow_mut().started(self.arrival.elapsed());
        let mut watch = CallWatch::new(self.arrival, Rc::clone(&self.tally));
        let ended = self.client.authorize(&self.ask, |step| watch.step(&step)).await;
        let mut tally = self.tally.borrow_mut();
        match ended {
            Ok(granted) => {
                let authorized = Authorized {
                    at: self.start.elapsed(),
                    waited: self.arrival.elapsed(),
                    admission: watch.admission(&granted),
                    grant_id: granted.lease.map(|lease| lease.grant_id),
                };
                tally.authorized(self.app, watch.calls, authorized);
            }
            Err(AuthorizeError::Denied(_)) => tally.denied(watch.calls),
            Err(error @ AuthorizeError::Throttled(_)) => {
                tally.gave_up(GaveUp::Throttled, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Unavailable(_)) => {
                tally.gave_up(GaveUp::Unavailable, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Unauthenticated(_)) => {
                tally.gave_up(GaveUp::Unauthenticated, error.reason(), watch.calls);
            }
            Err(error @ AuthorizeError::Misconfigured(_)) => {
                tally.gave_up(GaveUp::Misconfigured, error.reason(), watch.calls);
            }
        }
    }
}

/// Times a pod's calls from what its client says, each from when it *should* have been sent: a generator that is
/// late must not make the server look quick.
struct CallWatch {
    intended: Instant,
    calls: u32,
    first_sent_ns: Option<u64>,
    sent_ns: u64,
    received_ns: u64,
    tally: Rc<RefCell<Tally>>,
}

impl CallWatch {
    fn new(arrival: Instant, tally: Rc<RefCell<Tally>>) -> Self {
        Self { intended: arrival, calls: 0, first_sent_ns: None, sent_ns: 0, received_ns: 0, tally }
    }

    fn step(&mut self, step: &Step) {
        match step {
            // The connection is part of the first call's latency.
            Step::Connecting { .. } => {}
            Step::Calling { .. } => {
                self.sent_ns = clock::boot_ns();
                self.first_sent_ns.get_or_insert(self.sent_ns);
            }
            Step::Answered { answer, .. } => self.answered(answer),
            Step::Waiting { delay, .. } => self.intended = Instant::now_by_clock() + *delay,
        }
    }

    fn answered(&mut self, answer: &Answer) {
        self.received_ns = clock::boot_ns();
        let now = Instant::now_by_clock();
        let reached = !matches!(answer, Answer::Failed(failure) if failure.kind == FailureKind::Unreached);
        if reached {
            self.calls += 1;
            self.tally.borrow_mut().called(now.saturating_duration_since(self.intended));
        }
        // Where no wait is announced, the next call is due at once.
        self.intended = now;
    }

    fn admission(&self, granted: &Granted) -> Option<Admission> {
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
trait NowByClock {
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

    fn endpoint() -> podgate_client::Endpoint {
        "http://127.0.0.1:7420".parse().unwrap()
    }

    fn failed(kind: FailureKind) -> Step {
        let failure = podgate_client::Failure { kind, reason: String::new(), retry_after: None };
        Step::Answered { latency: Duration::ZERO, answer: Answer::Failed(failure) }
    }

    #[test]
    fn a_call_counts_from_when_it_was_due() {
        let tally = Rc::new(RefCell::new(Tally::new(1, BootClock::Shared)));
        let due = Instant::now_by_clock() - Duration::from_secs(5);
        let mut watch = CallWatch::new(due, Rc::clone(&tally));
        watch.step(&Step::Connecting { endpoint: endpoint() });
        watch.step(&Step::Calling { endpoint: endpoint(), call: 1, attempt: 1 });
        watch.step(&failed(FailureKind::Throttled));
        assert_eq!((watch.calls, tally.borrow().calls_total()), (1, 1));
        assert!(tally.borrow().call_latency_median() >= Duration::from_millis(4990));
        assert!(watch.intended.elapsed() < Duration::from_secs(4));
        watch.step(&Step::Waiting {
            delay: Duration::from_mins(1),
            until: Duration::from_mins(1),
            why: podgate_client::Why::Pushback,
        });
        assert!(watch.intended > Instant::now_by_clock() + Duration::from_secs(50));
    }

    #[test]
    fn a_dial_that_reaches_nobody_is_no_call() {
        let tally = Rc::new(RefCell::new(Tally::new(1, BootClock::Shared)));
        let mut watch = CallWatch::new(Instant::now_by_clock(), Rc::clone(&tally));
        watch.step(&Step::Connecting { endpoint: endpoint() });
        watch.step(&failed(FailureKind::Unreached));
        assert_eq!((watch.calls, tally.borrow().calls_total(), watch.first_sent_ns), (0, 0, None));
    }
}
