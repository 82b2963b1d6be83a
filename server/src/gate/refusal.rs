//! Why a call got no answer. A denial is an answer; these are the rest.

use std::{net::IpAddr, time::Duration};

use podgate_engine::desk::Limit;

use crate::{store::StoreError, upstream::UpstreamError};

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Fields of the request are wrong.
    #[error("{} of the request cannot be read", if .0.len() == 1 { "a field" } else { "fields" })]
    Fields(Vec<Violation>),
    /// The call's deadline cannot be met; nothing was spent.
    #[error("the deadline is too short to be met; nothing was spent")]
    DeadlineTooShort,
    /// The call's deadline, or the longest time for any call, passed while it was worked on.
    #[error(
        "time was up before the answer was there; what was begun may have been done, and asking again finds it"
    )]
    DeadlinePassed,
    /// The address has made too many calls.
    #[error("this address calls too often")]
    PerIpCalls {
        /// How long until it may call again.
        wait: Duration,
    },
    /// There is no slot within the horizon, or within what the caller can wait, or no place to keep one. Nothing was
    /// booked.
    #[error("{}", match .by {
        Limit::App => "the app's rate is booked for as long as the caller can wait; nothing was booked",
        Limit::Capacity => "the gateway's capacity is booked for as long as the caller can wait; nothing was booked",
        Limit::Bookings => "as many slots are booked as the gateway keeps; nothing was booked",
        Limit::Holder => "this address has as many slots booked as it may; nothing was booked",
    })]
    PushedBack {
        /// What was in the way.
        by: Limit,
        /// How far ahead slots are booked.
        horizon: Duration,
    },
    /// A slot is booked, but the caller knows no `deferred`.
    #[error("a slot is booked for this caller; the same request is admitted when it comes at that time")]
    Booked {
        /// How long until the slot.
        delay: Duration,
    },
    /// A later call of the same caller waits in its place.
    #[error("a later call of the same caller has taken its place")]
    Superseded,
    /// The request names addresses, and the one that it comes from is not among them.
    #[error("the call comes from {0}, which is not among the pod's addresses")]
    AddressNotProven(IpAddr),
    /// The caller's role does not allow this.
    #[error("this caller's role does not allow this call")]
    RoleNotAllowed,
    /// The policy allows nothing of the grant any more.
    #[error("the policy allows nothing of this grant any more; it is not extended")]
    NoLongerAllowed,
    /// No policy has been loaded yet.
    #[error("no policy is loaded yet")]
    NoPolicy,
    /// The grant is durable, and not every enforcer that guards its destinations is known to have it in force.
    #[error(
        "granted, and not yet in force with every enforcer that guards the destinations; asking again waits on"
    )]
    EnforcersPending,
    /// As many watch as can, or are expected back.
    #[error("as many enforcers watch as can")]
    TooManyWatchers,
    /// A watcher is further behind than changes are kept, and its snapshot is not complete.
    #[error("changes came faster than this watch took its snapshot; begin anew")]
    Outrun,
    /// As many calls as can be are being worked on.
    #[error("too many calls are in flight")]
    Overloaded,
    /// The gateway is ending.
    #[error("the gateway is ending; ask another")]
    Draining,
    /// The store did not do as asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The upstream is not known to have the grant in force.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the message, such as `destinations[2].port`.
    pub field: String,
    /// What was expected.
    pub description: String,
}
