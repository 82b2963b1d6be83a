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
    Answer, Appointment, Ask, AuthorizeError, CallError, ClientConfig, Endpoint, Explained, Failure,
    FailureKind, Granted, Holding, Misconfigured, Next, Release, Renewal, RetryPolicy, Step, Why,
    call::{Authorize, Call, Explain, GiveBack, Renew},
    connection::{Called, Connection, Gateway},
    course::{Course, Dialing, Undecided},
    jitter::Jitter,
    wire::Decided,
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

/// An answer, and how it came.
struct Reply<T> {
    answer: T,
    endpoint: Endpoint,
    sent: Instant,
    latency: Duration,
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
    pub async fn authorize(&self, ask: &Ask, observe: impl FnMut(Step)) -> Result<Granted, AuthorizeError> {
        self.authorize_from(None, ask, observe).await
    }

    /// As [`authorize`](Self::authorize), with an appointment from an earlier life (see [`Answer::Deferred`]): waits
    /// until it is due and calls with its ticket. Where it is due only after the budget, the call is made at once. A
    /// client that ignores appointments ignores this one too.
    pub async fn authorize_from(
        &self,
        appointment: Option<Appointment>,
        ask: &Ask,
        mut observe: impl FnMut(Step),
    ) -> Result<Granted, AuthorizeError> {
        let mut course = self.course(self.shared.retry, Dialing::OfAStart);
        check(ask, &course)?;
        if let Some(appointment) = appointment {
            let due_in = course.resume(appointment);
            if !due_in.is_zero() {
                self.wait(&course, Duration::ZERO, due_in, Why::Appointment, &mut observe).await;
            }
        }
        loop {
            let undecided = match self.call_once(&Authorize(ask), &course, &mut observe).await {
                Ok(reply) => match decision(reply, &mut course, &mut observe) {
                    Ok(decided) => return decided,
                    Err(deferred) => deferred,
                },
                Err(failure) => Undecided::Failed(failure),
            };
            self.pause(undecided, &mut course, &mut observe).await?;
        }
    }

    /// Asks how a request would be decided, without any effect. Never takes longer than the policy's budget.
    pub async fn explain(&self, ask: &Ask, mut observe: impl FnMut(Step)) -> Result<Explained, CallError> {
        let course = self.course(self.shared.retry, Dialing::OfAStart);
        check(ask, &course)?;
        self.settle(&Explain(ask), course, &mut observe).await
    }

    /// Extends a lease. Never takes longer than `within`, nor than the policy's budget.
    pub async fn renew(
        &self,
        holding: &Holding,
        within: Duration,
        mut observe: impl FnMut(Step),
    ) -> Result<Renewal, CallError> {
        let course = self.course(self.policy_within(within), Dialing::Patient);
        self.settle(&Renew(holding), course, &mut observe).await
    }

    /// Gives a grant back. Never takes longer than `within`, nor than the policy's budget.
    pub async fn release(
        &self,
        holding: &Holding,
        within: Duration,
        mut observe: impl FnMut(Step),
    ) -> Result<Release, CallError> {
        // Little time is left, so that no dial should wait for long.
        let course = self.course(self.policy_within(within), Dialing::OfAStart);
        self.settle(&GiveBack(holding), course, &mut observe).await
    }

    /// Closes the connection that is kept for the next request: for whoever will make none for long.
    pub fn hang_up(&self) {
        self.disconnect();
    }

    fn course(&self, policy: RetryPolicy, dialing: Dialing) -> Course {
        Course::new(policy, dialing, self.seed.fetch_add(1, Ordering::Relaxed))
    }

    fn policy_within(&self, within: Duration) -> RetryPolicy {
        let retry = self.shared.retry;
        RetryPolicy { budget: retry.budget.min(within), ..retry }
    }

    /// Calls until there is an answer or a bound is met.
    async fn settle<C: Call>(
        &self,
        call: &C,
        mut course: Course,
        observe: &mut impl FnMut(Step),
    ) -> Result<C::Answer, CallError> {
        loop {
            let failure = match self.call_once(call, &course, observe).await {
                Ok(Reply { answer, latency, .. }) => {
                    observe(Step::Answered { latency, answer: Answer::Settled });
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            self.pause(Undecided::Failed(failure), &mut course, observe).await?;
        }
    }

    /// Waits before the next call; an error where none may follow.
    async fn pause(
        &self,
        undecided: Undecided,
        course: &mut Course,
        observe: &mut impl FnMut(Step),
    ) -> Result<(), CallError> {
        let setback = course.setback(&undecided)?;
        let elapsed = course.elapsed();
        match course.schedule.failed(setback, elapsed) {
            Next::GiveUp(bound) => Err(course.gave_up(undecided, bound)),
            Next::Call { after, why } => {
                self.wait(course, elapsed, after, why, observe).await;
                Ok(())
            }
        }
    }

    /// Waits `after` from `elapsed`, without the connection where that is long.
    async fn wait(
        &self,
        course: &Course,
        elapsed: Duration,
        after: Duration,
        why: Why,
        observe: &mut impl FnMut(Step),
    ) {
        if after > IDLE_MAX {
            self.disconnect();
        }
        let until = elapsed + after;
        observe(Step::Waiting { delay: after, until, why });
        // The observer may have taken its time.
        sleep(until.saturating_sub(course.elapsed())).await;
    }

    /// One call, with its connection. An error is a setback that is not counted yet.
    async fn call_once<C: Call>(
        &self,
        call: &C,
        course: &Course,
        observe: &mut impl FnMut(Step),
    ) -> Result<Reply<C::Answer>, Failure> {
        let mut connection = self.held().connection.clone();
        loop {
            let kept = connection.is_some();
            let open = match connection.take() {
                Some(open) => open,
                None => self.connect(course, observe).await?,
            };
            let gateway = open.gateway;
            let endpoint = &self.shared.gateways[gateway].endpoint;
            let (number, attempt) = (course.schedule.calls() + 1, course.schedule.attempt());
            observe(Step::Calling { endpoint: endpoint.clone(), call: number, attempt });
            let limit = course.left().min(self.shared.call_timeout);
            let sent = Instant::now();
            let called = open.call(call, course, limit).await;
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
                Called::Answered(answer) => {
                    return Ok(Reply { answer, endpoint: endpoint.clone(), sent, latency });
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
        let limit = course.left().min(self.shared.connect_timeout);
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

/// Refuses a request that the gateway would refuse.
fn check(ask: &Ask, course: &Course) -> Result<(), CallError> {
    let faults: Vec<String> = ask.faults().iter().map(ToString::to_string).collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(CallError::Misconfigured(course.ended(faults.join("; "), None)))
}

/// What was decided, or that it is not decided yet.
fn decision(
    reply: Reply<Decided>,
    course: &mut Course,
    observe: &mut impl FnMut(Step),
) -> Result<Result<Granted, AuthorizeError>, Undecided> {
    let Reply { answer, endpoint, sent, latency } = reply;
    match answer {
        Decided::Deferred { delay, ticket } => {
            course.keep(ticket.clone());
            let answer = Answer::Deferred { delay: delay.saturating_sub(latency), ticket };
            observe(Step::Answered { latency, answer });
            Err(Undecided::Deferred { sent, delay })
        }
        Decided::Granted(access) => {
            observe(Step::Answered { latency, answer: Answer::Granted });
            Ok(Ok(course.granted(access, endpoint)))
        }
        Decided::Denied(refusal) => {
            observe(Step::Answered { latency, answer: Answer::Denied });
            Ok(Err(AuthorizeError::Denied(course.denied(refusal))))
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
