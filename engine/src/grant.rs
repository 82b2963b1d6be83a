//! A grant: the recorded decision that lets one subject's address reach a set of destinations.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    ops::Deref,
    str::FromStr,
    sync::Arc,
};

use crate::{
    decision::{Decision, Verdict},
    destination::Destination,
    digest::hex,
    fault::{Unreadable, shown},
    index::RuleRef,
    lease::{Fallback, Tenure},
    shared::Word,
    subject::Subject,
    time::{Moment, WallTime},
};

/// Identifies a grant; rises with every new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub u64);

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0))
    }
}

impl FromStr for GrantId {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        Some(text)
            .filter(|text| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .map(Self)
            .ok_or_else(|| Unreadable(format!("{} is no grant; expected 16 hexadecimal digits", shown(text))))
    }
}

/// Where a grant lies: an address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Cluster; empty where there is one only.
    pub cluster: Word,
    /// The address.
    pub address: IpAddr,
}

/// A recorded decision. What it allows stands in its [`Terms`], and is read from the grant itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Identifies it.
    pub id: GrantId,
    /// Rises whenever it changes.
    pub generation: u64,
    /// What it allows, and why.
    pub terms: Arc<Terms>,
    /// Who holds it, and at which address.
    pub subject: Arc<Subject>,
    /// By what it goes on.
    pub tenure: Tenure,
    /// The admission of the latest request, on the boot clock.
    pub admitted_at: Moment,
    /// When it was made.
    pub created_at: WallTime,
    /// When it ends.
    pub expires_at: WallTime,
}

/// What a grant allows, and why: the same for all pods that asked the same of the same app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Name of the app.
    pub app: Arc<str>,
    /// What it allows.
    pub allowed: Arc<[Allowed]>,
    /// Digests of the requests that it answers, oldest first.
    pub requests: Box<[u64]>,
    /// Revision of the app's policy that made it.
    pub revision: u64,
    /// Whether something was let through by shadow mode alone.
    pub shadow: bool,
    /// What holds while the gateway cannot be reached.
    pub fallback: Fallback,
}

/// Only what nearly always tells terms apart: what is allowed may be thousands of destinations.
impl Hash for Terms {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.app.hash(state);
        self.requests.hash(state);
        self.revision.hash(state);
        self.allowed.len().hash(state);
    }
}

impl Deref for Grant {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// A destination that a grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The destination.
    pub destination: Destination,
    /// By what.
    pub basis: Basis,
}

/// By what a destination is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// A rule of the profile.
    Profile(RuleRef),
    /// A common port.
    Common(RuleRef),
    /// Shadow mode alone.
    Shadow,
}

impl Grant {
    /// Whether it holds at `now`.
    pub fn lives(&self, now: WallTime) -> bool {
        now < self.expires_at
    }

    /// What covers all of `destination`.
    pub fn covering(&self, destination: &Destination) -> Option<&Allowed> {
        self.allowed.iter().find(|allowed| allowed.destination.covers(destination))
    }

    /// Whether it answers the same request again, made under the same policy.
    pub fn answers(&self, app: &str, uid: &str, request: u64, revision: u64, now: WallTime) -> bool {
        self.lives(now)
            && self.revision == revision
            && *self.app == *app
            && self.subject.kind.uid() == uid
            && self.requests.contains(&request)
    }
}

/// What a decision allows, as a grant records it.
pub fn allowed_by(decision: &Decision) -> Arc<[Allowed]> {
    let pairs = decision.destinations.iter().zip(&decision.verdicts);
    pairs
        .map(|(destination, verdict)| Allowed {
            destination: destination.clone(),
            basis: match verdict {
                Verdict::Allowed(rule) => Basis::Profile(rule.clone()),
                Verdict::Common(rule) => Basis::Common(rule.clone()),
                Verdict::Denied(..) => Basis::Shadow,
            },
        })
        .collect()
}
