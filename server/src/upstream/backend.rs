//! Calls of the upstream. None outlasts its time, whatever the service does.

use std::{sync::Arc, time::Duration};

use podgate_engine::grant::{Grant, GrantId};
use podgate_proto::upstream::{
    ApplyRequest, Failure, FailureKind, RevokeRequest, acl_backend_service_client::AclBackendServiceClient,
};
use rustc_hash::FxHashMap;
use tokio::time::{Instant, timeout};
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    config::Upstream as Settings,
    store::Tombstone,
    upstream::{
        measures::{Call, Measures},
        message,
    },
};

const USER_AGENT: &str = concat!("podgate/", env!("CARGO_PKG_VERSION"));
/// Largest answer that is read, in bytes: 256 failures with their reasons fit in many times over.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// What is kept of a reason, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// The service behind.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    dialer: Dialer,
    client: AclBackendServiceClient<Channel>,
    timeout: Duration,
    measures: Arc<Measures>,
}

/// By what way a connection comes about.
#[derive(Clone, Debug)]
enum Dialer {
    Tcp(Arc<Endpoint>),
    /// Pipes inside the process, so that a test may pause the clock.
    #[cfg(test)]
    Memory,
}

/// What a call was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Those of the batch that were not done.
    pub(crate) failures: FxHashMap<GrantId, Fault>,
    /// Another one than before: the service has lost what it held.
    pub(crate) epoch: String,
}

/// Why a call, or one grant of it, was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody is there, or has time.
    Absent(String),
    /// Something went wrong there, perhaps over one grant of the batch.
    Broken(String),
    /// It will not be done as it is.
    Refused(String),
}

impl Fault {
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Absent(reason) | Self::Broken(reason) | Self::Refused(reason) => reason,
        }
    }
}

impl Backend {
    /// A service that is dialed when it is first called, and again whenever the connection is lost.
    pub(crate) fn dial(
        settings: &Settings,
        measures: Arc<Measures>,
    ) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(settings.endpoint.clone())?
            .user_agent(USER_AGENT)?
            .connect_timeout(settings.timeout)
            .http2_max_local_error_reset_streams(1024);
        let client = client(endpoint.connect_lazy());
        Ok(Self { dialer: Dialer::Tcp(Arc::new(endpoint)), client, timeout: settings.timeout, measures })
    }

    /// A service at the other end of a channel.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel, timeout: Duration, measures: Arc<Measures>) -> Self {
        Self { dialer: Dialer::Memory, client: client(channel), timeout, measures }
    }

    /// Gives the connection up and dials anew: the peer of one that answers nothing may have been gone for long, and
    /// the name may mean another one now. HTTP/2 pings would find that out as well, but servers refuse those that come
    /// without calls (grpc-core and grpc-go close the connection over two in five minutes).
    pub(crate) fn dial_anew(&mut self) {
        match &self.dialer {
            Dialer::Tcp(endpoint) => self.client = client(endpoint.connect_lazy()),
            #[cfg(test)]
            Dialer::Memory => {}
        }
    }

    /// Applies a batch; an empty one asks whether somebody is there.
    pub(crate) async fn apply(mut self, batch: &[Arc<Grant>]) -> Result<Answer, Fault> {
        let call = if batch.is_empty() { Call::Probe } else { Call::Apply };
        let grants = batch.iter().map(|grant| message::applied(grant)).collect();
        let mut request = Request::new(ApplyRequest { grants });
        request.set_timeout(self.timeout);
        let answer = within(self.timeout, &self.measures, call, self.client.apply(request)).await?;
        Ok(Answer { failures: failures(answer.failures), epoch: answer.epoch })
    }

    /// Revokes a batch.
    pub(crate) async fn revoke(mut self, batch: &[Tombstone]) -> Result<Answer, Fault> {
        let grants = batch.iter().map(message::revoked).collect();
        let mut request = Request::new(RevokeRequest { grants });
        request.set_timeout(self.timeout);
        let answer = within(self.timeout, &self.measures, Call::Revoke, self.client.revoke(request)).await?;
        Ok(Answer { failures: failures(answer.failures), epoch: answer.epoch })
    }
}

fn client(channel: Channel) -> AclBackendServiceClient<Channel> {
    AclBackendServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

async fn within<T>(
    limit: Duration,
    measures: &Measures,
    call: Call,
    work: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Fault> {
    let began = Instant::now();
    let outcome = match timeout(limit, work).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(fault(&status)),
        Err(_) => Err(Fault::Absent(format!("no answer within {limit:?}"))),
    };
    measures.note(call, began.elapsed(), outcome.as_ref().err());
    outcome
}

/// What a status says about the service and the batch.
fn fault(status: &Status) -> Fault {
    let reason = shown(&format!("{:?}: {}", status.code(), status.message()));
    match status.code() {
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::ResourceExhausted
        | Code::Aborted
        // Somebody is there, who is not the service or does not let us in.
        | Code::Unimplemented
        | Code::Unauthenticated
        | Code::PermissionDenied => Fault::Absent(reason),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Fault::Broken(reason),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange => Fault::Refused(reason),
    }
}

fn failures(told: Vec<Failure>) -> FxHashMap<GrantId, Fault> {
    let known = told.into_iter().filter_map(|failure| {
        let kind = failure.kind();
        let Ok(id) = failure.grant_id.parse::<GrantId>() else {
            tracing::warn!("the upstream tells of a failure of a grant that cannot be read");
            return None;
        };
        let reason = shown(&failure.reason);
        Some(match kind {
            FailureKind::Unspecified | FailureKind::Transient => (id, Fault::Broken(reason)),
            FailureKind::Refused => (id, Fault::Refused(reason)),
        })
    });
    known.collect()
}

/// A reason as it is logged and told: short, and without control characters.
fn shown(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_short_and_of_one_line() {
        let told = shown(&format!("a\nb{}", "é".repeat(300)));
        assert!(told.starts_with("a bé") && told.len() <= REASON_BYTES_MAX && told.len() > 250);
    }

    #[test]
    fn an_id_that_nobody_can_read_is_no_failure_of_another_grant() {
        let failure = |id: &str| Failure { grant_id: id.to_owned(), ..Failure::default() };
        let read = failures(vec![failure("000000000000000a"), failure("a"), failure("")]);
        assert_eq!(read.into_keys().collect::<Vec<_>>(), [GrantId(10)]);
    }
}
