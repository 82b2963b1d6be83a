//! The one place where refusals become gRPC statuses.

use std::time::Duration;

use http::Response;
use podgate_engine::{desk::Limit, lease::Refused};
use rand::RngExt as _;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    clock,
    gate::{DocumentError, Refusal, refusal::Violation},
    store::StoreError,
    upstream::UpstreamError,
};

/// The domain of all `ErrorInfo`.
pub const DOMAIN: &str = "podgate.io";

/// How long a caller is sent away from a gateway that cannot serve now.
const UNAVAILABLE_MIN: Duration = Duration::from_millis(500);
const UNAVAILABLE_MAX: Duration = Duration::from_millis(1_500);

/// How long a caller is sent away whose grant the upstream refuses: somebody has to mend that first.
const UPSTREAM_REFUSED_MIN: Duration = Duration::from_secs(5);

/// How long a caller is sent away whose app has as many leases as it may: some pods have to end first.
const LEASES_FULL_MIN: Duration = Duration::from_secs(5);

/// When an address that has as many slots booked as it may is sent away: some of them are over by then.
const ADDRESS_BOOKINGS_WITHIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));

/// What violations may take of a response's headers, of which clients read 8 KiB (grpc-java, C-core) or 16 KiB (hyper).
const DETAIL_BYTES_MAX: usize = 3_000;

/// A refusal as a status.
pub fn from_refusal(refusal: &Refusal) -> Status {
    let (code, reason) = match refusal {
        Refusal::Fields(violations) => return from_violations(violations),
        Refusal::DeadlineTooShort => (Code::DeadlineExceeded, "DEADLINE_TOO_SHORT"),
        Refusal::DeadlinePassed => (Code::DeadlineExceeded, "DEADLINE_PASSED"),
        Refusal::PerIpCalls { .. } => (Code::ResourceExhausted, "PER_IP_CALLS"),
        Refusal::PushedBack { by: Limit::App, .. } => (Code::ResourceExhausted, "APP_RATE"),
        Refusal::PushedBack { by: Limit::Capacity, .. } => (Code::ResourceExhausted, "CAPACITY"),
        Refusal::PushedBack { by: Limit::Bookings, .. } => (Code::ResourceExhausted, "BOOKINGS_FULL"),
        Refusal::PushedBack { by: Limit::Holder, .. } => (Code::ResourceExhausted, "ADDRESS_BOOKINGS"),
        Refusal::Booked { .. } => (Code::ResourceExhausted, "BOOKED"),
        Refusal::Superseded => (Code::Aborted, "SUPERSEDED"),
        Refusal::AddressNotProven(_) => (Code::PermissionDenied, "ADDRESS_NOT_PROVEN"),
        Refusal::RoleNotAllowed => (Code::PermissionDenied, "ROLE_NOT_ALLOWED"),
        Refusal::NoLongerAllowed => (Code::FailedPrecondition, "NO_LONGER_ALLOWED"),
        Refusal::NoPolicy => (Code::Unavailable, "NO_POLICY"),
        Refusal::EnforcersPending => (Code::Unavailable, "ENFORCERS_PENDING"),
        Refusal::TooManyWatchers => (Code::ResourceExhausted, "WATCHERS_FULL"),
        Refusal::Outrun => (Code::Unavailable, "WATCH_OUTRUN"),
        Refusal::Overloaded => (Code::Unavailable, "OVERLOADED"),
        Refusal::Draining => (Code::Unavailable, "DRAINING"),
        Refusal::Store(StoreError::Full) => (Code::ResourceExhausted, "GRANTS_FULL"),
        Refusal::Store(StoreError::LeasesFull) => (Code::ResourceExhausted, "LEASES_FULL"),
        Refusal::Store(StoreError::NoGrant) => (Code::NotFound, "GRANT_NOT_FOUND"),
        // Final: a client does not ask again.
        Refusal::Store(StoreError::Refused(Refused::Superseded)) => {
            (Code::FailedPrecondition, "POD_SUPERSEDED")
        }
        Refusal::Store(StoreError::Refused(Refused::Moved)) => (Code::Aborted, "ADDRESS_MOVED"),
        Refusal::Store(StoreError::Refused(Refused::Quarantined { .. })) => {
            (Code::Unavailable, "ADDRESS_QUARANTINED")
        }
        Refusal::Store(StoreError::Busy) => (Code::Unavailable, "STORE_BUSY"),
        Refusal::Store(_) => (Code::Unavailable, "STORE_UNAVAILABLE"),
        Refusal::Upstream(UpstreamError::Pending | UpstreamError::Ended) => {
            (Code::Unavailable, "UPSTREAM_PENDING")
        }
        Refusal::Upstream(UpstreamError::Unavailable | UpstreamError::Busy) => {
            (Code::Unavailable, "UPSTREAM_UNAVAILABLE")
        }
        Refusal::Upstream(UpstreamError::Refused(_)) => (Code::Unavailable, "UPSTREAM_REFUSED"),
    };
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    match refusal {
        Refusal::PerIpCalls { wait } => {
            details.set_retry_info(Some(spread(*wait)));
            details.add_quota_failure_violation("address", refusal.to_string());
        }
        Refusal::PushedBack { by, horizon } => {
            let (subject, within) = match by {
                Limit::App => ("app", (*horizon / 2, *horizon)),
                Limit::Capacity | Limit::Bookings => ("gateway", (*horizon / 2, *horizon)),
                Limit::Holder => ("address", ADDRESS_BOOKINGS_WITHIN),
            };
            details.set_retry_info(Some(between(within.0, within.1)));
            details.add_quota_failure_violation(subject, refusal.to_string());
        }
        // Exact, since it is booked for this caller and nobody else.
        Refusal::Booked { delay } => {
            details.set_retry_info(Some(*delay));
            details.add_quota_failure_violation("app", refusal.to_string());
        }
        Refusal::Store(StoreError::LeasesFull) => {
            details.set_retry_info(Some(spread(LEASES_FULL_MIN)));
            details.add_quota_failure_violation("app", refusal.to_string());
        }
        // For this address alone, and so told exactly.
        Refusal::Store(StoreError::Refused(Refused::Quarantined { until })) => {
            details.set_retry_info(Some(until.since(clock::wall())));
        }
        Refusal::Upstream(UpstreamError::Refused(_)) => {
            details.set_retry_info(Some(spread(UPSTREAM_REFUSED_MIN)));
        }
        Refusal::Fields(_)
        | Refusal::DeadlineTooShort
        | Refusal::DeadlinePassed
        | Refusal::Superseded
        | Refusal::AddressNotProven(_)
        | Refusal::RoleNotAllowed
        | Refusal::NoLongerAllowed
        | Refusal::Store(StoreError::NoGrant | StoreError::Refused(Refused::Superseded)) => {}
        Refusal::NoPolicy
        | Refusal::EnforcersPending
        | Refusal::TooManyWatchers
        | Refusal::Outrun
        | Refusal::Overloaded
        | Refusal::Draining
        | Refusal::Store(_)
        | Refusal::Upstream(_) => {
            details.set_retry_info(Some(between(UNAVAILABLE_MIN, UNAVAILABLE_MAX)));
        }
    }
    metrics::counter!("podgate_refusals_total", "reason" => reason).increment(1);
    Status::with_error_details(code, refusal.to_string(), details)
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Store(failure) = &refusal {
            tracing::debug!(error = %failure, "a call was refused by the store");
        }
        from_refusal(&refusal)
    }
}

impl From<DocumentError> for Status {
    fn from(error: DocumentError) -> Self {
        let (code, reason) = match error {
            DocumentError::Refused(refusal) => return refusal.into(),
            DocumentError::Faulty(faults) => {
                let violations = faults.into_iter();
                let violations: Vec<Violation> = violations
                    .map(|fault| Violation { field: fault.path, description: fault.message })
                    .collect();
                return from_violations(&violations);
            }
            DocumentError::NotFound { .. } => (Code::NotFound, "NOT_FOUND"),
            DocumentError::ReadOnly { .. } => (Code::FailedPrecondition, "READ_ONLY_FILE"),
            DocumentError::EtagMismatch { .. } => (Code::Aborted, "ETAG_MISMATCH"),
        };
        let details = ErrorDetails::with_error_info(reason, DOMAIN, []);
        Self::with_error_details(code, error.to_string(), details)
    }
}

/// Wrong fields, all at once. The message names the first: many clients show nothing else.
pub fn from_violations(violations: &[Violation]) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, []);
    let mut bytes = 0;
    for (told, violation) in violations.iter().enumerate() {
        bytes += violation.field.len() + violation.description.len();
        if bytes > DETAIL_BYTES_MAX {
            details.add_bad_request_violation("", format!("and {} more", violations.len() - told));
            break;
        }
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    let message = match violations {
        [] => "a field is invalid".to_owned(),
        [only] => format!("{}: {}", only.field, only.description),
        [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.description, rest.len()),
    };
    metrics::counter!("podgate_refusals_total", "reason" => "INVALID_FIELD").increment(1);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// Puts what tonic refuses by itself (a message that is too large, or none) into the form of our other refusals.
pub fn amend(response: Response<Body>, message_bytes: usize) -> Response<Body> {
    let headers = response.headers();
    if headers.get("grpc-status").is_none() || headers.contains_key("grpc-status-details-bin") {
        return response;
    }
    let description = match Status::from_header_map(headers) {
        Some(status) if status.code() == Code::Internal => status.message().to_owned(),
        Some(status) if status.code() == Code::OutOfRange => {
            format!("too large; expected at most {message_bytes} bytes")
        }
        Some(_) | None => return response,
    };
    from_violations(&[Violation { field: "message".to_owned(), description }]).into_http()
}

/// What this gateway does not serve yet.
pub fn not_served(call: &str) -> Status {
    let details = ErrorDetails::with_error_info("NOT_SERVED", DOMAIN, []);
    Status::with_error_details(
        Code::Unimplemented,
        format!("{call} is not served by this gateway yet"),
        details,
    )
}

/// A delay for a wait that nobody booked, from U(w, 2w + 1 s): told exactly, it would bring all who wait back at the
/// same instant.
fn spread(wait: Duration) -> Duration {
    between(wait, wait * 2 + Duration::from_secs(1))
}

fn between(shortest: Duration, longest: Duration) -> Duration {
    rand::rng().random_range(shortest..=longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbooked_wait_is_spread() {
        let wait = Duration::from_millis(300);
        let told: Vec<Duration> = (0..1_000).map(|_| spread(wait)).collect();
        assert!(told.iter().all(|delay| (wait..=Duration::from_millis(1_600)).contains(delay)));
        let mean = told.iter().sum::<Duration>() / 1_000;
        assert!((Duration::from_millis(850)..Duration::from_millis(1_050)).contains(&mean), "{mean:?}");
    }

    #[test]
    fn who_waits_for_the_upstream_learns_why_and_when_to_come_again() {
        for (error, reason) in [
            (UpstreamError::Pending, "UPSTREAM_PENDING"),
            (UpstreamError::Ended, "UPSTREAM_PENDING"),
            (UpstreamError::Unavailable, "UPSTREAM_UNAVAILABLE"),
            (UpstreamError::Busy, "UPSTREAM_UNAVAILABLE"),
            (UpstreamError::Refused("full".to_owned()), "UPSTREAM_REFUSED"),
        ] {
            let status = from_refusal(&Refusal::Upstream(error.clone()));
            let details = status.get_error_details();
            assert_eq!((status.code(), status.message()), (Code::Unavailable, &*error.to_string()));
            assert_eq!(details.error_info().unwrap().reason, reason);
            assert!(details.retry_info().unwrap().retry_delay.unwrap() >= UNAVAILABLE_MIN);
        }
    }

    #[test]
    fn a_throttled_caller_learns_when_to_come_and_why() {
        let horizon = Duration::from_secs(120);
        let status = from_refusal(&Refusal::PushedBack { by: Limit::App, horizon });
        assert_eq!(status.code(), Code::ResourceExhausted);
        let details = status.get_error_details();
        let told = details.retry_info().unwrap().retry_delay.unwrap();
        assert!((horizon / 2..=horizon).contains(&told), "{told:?}");
        assert_eq!(details.error_info().unwrap().reason, "APP_RATE");
        assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    }
}
