//! All services behind one door: what holds for every call stands here, once.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use podgate_proto::{
    ENVOY_FILE_DESCRIPTOR_SET, FILE_DESCRIPTOR_SET,
    envoy::service::{
        auth::v3::authorization_server::AuthorizationServer,
        ratelimit::v3::rate_limit_service_server::RateLimitServiceServer,
    },
    v1::{
        audit_service_server::AuditServiceServer, authorization_service_server::AuthorizationServiceServer,
        common_ports_service_server::CommonPortsServiceServer, grant_service_server::GrantServiceServer,
        profile_service_server::ProfileServiceServer,
    },
};
use tonic::{body::Body, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Service as _;

use crate::{
    authn::{Caller, Role},
    gate::{Gate, Refusal},
    grpc::{
        audit::Audit,
        authorization::Authorization,
        documents::Documents,
        envoy::{check::Check, rate_limit::ShouldRateLimit},
        grants::Grants,
        status::{amend, from_refusal},
        timeout,
    },
};

const AUTHORIZATION: &str = "/podgate.v1.AuthorizationService/";
/// What Envoy asks, a call for each connection or request that it holds.
const ENVOY: &str = "/envoy.service.";
/// Health checks pass by all limits: a gateway that is busy is not a gateway that is dead.
const HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
/// Largest health request, in bytes.
const HEALTH_BYTES_MAX: usize = 1_024;

/// The services, cheap to clone for each connection.
#[derive(Clone)]
pub struct Services {
    gate: Arc<Gate>,
    others: Routes,
    flow: Arc<Flow>,
    message_bytes: usize,
}

/// The services for one connection.
#[derive(Clone)]
pub struct Served {
    services: Services,
    authorization: AuthorizationServiceServer<Authorization>,
    caller: Caller,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("flow", &self.flow).finish_non_exhaustive()
    }
}

/// Calls in flight, and whether new ones are taken. The Portal's have a lane of their own: a storm of pods must not keep
/// the platform engineer from looking at it. So have Envoys: what they ask is answered from memory.
#[derive(Debug)]
pub struct Flow {
    pods: AtomicUsize,
    pods_max: usize,
    portal: AtomicUsize,
    envoys: AtomicUsize,
    draining: AtomicBool,
}

/// Calls of the Portal at once.
const PORTAL_CALLS_MAX: usize = 256;
/// Calls of Envoys at once. They wait for nothing, so these are those whose request has not yet arrived whole.
const ENVOY_CALLS_MAX: usize = 1_024;

/// Whose call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Pods,
    Portal,
    Envoys,
}

impl Line {
    fn of(path: &str) -> Self {
        if path.starts_with(AUTHORIZATION) {
            Self::Pods
        } else if path.starts_with(ENVOY) {
            Self::Envoys
        } else {
            Self::Portal
        }
    }
}

impl Flow {
    /// At most `in_flight_max` calls of pods at once.
    pub fn new(in_flight_max: usize) -> Self {
        Self {
            pods: AtomicUsize::new(0),
            pods_max: in_flight_max,
            portal: AtomicUsize::new(0),
            envoys: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Takes no more calls.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until no call is being worked on.
    pub async fn idle(&self) {
        let mut look = tokio::time::interval(Duration::from_millis(50));
        while self.in_flight() > 0 {
            look.tick().await;
        }
    }

    /// Calls being worked on.
    pub fn in_flight(&self) -> usize {
        [&self.pods, &self.portal, &self.envoys].map(|line| line.load(Ordering::Relaxed)).iter().sum()
    }

    /// Takes a call, unless there are too many beside the `parked` ones, which only wait.
    fn enter(self: &Arc<Self>, line: Line, parked: usize) -> Result<InFlight, Refusal> {
        let before = self.count(line).fetch_add(1, Ordering::Relaxed);
        let entered = InFlight { flow: Arc::clone(self), line };
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        let is_full = match line {
            Line::Pods => before.saturating_sub(parked) >= self.pods_max,
            Line::Portal => before >= PORTAL_CALLS_MAX,
            Line::Envoys => before >= ENVOY_CALLS_MAX,
        };
        if is_full {
            let lane = match line {
                Line::Pods => "pods",
                Line::Portal => "portal",
                Line::Envoys => "envoys",
            };
            metrics::counter!("podgate_shed_total", "lane" => lane).increment(1);
            return Err(Refusal::Overloaded);
        }
        Ok(entered)
    }

    fn count(&self, line: Line) -> &AtomicUsize {
        match line {
            Line::Pods => &self.pods,
            Line::Portal => &self.portal,
            Line::Envoys => &self.envoys,
        }
    }
}

/// A call being worked on; dropped when it is done, or when its caller is gone.
#[derive(Debug)]
struct InFlight {
    flow: Arc<Flow>,
    line: Line,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.flow.count(self.line).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Services {
    /// All services over the gate. Messages are limited to `message_bytes`.
    pub fn new(
        gate: Arc<Gate>,
        flow: Arc<Flow>,
        message_bytes: usize,
        health: &HealthReporter,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let documents = Documents(Arc::clone(&gate));
        let grants = GrantServiceServer::new(Grants(Arc::clone(&gate)));
        let checks = AuthorizationServer::new(Check(Arc::clone(&gate)));
        let rate_limits = RateLimitServiceServer::new(ShouldRateLimit(Arc::clone(&gate)));
        let profiles = ProfileServiceServer::new(documents.clone());
        let common_ports = CommonPortsServiceServer::new(documents);
        let others = Routes::new(profiles.max_decoding_message_size(DOCUMENT_BYTES_MAX))
            .add_service(common_ports.max_decoding_message_size(DOCUMENT_BYTES_MAX))
            .add_service(grants.max_decoding_message_size(message_bytes))
            .add_service(checks.max_decoding_message_size(message_bytes))
            .add_service(rate_limits.max_decoding_message_size(message_bytes))
            .add_service(AuditServiceServer::new(Audit).max_decoding_message_size(message_bytes))
            .add_service(
                tonic_health::pb::health_server::HealthServer::new(
                    tonic_health::server::HealthService::from_health_reporter(health.clone()),
                )
                .max_decoding_message_size(HEALTH_BYTES_MAX),
            )
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .prepare();
        Ok(Self { gate, others, flow, message_bytes })
    }

    /// The calls in flight.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether this caller was told to come about now.
    pub(crate) fn expects(&self, caller: Caller) -> bool {
        self.gate.booking().is_due(caller.address)
    }

    /// The services for a caller's connection.
    pub fn serve(self, caller: Caller) -> Served {
        let authorization = Authorization::new(Arc::clone(&self.gate), caller);
        let authorization =
            AuthorizationServiceServer::new(authorization).max_decoding_message_size(self.message_bytes);
        Served { services: self, authorization, caller }
    }
}

impl Served {
    /// Serves one request, which has waited for so long to be read.
    pub fn call(
        &self,
        mut request: Request<Incoming>,
        waited: Duration,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        let Services { gate, others, flow, message_bytes } = &self.services;
        let message_bytes = *message_bytes;
        let path = request.uri().path();
        let (is_health, line) = (HEALTH.contains(&path), Line::of(path));
        let timeout = request.headers().get(timeout::HEADER).map(http::HeaderValue::as_bytes);
        let timeout = timeout.and_then(timeout::parse).map(|timeout| timeout.saturating_sub(waited));
        if !waited.is_zero() {
            request.extensions_mut().insert(Waited(waited));
        }
        let entered = if is_health {
            Ok(None)
        } else if line != Line::Pods && self.caller.role == Role::Pod {
            // Refused before a byte of a message is read that only an operator may send.
            Err(Refusal::RoleNotAllowed)
        } else {
            flow.enter(line, gate.booking().parked()).and_then(|entered| {
                match line {
                    Line::Pods | Line::Portal => gate.enter(&self.caller, timeout)?,
                    // An operator, by the arm above; one calls for all the connections of its pods, and has a line.
                    Line::Envoys => {}
                }
                Ok(Some(entered))
            })
        };
        let work = match entered {
            Err(refusal) => Work::Refused(from_refusal(&refusal).into_http()),
            Ok(entered) if line == Line::Pods => {
                Work::Authorization(self.authorization.clone().call(request), entered)
            }
            Ok(entered) => {
                request.extensions_mut().insert(self.caller);
                Work::Other(others.clone().call(request), entered)
            }
        };
        let left = timeout.unwrap_or(CALL_WITHIN_MAX).min(CALL_WITHIN_MAX);
        async move {
            let (response, message_bytes) = match work {
                Work::Refused(response) => return Ok(response),
                Work::Authorization(work, entered) => (within(left, work, entered).await, message_bytes),
                Work::Other(work, entered) => (within(left, work, entered).await, DOCUMENT_BYTES_MAX),
            };
            Ok(amend(response, message_bytes))
        }
    }
}

/// How long a call waited to be read, where it did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited(pub(crate) Duration);

/// Awaits a call's response, but not for ever: a request whose body never ends would keep its place among the calls in
/// flight. Most calls are done at once, and these never touch the timer.
async fn within(
    left: Duration,
    work: impl Future<Output = Result<Response<Body>, Infallible>>,
    entered: Option<InFlight>,
) -> Response<Body> {
    let mut work = pin!(work);
    let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    let done = match first {
        Poll::Ready(response) => Ok(response),
        Poll::Pending => tokio::time::timeout(left, work).await,
    };
    drop(entered);
    match done {
        Ok(Ok(response)) => response,
        Err(_) => from_refusal(&Refusal::DeadlinePassed).into_http(),
    }
}

/// Longest time that a call may take until its response begins, whatever it asks.
pub(crate) const CALL_WITHIN_MAX: Duration = Duration::from_secs(10);
/// Largest profile or common-ports document in a message, in bytes.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

enum Work<A, B> {
    Refused(Response<Body>),
    Authorization(A, Option<InFlight>),
    Other(B, Option<InFlight>),
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(ENVOY_FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Tells health checks whether the gateway serves: as a whole, and by the service that pods call.
pub async fn report(health: &HealthReporter, status: ServingStatus) {
    health.set_service_status("", status).await;
    health.set_service_status("podgate.v1.AuthorizationService", status).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_flight_are_bounded_and_counted_down() {
        let flow = Arc::new(Flow::new(2));
        let pods = |parked| flow.enter(Line::Pods, parked);
        let first = pods(0).unwrap();
        let second = pods(0).unwrap();
        assert!(matches!(pods(0), Err(Refusal::Overloaded)));
        let third = pods(1).unwrap();
        let portal = flow.enter(Line::Portal, 0).unwrap();
        assert_eq!(flow.in_flight(), 4);
        drop((first, second, third, portal));
        assert_eq!(flow.in_flight(), 0);
        flow.drain();
        assert!(matches!(pods(0), Err(Refusal::Draining)));
        assert_eq!(flow.in_flight(), 0);
    }
}
