//! Gives a running gateway the profiles of a storm, as the Portal would.

use std::time::Duration;

use podgate_client::Endpoint;
use podgate_proto::v1::{ProfileServiceApplyRequest, profile_service_client::ProfileServiceClient};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::storm::{
    StormError,
    documents::{self, App},
};

/// Most tries of one call that the per-IP limit refuses.
const TRIES_MAX: u32 = 60;
/// The wait where the server names none.
const WAIT: Duration = Duration::from_millis(500);
/// The longest wait that is kept.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Applies the profiles of all apps, one after the other.
pub(crate) async fn profiles(endpoint: &Endpoint, apps: &[App]) -> Result<(), StormError> {
    let mut client = ProfileServiceClient::new(channel(endpoint).await?);
    for app in apps {
        let request = ProfileServiceApplyRequest {
            profile: Some(documents::message(app)),
            ..ProfileServiceApplyRequest::default()
        };
        let mut tries = 0;
        while let Err(status) = client.apply(request.clone()).await {
            tries += 1;
            let wait = patience(&status, tries).ok_or_else(|| StormError::Call {
                what: format!("applying the profile {}", app.name),
                status: Box::new(status),
            })?;
            tokio::time::sleep(wait).await;
        }
    }
    Ok(())
}

/// Connects for calls beside the storm.
pub(crate) async fn channel(endpoint: &Endpoint) -> Result<Channel, StormError> {
    let unreachable = |reason: String| StormError::Unreachable { endpoint: endpoint.to_string(), reason };
    Channel::from_shared(endpoint.to_string())
        .map_err(|error| unreachable(error.to_string()))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| unreachable(error_chain(&error)))
}

/// How long to wait before a refused call is made again; `None`: it is final. These calls pass the per-IP limit as any.
pub(crate) fn patience(status: &Status, tries: u32) -> Option<Duration> {
    let passing = matches!(status.code(), Code::ResourceExhausted | Code::Unavailable);
    let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
    (passing && tries < TRIES_MAX).then(|| told.unwrap_or(WAIT).min(WAIT_MAX))
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn waits_as_told_and_not_for_ever() {
        let told = |delay_s| {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(delay_s)));
            Status::with_error_details(Code::ResourceExhausted, "slow down", details)
        };
        assert_eq!(patience(&told(2), 1), Some(Duration::from_secs(2)));
        assert_eq!(patience(&told(900), 1), Some(WAIT_MAX));
        assert_eq!(patience(&told(2), TRIES_MAX), None);
        assert_eq!(patience(&Status::unavailable("x"), 1), Some(WAIT));
        assert_eq!(patience(&Status::permission_denied("x"), 1), None);
    }
}
