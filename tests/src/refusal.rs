//! What a refused call says, beyond its code.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

/// The stable reason: `ErrorInfo.reason` of the domain podgate.io; empty if there is none.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.filter(|info| info.domain == "podgate.io").map(|info| info.reason).unwrap_or_default()
}

/// The fields that are wrong, in the order in which they are told.
pub fn fields(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request();
    let violations = request.map(|request| request.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// When to come again, if it says so.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// The subjects of the quotas that are used up.
pub fn quotas(status: &Status) -> Vec<String> {
    let failure = status.get_details_quota_failure();
    let violations = failure.map(|failure| failure.violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.subject).collect()
}
