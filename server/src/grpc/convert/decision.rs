//! Decisions as messages.

use podgate_engine::{
    decision::{Decision, Denial, Verdict},
    desk::BucketState,
    destination::Destination,
    host::HostPattern,
    index::{Miss, RuleRef},
    port::Protocol,
};
use podgate_proto::v1;

use crate::wording;

/// One message a destination.
pub fn decisions(decision: &Decision) -> Vec<v1::DestinationDecision> {
    let pairs = decision.destinations.iter().zip(&decision.verdicts);
    pairs.map(|(destination, verdict)| one(destination, verdict)).collect()
}

fn one(wanted: &Destination, verdict: &Verdict) -> v1::DestinationDecision {
    let mut message =
        v1::DestinationDecision { destination: Some(destination(wanted)), ..Default::default() };
    let rule = match verdict {
        Verdict::Allowed(rule) => {
            message.set_verdict(v1::Verdict::Allowed);
            Some(rule)
        }
        Verdict::Common(rule) => {
            message.set_verdict(v1::Verdict::Common);
            Some(rule)
        }
        Verdict::Denied(denial, nearest) => {
            message.set_verdict(v1::Verdict::Denied);
            message.set_reason(reason(*denial));
            message.explanation = wording::denied_destination(wanted, *denial, nearest.as_ref());
            nearest.as_ref()
        }
    };
    if let Some(RuleRef { document, rule }) = rule {
        message.rule = String::from(&**rule);
        message.document = String::from(&**document);
    }
    message
}

/// A destination as a message.
pub fn destination(destination: &Destination) -> v1::Destination {
    let (first, last) = (destination.ports.first(), destination.ports.last());
    v1::Destination {
        host: match &destination.host {
            // Without the formatter: this is on the way of every call.
            HostPattern::Name(name) => String::from(&**name),
            host => host.to_string(),
        },
        port: first.into(),
        last_port: if first == last { 0 } else { last.into() },
        protocol: match destination.protocol {
            Protocol::Tcp => v1::Protocol::Tcp.into(),
            Protocol::Udp => v1::Protocol::Udp.into(),
        },
    }
}

/// Why something was denied, as the API names it.
pub fn reason(denial: Denial) -> v1::DenialReason {
    match denial {
        Denial::NoProfile => v1::DenialReason::NoProfile,
        Denial::SubjectNotListed => v1::DenialReason::SubjectNotListed,
        Denial::Destination(Miss::Host) => v1::DenialReason::HostNotAllowed,
        Denial::Destination(Miss::Port) => v1::DenialReason::PortNotAllowed,
        Denial::Destination(Miss::Protocol) => v1::DenialReason::ProtocolNotAllowed,
    }
}

/// A bucket as it stands.
pub fn bucket(state: &BucketState) -> v1::BucketState {
    v1::BucketState {
        rate_per_s: state.quota.rate.as_per_second(),
        burst: state.quota.burst.get(),
        available: state.available,
        next_slot: prost_types::Duration::try_from(state.next_slot).ok(),
    }
}
