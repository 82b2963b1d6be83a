//! What the gateway decided.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::{Destination, Subject};

/// Access was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// One decision a destination, in the order of the request.
    pub decisions: Vec<Decision>,
    /// The lease; none where every destination is a common port, which needs no grant.
    pub lease: Option<Lease>,
    /// The instant of admission on the gateway's boot clock (`CLOCK_BOOTTIME`), in nanoseconds.
    pub admitted_at_ns: Option<u64>,
    /// How the grant came about.
    pub origin: Origin,
    /// Whether something was let through only because the profile's mode is `shadow`.
    pub shadow: bool,
    /// Revision of the policy that decided.
    pub policy_revision: String,
    /// The endpoint that granted.
    pub endpoint: crate::Endpoint,
    /// Calls made in all.
    pub calls: u32,
    /// How many of them were made without the server's word.
    pub attempts: u32,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Access was denied; nothing was granted or spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// One decision a destination, in the order of the request; the allowed ones are shown as well.
    pub decisions: Vec<Decision>,
    /// The first reason found, from the widest.
    pub reason: DenialReason,
    /// The same for a person, on one line.
    pub explanation: String,
    /// Revision of the policy that decided.
    pub policy_revision: String,
    /// Calls made in all.
    pub calls: u32,
    /// Time since the start.
    pub elapsed: Duration,
}

/// How a request would be decided; nothing was granted or spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What it comes to.
    pub ruling: Ruling,
    /// One decision a destination, in the order of the request.
    pub decisions: Vec<Decision>,
    /// The ruling for a person, on one line.
    pub explanation: String,
    /// Revision of the policy that decided.
    pub policy_revision: String,
}

/// What a request would come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Everything would be let through.
    Allowed,
    /// Something would be denied, and so everything; the first reason found, from the widest.
    Denied(DenialReason),
}

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease goes on, as it stands now.
    Renewed(Lease),
    /// The grant is no more: it ran out, was given back or taken back. Asking anew may bring another.
    Gone,
    /// Another pod has the address now. Who is told so has nothing to ask for any more.
    Superseded,
}

/// What came of giving a grant back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// This call ended it.
    Ended,
    /// There was nothing to end: it had ended before, or belongs to another pod.
    NothingHeld,
}

/// A grant as its holder names it, to renew it or to give it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Identifies the grant.
    pub grant_id: String,
    /// Uid of the pod that holds it; empty for a machine.
    pub pod_uid: String,
    /// The generation that the holder knows; 0: any.
    pub generation: u64,
}

/// The decision about one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The destination.
    pub destination: Destination,
    /// What was decided.
    pub verdict: Verdict,
    /// The rule that allowed it, or that came nearest; empty where none did.
    pub rule: String,
    /// The document that holds the rule.
    pub document: String,
    /// The decision in one sentence.
    pub explanation: String,
}

/// What was decided about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by a rule of the app's profile.
    Allowed,
    /// Allowed to everyone, as a common port.
    Common,
    /// Denied.
    Denied(DenialReason),
}

/// Why something was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// The gateway gave none, or one that this version does not know.
    Unspecified,
    /// No profile has the app's name.
    NoProfile,
    /// The profile does not list this service account or address.
    SubjectNotListed,
    /// No rule allows the host.
    HostNotAllowed,
    /// A rule allows the host, but not the port.
    PortNotAllowed,
    /// A rule allows host and port, but over another protocol.
    ProtocolNotAllowed,
    /// The address holds no living grant.
    NoGrant,
}

/// The time for which a grant holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Identifies the grant.
    pub grant_id: String,
    /// Rises whenever the grant changes.
    pub generation: u64,
    /// The addresses that it covers.
    pub addresses: Vec<String>,
    /// When it ends, by the gateway's wall clock.
    pub expires_at: Option<SystemTime>,
    /// When to renew, counted from the receipt of the answer.
    pub renew_after: Option<Duration>,
}

/// How a grant came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Decided and recorded by this call.
    Fresh,
    /// The living grant of an earlier call.
    Repeated,
    /// Common ports only; nothing was recorded.
    Common,
}

impl Holding {
    /// A lease in the hands of who asked for it.
    pub fn of(lease: &Lease, subject: &Subject) -> Self {
        let pod_uid = match subject {
            Subject::Pod(pod) => pod.uid.clone(),
            Subject::StaticHost(_) => String::new(),
        };
        Self { grant_id: lease.grant_id.clone(), pod_uid, generation: lease.generation }
    }
}

impl DenialReason {
    /// The stable name, such as `HOST_NOT_ALLOWED`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "UNSPECIFIED",
            Self::NoProfile => "NO_PROFILE",
            Self::SubjectNotListed => "SUBJECT_NOT_LISTED",
            Self::HostNotAllowed => "HOST_NOT_ALLOWED",
            Self::PortNotAllowed => "PORT_NOT_ALLOWED",
            Self::ProtocolNotAllowed => "PROTOCOL_NOT_ALLOWED",
            Self::NoGrant => "NO_GRANT",
        }
    }
}

impl fmt::Display for DenialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
