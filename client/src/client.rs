//! Asks, waits and asks again, within one budget.

use std::{
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    Answer, Ask, AuthorizeError, ClientConfig, Denial, Ended, Endpoint, Failure, FailureKind, GiveUp,
    Granted, Misconfigured, Next, RetryPolicy, Schedule, Setback, Step,
    connection::{Called, Connection, Gateway},
    jitter::Jitter,
    wire::{Access, Decided, Refusal},
};

/// A connection is kept through waits of up to this; for a longer one it is worth less than what it costs the
/// gateway.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Largest CA file, in bytes.
const CA_BYTES_MAX: u64 = 1 << 20;

/// Asks gateways for access. Holds at most one connection, and reuses it while it lives.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    local_address: Option<IpAddr>,
    /// Seed of the next schedule.
    seed: AtomicU64,
    held: Mutex<Held>,
}

/// What siblings have in common.
#[derive(Debug)]
struct Shared {
    gateways: Vec<Gateway>,
    connect_timeout: Duration,
    call_timeout: Duration,
    retry: RetryPolicy,
}

/// Where the next call goes.
#[derive(Debug)]
struct Held {
    gateway: usize,
    connection: Option<Connection>,
}

/// One `authorize` under way.
struct Course {
    started: Instant,
    schedule: Schedule,
}

impl Client {
    /// A client with these settings; the seed draws its first gateway and its delays. Reads the CA file, connects
    /// to nobody yet.
    pub fn new(config: &ClientConfig, seed: u64) -> Result<Self, Misconfigured> {
        if config.endpoints.is_empty() {
            return Err(Misconfigured::NoEndpoint);
        }
        let ca = config.ca_file.as_deref().map(read_authorities).transpose()?;
        let gateways = config
            .endpoints
            .iter()
            .map(|endpoint| Gateway::new(endpoint.clone(), config, ca.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        let ClientConfig { local_address, connect_timeout, call_timeout, retry, .. } = *config;
        let shared = Shared { gateways, connect_timeout, call_timeout, retry };
        Ok(Self::with_shared(Arc::new(shared), local_address, seed))
    }

    /// Another client with the same settings, which it shares, but with an address, a seed and a connection of its
    /// own. A few hundred bytes until it connects.
    #[must_use]
    pub fn sibling(&self, local_address: Option<IpAddr>, seed: u64) -> Self {
        Self::with_shared(Arc::clone(&self.shared), local_address, seed)
    }

    fn with_shared(shared: Arc<Shared>, local_address: Option<IpAddr>, seed: u64) -> Self {
        let gateway = (Jitter::new(seed).bits() % shared.gateways.len() as u64) as usize;
        Self {
            shared,
            local_address,
            seed: AtomicU64::new(seed),
            held: Mutex::new(Held { gateway, connection: None }),
        }
    }

    /// Asks until there is a decision or a bound of the retry policy is met, and tells each step to `observe` as it
    /// happens. Never takes longer than the policy's budget.
    pub async fn authorize(
        &self,
        ask: &Ask,
        mut observe: impl FnMut(Step),
    ) -> Result<Granted, AuthorizeError> {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let mut course = Course { started: Instant::now(), schedule: Schedule::new(self.shared.retry, seed) };
        let faults = ask.faults();
        if !faults.is_empty() {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            return Err(AuthorizeError::Misconfigured(course.ended(faults.join("; "), None)));
        }
        loop {
            let failure = match self.ask_once(ask, &mut course, &mut observe).await {
                Ok(decided) => return decided,
                Err(failure) => failure,
            };
            let setback = match (failure.kind, failure.retry_after) {
                (FailureKind::Unauthenticated, _) => {
                    course.schedule.answered();
                    return Err(AuthorizeError::Unauthenticated(course.ended(failure.reason, None)));
                }
                (FailureKind::Misconfigured, _) => {
                    course.schedule.answered();
                    return Err(AuthorizeError::Misconfigured(course.ended(failure.reason, None)));
                }
                (FailureKind::Unreached, _) => Setback::Unreached,
                (FailureKind::Unavailable | FailureKind::Throttled, Some(told)) => Setback::Pushback(told),
                (FailureKind::Unavailable | FailureKind::Throttled, None) => Setback::Silent,
            };
            let elapsed = course.started.elapsed();
            match course.schedule.failed(setback, elapsed) {
                Next::GiveUp(bound) => return Err(course.gave_up(failure, bound)),
                Next::Call { after, why } => {
                    if after > IDLE_MAX {
                        self.disconnect();
                    }
                    observe(Step::Waiting { delay: after, until: elapsed + after, why });
                    sleep(after).await;
                }
            }
        }
    }

    /// One call, with its connection. An error is a failure that is not counted yet.
    async fn ask_once(
        &self,
        ask: &Ask,
        course: &mut Course,
        observe: &mut impl FnMut(Step),
    ) -> Result<Result<Granted, AuthorizeError>, Failure> {
        let mut connection = self.held().connection.clone();
        loop {
            let kept = connection.is_some();
            let open = match connection.take() {
                Some(open) => open,
                None => self.connect(course, observe).await?,
            };
            let gateway = open.gateway;
            let endpoint = &self.shared.gateways[gateway].endpoint;
            let (call, attempt) = (course.schedule.calls() + 1, course.schedule.attempt());
            observe(Step::Calling { endpoint: endpoint.clone(), call, attempt });
            let left = course.left(self.shared.retry.budget);
            let sent = Instant::now();
            let called = open.authorize(ask, left.min(self.shared.call_timeout), left).await;
            let latency = sent.elapsed();
            let failure = match called {
                Called::Lost if kept => {
                    self.disconnect();
                    continue;
                }
                Called::Lost => Failure {
                    kind: FailureKind::Unavailable,
                    reason: "the connection was closed at once".to_owned(),
                    retry_after: None,
                },
                Called::Failed(failure) => failure,
                Called::Decided(Decided::Deferred(delay)) => Failure {
                    kind: FailureKind::Throttled,
                    reason: "a slot is booked".to_owned(),
                    retry_after: Some(delay.saturating_sub(latency)),
                },
                Called::Decided(Decided::Granted(access)) => {
                    observe(Step::Answered { latency, answer: Answer::Granted });
                    return Ok(Ok(course.granted(access, endpoint.clone())));
                }
                Called::Decided(Decided::Denied(refusal)) => {
                    observe(Step::Answered { latency, answer: Answer::Denied });
                    return Ok(Err(AuthorizeError::Denied(course.denied(refusal))));
                }
            };
            observe(Step::Answered { latency, answer: Answer::Failed(failure.clone()) });
            if failure.kind == FailureKind::Unavailable {
                self.turn_from(gateway);
            }
            return Err(failure);
        }
    }

    async fn connect(&self, course: &Course, observe: &mut impl FnMut(Step)) -> Result<Connection, Failure> {
        let index = self.held().gateway;
        let gateway = &self.shared.gateways[index];
        observe(Step::Connecting { endpoint: gateway.endpoint.clone() });
        let begun = Instant::now();
        let limit = course.left(self.shared.retry.budget).min(self.shared.connect_timeout);
        match gateway.connect(index, self.local_address, limit).await {
            Ok(connection) => {
                self.held().connection = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                observe(Step::Answered { latency: begun.elapsed(), answer: Answer::Failed(failure.clone()) });
                self.turn_from(index);
                Err(failure)
            }
        }
    }

    /// Leaves a gateway that is unavailable for the next in turn.
    fn turn_from(&self, gateway: usize) {
        let mut held = self.held();
        held.connection = None;
        if held.gateway == gateway {
            held.gateway = (gateway + 1) % self.shared.gateways.len();
        }
    }

    fn disconnect(&self) {
        self.held().connection = None;
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Every change of it is one assignment: a panic elsewhere leaves nothing half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Course {
    fn left(&self, budget: Duration) -> Duration {
        budget.saturating_sub(self.started.elapsed())
    }

    fn granted(&mut self, access: Access, endpoint: Endpoint) -> Granted {
        self.schedule.answered();
        let Access { decisions, lease, admitted_at_ns, origin, shadow, policy_revision } = access;
        let (calls, attempts) = (self.schedule.calls(), self.schedule.attempts());
        let elapsed = self.started.elapsed();
        Granted {
            decisions,
            lease,
            admitted_at_ns,
            origin,
            shadow,
            policy_revision,
            endpoint,
            calls,
            attempts,
            elapsed,
        }
    }

    fn denied(&mut self, refusal: Refusal) -> Denial {
        self.schedule.answered();
        let Refusal { decisions, reason, explanation, policy_revision } = refusal;
        let (calls, elapsed) = (self.schedule.calls(), self.started.elapsed());
        Denial { decisions, reason, explanation, policy_revision, calls, elapsed }
    }

    fn ended(&self, reason: String, bound: Option<GiveUp>) -> Ended {
        Ended { reason, calls: self.schedule.calls(), elapsed: self.started.elapsed(), bound }
    }

    fn gave_up(&self, failure: Failure, bound: GiveUp) -> AuthorizeError {
        let ended = self.ended(failure.reason, Some(bound));
        match failure.kind {
            FailureKind::Throttled => AuthorizeError::Throttled(ended),
            FailureKind::Unreached | FailureKind::Unavailable => AuthorizeError::Unavailable(ended),
            FailureKind::Unauthenticated => AuthorizeError::Unauthenticated(ended),
            FailureKind::Misconfigured => AuthorizeError::Misconfigured(ended),
        }
    }
}

fn read_authorities(path: &Path) -> Result<Vec<u8>, Misconfigured> {
    let refused = |reason: String| Misconfigured::CaFile { path: path.display().to_string(), reason };
    let length = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.len();
    if length > CA_BYTES_MAX {
        return Err(refused(format!("has {length} bytes, at most {CA_BYTES_MAX} are read")));
    }
    let pem = std::fs::read(path).map_err(|error| refused(error.to_string()))?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    if !pem.windows(marker.len()).any(|window| window == marker) {
        return Err(refused("holds no certificate; expected PEM".to_owned()));
    }
    Ok(pem)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
