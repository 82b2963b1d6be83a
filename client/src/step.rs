//! What a client reports while it works.

use std::time::Duration;

use crate::{Endpoint, Ticket, Why};

/// One step of a request, such as [`Client::authorize`](crate::Client::authorize), told as it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opens a connection.
    Connecting {
        /// To whom.
        endpoint: Endpoint,
    },
    /// Sends a call.
    Calling {
        /// To whom.
        endpoint: Endpoint,
        /// Number of this call, from 1.
        call: u32,
        /// How many calls, with this one, were made without the server's word.
        attempt: u32,
    },
    /// The connection or the call came to an end.
    Answered {
        /// Time since the `Connecting` or `Calling` before it.
        latency: Duration,
        /// With what.
        answer: Answer,
    },
    /// Waits before the next call.
    Waiting {
        /// For how long.
        delay: Duration,
        /// Until when, counted from the start of the request.
        until: Duration,
        /// On whose word.
        why: Why,
    },
}

/// How a connection or a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The grant is given.
    Granted,
    /// The gateway decided against it.
    Denied,
    /// There is no decision yet: a turn is booked.
    Deferred {
        /// When it is due, counted from now.
        delay: Duration,
        /// The proof of it. Whoever keeps it can come back with it in another life
        /// ([`Client::authorize_from`](crate::Client::authorize_from)).
        ticket: Ticket,
    },
    /// A renewal, a release or a question without effect has its answer.
    Settled,
    /// There is no answer.
    Failed(Failure),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What the gateway or the network said, on one line of at most about 300 bytes.
    pub reason: String,
    /// When the gateway wants to be called again (`google.rpc.RetryInfo`).
    pub retry_after: Option<Duration>,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection came about, so the gateway has not seen us: not a call.
    Unreached,
    /// The gateway is there but did not decide, or not in time. Worth another call.
    Unavailable,
    /// A limit is spent. Worth another call, later.
    Throttled,
    /// The gateway does not know who calls. Final.
    Unauthenticated,
    /// Another pod has the address now. Final.
    Superseded,
    /// The request or the gateway's address is wrong. Final.
    Misconfigured,
}
