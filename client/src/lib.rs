//! The client of podgate: asks the gateway to let a pod through, waits as it is told, and gives up in time.
//!
//! [`Client::authorize`] keeps trying inside one overall budget, and says at every [`Step`] what it does. When to
//! call again is decided by [`Schedule`], which is pure and seeded. Where the gateway books a turn, the client comes back
//! with its ticket when the turn is due ([`Answer::Deferred`]). A [`Client`] holds at most one connection and
//! shares its settings with its siblings ([`Client::sibling`]), so that a load tester can keep thousands.

mod destination;
mod endpoint;

mod appointment;
mod ask;
mod config;
mod renewal;
mod retry;
mod schedule;

mod answer;
mod error;
mod step;

mod call;
mod client;
mod connection;
mod course;
mod dial;
mod first_flight;
mod jitter;
mod status;
mod text;
mod wire;

pub use crate::{
    answer::{
        Decision, Denial, DenialReason, Explained, Granted, Holding, Lease, Origin, Release, Renewal, Ruling,
        Verdict,
    },
    appointment::{Appointment, Ticket},
    ask::{Ask, AskFault, DESTINATIONS_MAX, Pod, StaticHost, Subject, Tenure},
    client::Client,
    config::ClientConfig,
    destination::{Destination, DestinationError, Host, Protocol},
    endpoint::{Endpoint, EndpointError},
    error::{AuthorizeError, CallError, Ended, Misconfigured},
    renewal::{Duty, News, RenewalSchedule},
    retry::{Appointments, Pace, RetryPolicy},
    schedule::{GiveUp, Next, Schedule, Setback, Why},
    step::{Answer, Failure, FailureKind, Step},
};
