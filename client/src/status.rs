//! From a gRPC status to what it means for the next call.

use std::error::Error;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{Failure, FailureKind, Renewal, text};

/// Most field violations that a reason repeats.
const VIOLATIONS_MAX: usize = 4;

/// The `ErrorInfo.reason` for a pod whose address another one has.
const POD_SUPERSEDED: &str = "POD_SUPERSEDED";
/// That for a lease of which the policy leaves nothing: it is over, and asking anew tells why.
const NO_LONGER_ALLOWED: &str = "NO_LONGER_ALLOWED";

/// What a failed call means.
pub(crate) fn failure(status: &Status) -> Failure {
    Failure {
        kind: if told(status).as_deref() == Some(POD_SUPERSEDED) {
            FailureKind::Superseded
        } else {
            kind(status.code())
        },
        reason: text::shown(&reason(status)),
        retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
    }
}

/// The end of a lease that was to be renewed or given back, where the status tells of one.
pub(crate) fn end_of_lease(status: &Status) -> Option<Renewal> {
    match told(status).as_deref() {
        Some(POD_SUPERSEDED) => Some(Renewal::Superseded),
        Some(NO_LONGER_ALLOWED) => Some(Renewal::Gone),
        Some(_) | None => (status.code() == Code::NotFound).then_some(Renewal::Gone),
    }
}

/// The stable reason.
fn told(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

fn kind(code: Code) -> FailureKind {
    match code {
        Code::ResourceExhausted => FailureKind::Throttled,
        Code::Unauthenticated => FailureKind::Unauthenticated,
        Code::PermissionDenied
        | Code::InvalidArgument
        | Code::Unimplemented
        | Code::NotFound
        | Code::FailedPrecondition => FailureKind::Misconfigured,
        // What the network and an overloaded gateway make of a call, among it a passed timeout (CANCELLED).
        Code::Ok
        | Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Internal
        | Code::Unknown
        | Code::Aborted
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::DataLoss => FailureKind::Unavailable,
    }
}

fn reason(status: &Status) -> String {
    let mut reason = match status.message() {
        "" => format!("the gateway answered {:?} without a word", status.code()),
        message => message.to_owned(),
    };
    if let Some(cause) = status.source() {
        reason = format!("{reason}: {}", innermost(cause));
    }
    if let Some(info) = status.get_details_error_info() {
        reason = format!("{reason} [{}]", info.reason);
    }
    if let Some(request) = status.get_details_bad_request() {
        for violation in request.field_violations.iter().take(VIOLATIONS_MAX) {
            reason = format!("{reason}; {}: {}", violation.field, violation.description);
        }
    }
    reason
}

/// The text of the error at the root, which says what happened; those above it say in what.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn the_servers_word_is_read() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        details.set_error_info("APP_RATE", "podgate.io", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::ResourceExhausted, "the rate of a is spent", details);
        assert_eq!(
            failure(&status),
            Failure {
                kind: FailureKind::Throttled,
                reason: "the rate of a is spent [APP_RATE]".to_owned(),
                retry_after: Some(Duration::from_millis(1500)),
            }
        );
    }

    #[test]
    fn violated_fields_are_named() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("pod.uid", "is empty");
        details.add_bad_request_violation("app", "is\nempty");
        let failure = failure(&Status::with_error_details(Code::InvalidArgument, "bad request", details));
        assert_eq!(failure.reason, "bad request; pod.uid: is empty; app: is empty");
        assert_eq!((failure.kind, failure.retry_after), (FailureKind::Misconfigured, None));
    }

    #[test]
    fn a_pod_whose_address_another_has_is_told_apart() {
        let details = ErrorDetails::with_error_info(POD_SUPERSEDED, "podgate.io", []);
        let status = Status::with_error_details(Code::FailedPrecondition, "taken", details);
        assert_eq!(failure(&status).kind, FailureKind::Superseded);
        assert_eq!(end_of_lease(&status), Some(Renewal::Superseded));
        assert_eq!(end_of_lease(&Status::failed_precondition("something else")), None);
    }

    #[test]
    fn details_that_are_garbage_are_no_word() {
        let status = Status::with_details(Code::Unavailable, "", b"\xff\xffgarbage".to_vec().into());
        assert_eq!(
            failure(&status),
            Failure {
                kind: FailureKind::Unavailable,
                reason: "the gateway answered Unavailable without a word".to_owned(),
                retry_after: None,
            }
        );
    }

    #[test]
    fn a_reason_without_end_is_cut() {
        let failure = failure(&Status::unavailable("x".repeat(1 << 20)));
        assert!(failure.reason.len() < 310);
    }

    #[test]
    fn every_code_has_its_meaning() {
        use FailureKind::{Misconfigured as M, Throttled as T, Unauthenticated as A, Unavailable as U};
        let kinds: Vec<FailureKind> = (0..17).map(|code| kind(Code::from_i32(code))).collect();
        assert_eq!(kinds, [U, U, U, M, U, M, U, M, T, M, U, U, M, U, U, U, A]);
    }
}
