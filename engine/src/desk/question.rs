//! What callers ask the desk, and what they are told.

use std::{sync::Arc, time::Duration};

use crate::{
    book::{Holder, ParkId, Request},
    profile::Priority,
    quota::Quota,
    time::Moment,
};

/// A caller's question.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The app's name.
    pub app: &'a Arc<str>,
    /// What its bucket allows.
    pub quota: Quota,
    /// How far ahead slots are booked.
    pub horizon: Duration,
    /// The app's priority.
    pub priority: Priority,
    /// For whom a slot would be kept.
    pub holder: Holder,
    /// What is asked for, and for which pod.
    pub request: Request,
    /// Time left until the call has to be answered.
    pub answer_within: Duration,
    /// How long the caller can wait, all calls together.
    pub wait_budget: Duration,
    /// The slot of a ticket that has been verified.
    pub ticket: Option<Moment>,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Admitted now; its token is spent.
    Admitted(Way),
    /// Wait inside the call until the slot, then [`Desk::arrive`](super::Desk::arrive).
    Parked {
        /// The slot.
        slot: Moment,
        /// Tells this call from a later one of the same caller.
        id: ParkId,
        /// An earlier call of the same caller, whose place this one has taken.
        displaced: Option<ParkId>,
    },
    /// A slot is booked; come back when it is due.
    Deferred {
        /// The slot.
        slot: Moment,
        /// Up to where the frontier has to be durable before the slot may be told; none: it is already.
        reserve: Option<Moment>,
    },
    /// Nothing is booked: there is no slot within the horizon, or within what the caller can wait.
    PushedBack(Limit),
    /// Nothing is booked: there is no time left to answer.
    TooLate,
}

/// How a caller came to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It had booked nothing, and there was a token.
    WalkIn,
    /// At the slot that it had booked.
    OnTime,
    /// Before the slot that it had booked: others had not come.
    Early,
}

/// What became of the slot that a ticket names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketUse {
    /// There was none.
    None,
    /// It came on time.
    OnTime,
    /// It came before its slot.
    Early,
    /// It came later than 200 ms after its slot: its holder is a walk-in.
    Late,
    /// Its slot had been redeemed, or inherited by another request: its holder is a walk-in.
    Spent,
    /// Its slot lies further ahead than any slot can: its holder is a walk-in.
    Future,
}

/// A limit that can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The app's own bucket.
    App,
    /// The capacity of the gateway.
    Capacity,
    /// As many slots are booked as the desk keeps in all.
    Bookings,
    /// The caller's address holds as many open bookings as it may, for other pods.
    Holder,
}

/// What a parked caller finds at its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Admitted now.
    Admitted,
    /// Not before this instant: it came early, or the rate was lowered meanwhile.
    Wait(Moment),
    /// A later call of the same caller has taken the place, or it was called early.
    Superseded,
}

/// A bucket as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// What it allows.
    pub quota: Quota,
    /// Walk-ins that would be admitted at once.
    pub available: u32,
    /// How long the next walk-in would wait.
    pub next_slot: Duration,
}
