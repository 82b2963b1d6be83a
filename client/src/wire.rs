//! Between the domain's types and those of `podgate.v1`.

use std::time::{Duration, SystemTime};

use podgate_proto::v1;

use crate::{
    Ask, Decision, DenialReason, Destination, Host, Lease, Origin, Pod, Protocol, StaticHost, Subject,
    Tenure, Ticket, Verdict, text,
};

pub(crate) mod lifecycle;

/// What one answered call decided.
#[derive(Debug, PartialEq)]
pub(crate) enum Decided {
    Granted(Access),
    Denied(Refusal),
    /// A turn is booked, `delay` after the call was sent.
    Deferred {
        delay: Duration,
        ticket: Ticket,
    },
}

#[derive(Debug, PartialEq)]
pub(crate) struct Access {
    pub(crate) decisions: Vec<Decision>,
    pub(crate) lease: Option<Lease>,
    pub(crate) admitted_at_ns: Option<u64>,
    pub(crate) origin: Origin,
    pub(crate) shadow: bool,
    pub(crate) policy_revision: String,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) decisions: Vec<Decision>,
    pub(crate) reason: DenialReason,
    pub(crate) explanation: String,
    pub(crate) policy_revision: String,
}

/// What the gateway is told of its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Terms<'a> {
    /// It can wait for so long for its turn, comes back when told, and has perhaps a ticket.
    Keeps { wait_budget: Duration, ticket: Option<&'a Ticket> },
    /// It comes back when it likes, so that nothing should be booked for it.
    Ignores,
}

/// The request on these terms.
pub(crate) fn request(ask: &Ask, terms: Terms<'_>) -> v1::AuthorizeRequest {
    let (wait_budget, keeps_appointments, ticket) = match terms {
        Terms::Keeps { wait_budget, ticket } => (wait_budget, true, ticket),
        Terms::Ignores => (Duration::ZERO, false, None),
    };
    v1::AuthorizeRequest {
        app: ask.app.clone(),
        subject: Some(subject(&ask.subject)),
        destinations: ask.destinations.iter().map(destination).collect(),
        // A budget beyond the wire's range is one without end.
        wait_budget: wait_budget.try_into().ok(),
        keeps_appointments,
        ticket: ticket.map(|ticket| ticket.as_bytes().to_vec()).unwrap_or_default(),
        renews: match ask.tenure {
            Tenure::Lasting => false,
            Tenure::Renewed => true,
        },
        ..v1::AuthorizeRequest::default()
    }
}

fn subject(subject: &Subject) -> v1::authorize_request::Subject {
    match subject {
        Subject::Pod(pod) => v1::authorize_request::Subject::Pod(pod_of(pod)),
        Subject::StaticHost(host) => v1::authorize_request::Subject::StaticHost(host_of(host)),
    }
}

fn pod_of(pod: &Pod) -> v1::Pod {
    let Pod { cluster, namespace, name, uid, service_account, node, addresses } = pod.clone();
    let addresses = addresses.iter().map(ToString::to_string).collect();
    v1::Pod { cluster, namespace, name, uid, service_account, node, addresses }
}

fn host_of(host: &StaticHost) -> v1::StaticHost {
    let StaticHost { cluster, name } = host.clone();
    v1::StaticHost { cluster, name }
}

fn destination(destination: &Destination) -> v1::Destination {
    let (port, last_port) = (destination.port(), destination.last_port());
    let protocol = match destination.protocol() {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
    };
    v1::Destination {
        host: match destination.host() {
            Host::Name(name) | Host::Wildcard(name) => name.clone(),
            host @ (Host::Address(_) | Host::Network(..)) => host.to_string(),
        },
        port: port.into(),
        last_port: if last_port == port { 0 } else { last_port.into() },
        protocol: protocol.into(),
    }
}

/// Reads an answer; an error says what makes it unintelligible. Nothing but a whole grant counts as one.
pub(crate) fn decided(ask: &Ask, response: v1::AuthorizeResponse) -> Result<Decided, String> {
    let policy_revision = text::shown(&response.policy_revision);
    match response.outcome.ok_or("it has no outcome")? {
        v1::authorize_response::Outcome::Granted(granted) => {
            access(ask, granted, policy_revision).map(Decided::Granted)
        }
        v1::authorize_response::Outcome::Denied(denied) => {
            let explanation = match denied.explanation.as_str() {
                "" => format!("{}", denial_reason(denied.reason)),
                explanation => text::shown(explanation),
            };
            Ok(Decided::Denied(Refusal {
                reason: denial_reason(denied.reason),
                explanation,
                decisions: decisions(denied.decisions)?,
                policy_revision,
            }))
        }
        v1::authorize_response::Outcome::Deferred(deferred) => {
            let delay = deferred.delay.ok_or("it defers without a delay")?;
            let delay = span(delay).ok_or("it defers into the past")?;
            let bytes = deferred.ticket.len();
            let ticket = Ticket::new(deferred.ticket);
            let ticket = ticket.ok_or_else(|| format!("it defers with a ticket of {bytes} bytes"))?;
            Ok(Decided::Deferred { delay, ticket })
        }
    }
}

fn access(ask: &Ask, granted: v1::Granted, policy_revision: String) -> Result<Access, String> {
    let origin = match v1::GrantOrigin::try_from(granted.origin) {
        Ok(v1::GrantOrigin::Fresh) => Origin::Fresh,
        Ok(v1::GrantOrigin::Repeated) => Origin::Repeated,
        Ok(v1::GrantOrigin::Common) => Origin::Common,
        Ok(v1::GrantOrigin::Unspecified) | Err(_) => return Err("it grants without an origin".to_owned()),
    };
    let lease = granted.lease.as_ref().map(lease).transpose()?;
    if lease.is_none() && origin != Origin::Common {
        return Err("it grants without a lease".to_owned());
    }
    let decisions = decisions(granted.decisions)?;
    let denied = decisions.iter().any(|decision| matches!(decision.verdict, Verdict::Denied(_)));
    if denied && !granted.shadow {
        return Err("it grants what it denies".to_owned());
    }
    if !ask.destinations.is_empty() && ask.destinations.len() != decisions.len() {
        let (asked, decided) = (ask.destinations.len(), decisions.len());
        return Err(format!("it decides on {decided} destinations of {asked}"));
    }
    let admitted_at_ns = granted.admitted_at.and_then(span).and_then(|at| u64::try_from(at.as_nanos()).ok());
    Ok(Access { decisions, lease, admitted_at_ns, origin, shadow: granted.shadow, policy_revision })
}

fn lease(lease: &v1::Lease) -> Result<Lease, String> {
    let expires_at = lease.expires_at.map(SystemTime::try_from).transpose();
    Ok(Lease {
        grant_id: text::shown(&lease.grant_id),
        generation: lease.generation,
        addresses: lease.addresses.iter().map(|address| text::shown(address)).collect(),
        expires_at: expires_at.map_err(|_| "its lease ends at no time that there is")?,
        renew_after: lease.renew_after.and_then(span),
    })
}

/// None where it is negative. That is looked at first, for prost-types overflows when it reports the most negative one.
fn span(wire: prost_types::Duration) -> Option<Duration> {
    if wire.seconds < 0 { None } else { Duration::try_from(wire).ok() }
}

fn decisions(decisions: Vec<v1::DestinationDecision>) -> Result<Vec<Decision>, String> {
    decisions.into_iter().map(|decision| decision_of(&decision)).collect()
}

fn decision_of(decision: &v1::DestinationDecision) -> Result<Decision, String> {
    let destination = decision.destination.as_ref().and_then(destination_of);
    Ok(Decision {
        destination: destination.ok_or("it decides on what is no destination")?,
        verdict: match v1::Verdict::try_from(decision.verdict) {
            Ok(v1::Verdict::Allowed) => Verdict::Allowed,
            Ok(v1::Verdict::Common) => Verdict::Common,
            Ok(v1::Verdict::Denied) => Verdict::Denied(denial_reason(decision.reason)),
            Ok(v1::Verdict::Unspecified) | Err(_) => {
                return Err("it holds a decision without a verdict".to_owned());
            }
        },
        rule: text::shown(&decision.rule),
        document: text::shown(&decision.document),
        explanation: text::shown(&decision.explanation),
    })
}

fn destination_of(wire: &v1::Destination) -> Option<Destination> {
    let port = u16::try_from(wire.port).ok()?;
    let last_port = match wire.last_port {
        0 => port,
        last_port => u16::try_from(last_port).ok()?,
    };
    let protocol = match v1::Protocol::try_from(wire.protocol).ok()? {
        v1::Protocol::Unspecified | v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
    };
    Destination::of_answer(&wire.host, port, last_port, protocol)
}

fn denial_reason(reason: i32) -> DenialReason {
    match v1::DenialReason::try_from(reason) {
        Ok(v1::DenialReason::NoProfile) => DenialReason::NoProfile,
        Ok(v1::DenialReason::SubjectNotListed) => DenialReason::SubjectNotListed,
        Ok(v1::DenialReason::HostNotAllowed) => DenialReason::HostNotAllowed,
        Ok(v1::DenialReason::PortNotAllowed) => DenialReason::PortNotAllowed,
        Ok(v1::DenialReason::ProtocolNotAllowed) => DenialReason::ProtocolNotAllowed,
        Ok(v1::DenialReason::NoGrant) => DenialReason::NoGrant,
        Ok(v1::DenialReason::Unspecified) | Err(_) => DenialReason::Unspecified,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
