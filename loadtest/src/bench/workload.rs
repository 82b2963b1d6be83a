//! The messages of each mode, and what has to come back.

use std::net::Ipv4Addr;

use bytes::Bytes;
use podgate_proto::v1::{
    AuthorizeRequest, AuthorizeResponse, CheckRequest, CheckResponse, Destination, GrantOrigin, Pod,
    Protocol, Verdict, authorize_request::Subject, authorize_response::Outcome,
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    bench::{
        answer::Method,
        connection::{Reply, framed},
        documents::{ALLOWED, COMMON, EMPTY_APP, FORBIDDEN, NAMESPACE, OPEN_APP},
        held,
        mode::Mode,
    },
    cli::BenchArgs,
    seed::SplitMix64,
    storm::population::Addresses,
};

/// Path of Authorize.
const AUTHORIZE: &str = "/podgate.v1.AuthorizationService/Authorize";
/// Path of Check.
const CHECK: &str = "/podgate.v1.AuthorizationService/Check";

/// The stable reason of a refusal by an app's bucket.
const APP_RATE: &str = "APP_RATE";

/// One call in flight, again and again.
///
/// Each slot is a pod in a cluster of its own, so that slots that share a connection, and so an address, don't take
/// each other's grants away.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    address: Ipv4Addr,
    cluster: String,
    uid: String,
    seed: u64,
    /// Grants of others that the gateway holds.
    held: u32,
}

/// The slots, by connection.
pub(crate) fn slots(args: &BenchArgs, addresses: &mut Addresses) -> Vec<Vec<Slot>> {
    let BenchArgs { connections, in_flight, seed, grants, .. } = *args;
    some_slots((connections, in_flight), seed, grants, addresses)
}

/// So many slots on so many connections, of a gateway that holds so many grants.
pub(crate) fn some_slots(
    (connections, in_flight): (u32, u32),
    seed: u64,
    held: u32,
    addresses: &mut Addresses,
) -> Vec<Vec<Slot>> {
    let mut random = SplitMix64::new(seed, 3);
    addresses
        .take(connections as usize)
        .map(|address| {
            (0..in_flight)
                .map(|slot| Slot {
                    address,
                    cluster: format!("bench-{slot}"),
                    uid: random.uuid(),
                    seed: random.next_u64(),
                    held,
                })
                .collect()
        })
        .collect()
}

impl Slot {
    /// A slot for a single call from an address.
    pub(crate) fn visitor(address: Ipv4Addr) -> Self {
        Self {
            address,
            cluster: "bench-visitor".to_owned(),
            uid: format!("visitor-{address}"),
            seed: 0,
            held: 0,
        }
    }

    /// The same pod, whose new pods are others.
    pub(crate) fn apart(&self) -> Self {
        Self { seed: !self.seed, ..self.clone() }
    }

    /// The address that it calls from.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn authorize(&self, app: &str, destinations: &[(&str, u32)]) -> AuthorizeRequest {
        AuthorizeRequest {
            app: app.to_owned(),
            subject: Some(Subject::Pod(Pod {
                cluster: self.cluster.clone(),
                namespace: NAMESPACE.to_owned(),
                name: format!("{app}-7d9c5b6f4-x7k2p"),
                uid: self.uid.clone(),
                service_account: app.to_owned(),
                node: "node-17".to_owned(),
                addresses: vec![self.address.to_string()],
            })),
            destinations: destinations.iter().map(|&(host, port)| destination(host, port)).collect(),
            wait_budget: Some(prost_types::Duration { seconds: 540, nanos: 0 }),
            ..AuthorizeRequest::default()
        }
    }

    fn check(&self) -> CheckRequest {
        let (host, port) = ALLOWED[0];
        CheckRequest {
            cluster: self.cluster.clone(),
            address: self.address.to_string(),
            destination: Some(destination(host, port)),
        }
    }
}

fn destination(host: &str, port: u32) -> Destination {
    Destination { host: host.to_owned(), port, last_port: 0, protocol: Protocol::Tcp.into() }
}

/// The messages of a slot, one after the other, without end.
pub(crate) enum Messages {
    /// Always the same.
    Same(Bytes),
    /// Always another pod.
    NewPods(Box<NewPods>),
    /// Any of the addresses that hold a grant.
    Holders(Box<Holders>),
}

/// A check whose address is another each time.
pub(crate) struct Holders {
    request: CheckRequest,
    count: u32,
    random: SplitMix64,
}

/// A request whose pod is another each time.
pub(crate) struct NewPods {
    request: AuthorizeRequest,
    uids: SplitMix64,
}

impl Messages {
    /// The next message, framed.
    pub(crate) fn next(&mut self) -> Bytes {
        match self {
            Self::Same(message) => message.clone(),
            Self::NewPods(pods) => {
                if let Some(Subject::Pod(pod)) = &mut pods.request.subject {
                    pod.uid = pods.uids.uuid();
                }
                framed(&pods.request)
            }
            Self::Holders(holders) => {
                let number = holders.random.below(u64::from(holders.count)) as u32;
                holders.request.address = held::address(number).to_string();
                framed(&holders.request)
            }
        }
    }
}

impl Mode {
    /// The method that it calls.
    pub(crate) const fn method(self) -> Method {
        match self {
            Self::Check => Method::Check,
            Self::Common | Self::Repeat | Self::Fresh | Self::Denied | Self::Throttled => Method::Authorize,
        }
    }

    /// The path of the method.
    pub(crate) const fn path(self) -> &'static str {
        match self.method() {
            Method::Check => CHECK,
            Method::Authorize => AUTHORIZE,
        }
    }

    /// Calls that a slot makes before the measurement.
    pub(crate) fn preparation(self, slot: &Slot) -> Option<(&'static str, Bytes)> {
        match self {
            Self::Repeat | Self::Check => Some((AUTHORIZE, framed(&slot.authorize(OPEN_APP, &ALLOWED)))),
            // Of another pod, or the grant of the one token would be repeated.
            Self::Throttled => {
                let drain =
                    Slot { uid: format!("drain-{}", slot.uid), cluster: "drain".to_owned(), ..slot.clone() };
                Some((AUTHORIZE, framed(&drain.authorize(EMPTY_APP, &ALLOWED))))
            }
            Self::Common | Self::Fresh | Self::Denied => None,
        }
    }

    /// Whether a preparing call was answered as it has to be; if not, what came instead.
    pub(crate) fn check_preparation(self, reply: &Reply) -> Result<(), String> {
        match self {
            // One is granted, the rest are refused.
            Self::Throttled if reply.code == Code::ResourceExhausted as i32 => Ok(()),
            Self::Common | Self::Repeat | Self::Fresh | Self::Check | Self::Denied | Self::Throttled => {
                granted(reply).map(|_| ())
            }
        }
    }

    /// The messages that a slot measures with.
    pub(crate) fn messages(self, slot: &Slot) -> Messages {
        match self {
            Self::Common => Messages::Same(framed(&slot.authorize(OPEN_APP, &COMMON))),
            Self::Repeat => Messages::Same(framed(&slot.authorize(OPEN_APP, &ALLOWED))),
            Self::Fresh => Messages::NewPods(Box::new(NewPods {
                request: slot.authorize(OPEN_APP, &ALLOWED),
                uids: SplitMix64::new(slot.seed, 4),
            })),
            Self::Check if slot.held > 0 => Messages::Holders(Box::new(Holders {
                request: CheckRequest { cluster: held::CLUSTER.to_owned(), ..slot.check() },
                count: slot.held,
                random: SplitMix64::new(slot.seed, 5),
            })),
            Self::Check => Messages::Same(framed(&slot.check())),
            Self::Denied => {
                Messages::Same(framed(&slot.authorize(OPEN_APP, &[ALLOWED[0], ALLOWED[1], FORBIDDEN])))
            }
            Self::Throttled => Messages::Same(framed(&slot.authorize(EMPTY_APP, &ALLOWED))),
        }
    }

    /// The `grpc-status` of every right answer.
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::Throttled => Code::ResourceExhausted as i32,
            Self::Common | Self::Repeat | Self::Fresh | Self::Check | Self::Denied => Code::Ok as i32,
        }
    }

    /// Whether an answer is what the mode measures; if not, what came instead.
    pub(crate) fn check(self, reply: &Reply) -> Result<(), String> {
        let origin = |expected: GrantOrigin| match granted(reply)? {
            origin if origin == expected => Ok(()),
            origin => Err(format!("granted, but {}", origin.as_str_name())),
        };
        match self {
            Self::Common => origin(GrantOrigin::Common),
            Self::Repeat => origin(GrantOrigin::Repeated),
            Self::Fresh => origin(GrantOrigin::Fresh),
            Self::Check => match CheckResponse::decode(ok(reply)?).map_err(|error| error.to_string())? {
                response if response.verdict() == Verdict::Allowed => Ok(()),
                response => {
                    Err(format!("{} ({})", response.verdict().as_str_name(), response.reason().as_str_name()))
                }
            },
            Self::Denied => match outcome(reply)? {
                Outcome::Denied(_) => Ok(()),
                Outcome::Granted(_) | Outcome::Deferred(_) => Err("not denied".to_owned()),
            },
            Self::Throttled => match refusal(reply)?.as_str() {
                APP_RATE => Ok(()),
                other => Err(format!("refused, but for {other}")),
            },
        }
    }
}

/// The reason of a refusal.
fn refusal(reply: &Reply) -> Result<String, String> {
    match Status::from_header_map(&reply.metadata) {
        Some(status) if status.code() == Code::ResourceExhausted => {
            Ok(status.get_details_error_info().map_or_else(|| "no reason".to_owned(), |info| info.reason))
        }
        Some(_) | None => ok(reply).and(Err("not refused".to_owned())),
    }
}

fn granted(reply: &Reply) -> Result<GrantOrigin, String> {
    match outcome(reply)? {
        Outcome::Granted(granted) => Ok(granted.origin()),
        Outcome::Denied(denied) => Err(format!("denied: {}", denied.explanation)),
        Outcome::Deferred(_) => Err("deferred".to_owned()),
    }
}

fn outcome(reply: &Reply) -> Result<Outcome, String> {
    let response = AuthorizeResponse::decode(ok(reply)?).map_err(|error| error.to_string())?;
    response.outcome.ok_or_else(|| "an answer without an outcome".to_owned())
}

fn ok(reply: &Reply) -> Result<Bytes, String> {
    if reply.code == Code::Ok as i32 {
        return Ok(reply.message.clone());
    }
    let message =
        reply.metadata.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Err(format!("{:?}: {message}", Code::from(reply.code)))
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
