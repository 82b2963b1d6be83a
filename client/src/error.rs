//! The ways in which asking ends without a grant.

use std::time::Duration;

use crate::{Denial, GiveUp};

/// Why there is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The gateway decided against it. Asking again helps only once the profile has changed.
    #[error("denied: {}", .0.explanation)]
    Denied(Denial),
    /// There was no decision.
    #[error(transparent)]
    Failed(#[from] CallError),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A limit was spent to the end.
    #[error("throttled: {0}")]
    Throttled(Ended),
    /// No gateway answered in time.
    #[error("unavailable: {0}")]
    Unavailable(Ended),
    /// The gateway does not know who calls.
    #[error("not authenticated: {0}")]
    Unauthenticated(Ended),
    /// Another pod has the address now.
    #[error("superseded: {0}")]
    Superseded(Ended),
    /// The request, the settings or the caller's rights are wrong.
    #[error("misconfigured: {0}")]
    Misconfigured(Ended),
}

/// How asking ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (calls: {calls})")]
pub struct Ended {
    /// What was said last.
    pub reason: String,
    /// Calls made in all.
    pub calls: u32,
    /// Time since the start.
    pub elapsed: Duration,
    /// Which bound ended it; none where the failure was final.
    pub bound: Option<GiveUp>,
}

impl AuthorizeError {
    /// Calls made in all.
    pub fn calls(&self) -> u32 {
        match self {
            Self::Denied(denial) => denial.calls,
            Self::Failed(error) => error.ended().calls,
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Denied(denial) => denial.elapsed,
            Self::Failed(error) => error.ended().elapsed,
        }
    }

    /// What was said last.
    pub fn reason(&self) -> &str {
        match self {
            Self::Denied(denial) => &denial.explanation,
            Self::Failed(error) => &error.ended().reason,
        }
    }
}

impl CallError {
    /// How asking ended.
    pub fn ended(&self) -> &Ended {
        match self {
            Self::Throttled(ended)
            | Self::Unavailable(ended)
            | Self::Unauthenticated(ended)
            | Self::Superseded(ended)
            | Self::Misconfigured(ended) => ended,
        }
    }
}

/// Settings with which no client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misconfigured {
    /// `endpoints` is empty.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// An endpoint is `https`, and this program was built without TLS.
    #[error("{endpoint} needs TLS, and this program was built without it (features tls-aws-lc, tls-ring)")]
    NoTls {
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint is `https`, and no authority is given.
    #[error("{endpoint} needs a CA file: no authority is trusted without one")]
    NoAuthority {
        /// The endpoint.
        endpoint: String,
    },
    /// The CA file can't be used.
    #[error("CA file {path}: {reason}")]
    CaFile {
        /// Its path.
        path: String,
        /// Why not.
        reason: String,
    },
    /// TLS can't be set up, most likely for the server name.
    #[error("TLS for {endpoint}: {reason}")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}
