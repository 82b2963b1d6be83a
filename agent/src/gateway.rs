//! The gateway's side: one watch over one connection.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use podgate_client::{Endpoint, Setback};
use podgate_proto::v1::{
    GrantServiceWatchRequest, GrantServiceWatchResponse, WatchAck, WatchStart,
    grant_service_client::GrantServiceClient, grant_service_watch_request::Request,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::{Stream as _, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming, transport};
use tonic_types::StatusExt as _;

use crate::{
    books::{OutOfOrder, Step},
    guards::Guards,
    wire::{self, Nonsense},
};

/// Longest time for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Largest message that is read.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Most messages that are put in force together.
const MESSAGES_MAX: usize = 256;
/// Acknowledgements that wait to be sent.
const ACKS_MAX: usize = 16;

/// Where to watch, and what.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The gateway.
    pub(crate) endpoint: Endpoint,
    /// What is guarded.
    pub(crate) guards: Guards,
    /// Only grants of this cluster; empty: of any.
    pub(crate) cluster: String,
    /// Who we are: whoever asks for a barrier waits for us by this name.
    pub(crate) enforcer: String,
    /// How long it may be silent.
    pub(crate) silence: Duration,
}

/// A watch that has begun.
#[derive(Debug)]
pub(crate) struct Watch {
    messages: Streaming<GrantServiceWatchResponse>,
    acks: mpsc::Sender<GrantServiceWatchRequest>,
    /// When the gateway said something last.
    heard: Instant,
    silence: Duration,
}

/// A step, and what is to be acknowledged once it is in force.
#[derive(Debug)]
pub(crate) struct Message {
    /// The step.
    pub(crate) step: Step,
    /// Where to go on after it.
    pub(crate) resume_token: Vec<u8>,
    /// The gateway's revision after it.
    pub(crate) revision: u64,
}

/// Why a watch has ended, or not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchEnd {
    /// No connection came about.
    #[error("the gateway is not reached")]
    Unreached(#[source] transport::Error),
    /// The gateway refused, or the connection broke.
    #[error("the gateway ended the watch: {:?}: {}", .0.code(), .0.message())]
    Refused(Status),
    /// The gateway closed the watch.
    #[error("the gateway closed the watch")]
    Closed,
    /// Nothing was heard for too long.
    #[error("the gateway was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// What it says makes no sense.
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
    /// What it says came too early.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// There is room again for grants that found none, and they have to be told anew.
    #[error("there is room again for grants that found none")]
    RoomAgain,
}

impl WatchEnd {
    /// What it means for the next attempt.
    pub(crate) fn setback(&self) -> Setback {
        match self {
            Self::Unreached(_) => Setback::Unreached,
            Self::Refused(status) => {
                match status.get_details_retry_info().and_then(|info| info.retry_delay) {
                    Some(delay) => Setback::Pushback(delay),
                    None => Setback::Silent,
                }
            }
            Self::Closed | Self::Silent(_) | Self::Nonsense(_) | Self::OutOfOrder(_) | Self::RoomAgain => {
                Setback::Silent
            }
        }
    }

    /// Whether the next watch has to begin with a snapshot.
    pub(crate) fn start(&self) -> Start {
        match self {
            Self::Unreached(_) | Self::Closed | Self::Silent(_) => Start::Resume,
            Self::Nonsense(_) | Self::OutOfOrder(_) | Self::RoomAgain => Start::Snapshot,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::DataLoss => {
                    Start::Snapshot
                }
                // Codes come from the wire, and the rest say nothing about the token.
                _ => Start::Resume,
            },
        }
    }
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Where the last one ended.
    Resume,
    /// With a snapshot.
    Snapshot,
}

impl Gateway {
    /// Begins a watch.
    pub(crate) async fn watch(&self, resume_token: Vec<u8>) -> Result<Watch, WatchEnd> {
        let channel = transport::Endpoint::from_shared(self.endpoint.to_string())
            .map_err(WatchEnd::Unreached)?
            .connect_timeout(CONNECT_MAX)
            .connect()
            .await
            .map_err(WatchEnd::Unreached)?;
        let mut client = GrantServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (acks, requests) = mpsc::channel(ACKS_MAX);
        let start = WatchStart {
            guards: self.guards.iter().map(wire::guard).collect(),
            resume_token,
            cluster: self.cluster.clone(),
            enforcer: self.enforcer.clone(),
        };
        // The channel is empty, and its other end is held.
        let _ = acks.try_send(GrantServiceWatchRequest { request: Some(Request::Start(start)) });
        let beginning = timeout(self.silence, client.watch(ReceiverStream::new(requests)));
        let response = beginning.await.map_err(|_| WatchEnd::Silent(self.silence))?;
        let messages = response.map_err(WatchEnd::Refused)?.into_inner();
        Ok(Watch { messages, acks, heard: Instant::now(), silence: self.silence })
    }
}

impl Watch {
    /// Waits for the next step, and takes those that are there already with it. Nothing is lost if it is not awaited to its end.
    pub(crate) async fn next(&mut self, guards: &Guards) -> Result<Vec<Message>, WatchEnd> {
        let deadline = self.heard + self.silence;
        let first = timeout_at(deadline, self.messages.message());
        let first = first.await.map_err(|_| WatchEnd::Silent(self.silence))?.map_err(WatchEnd::Refused)?;
        let mut told = vec![read(first.ok_or(WatchEnd::Closed)?, guards)?];
        while told.len() < MESSAGES_MAX
            && let Some(message) = self.ready().await
        {
            match message {
                Ok(message) => told.push(read(message, guards)?),
                Err(status) => return Err(WatchEnd::Refused(status)),
            }
        }
        self.heard = Instant::now();
        Ok(told)
    }

    /// A message that has come already. Never waits.
    async fn ready(&mut self) -> Option<Result<GrantServiceWatchResponse, Status>> {
        poll_fn(|context| {
            Poll::Ready(match Pin::new(&mut self.messages).poll_next(context) {
                Poll::Ready(message) => message,
                Poll::Pending => None,
            })
        })
        .await
    }

    /// Acknowledges what is in force.
    pub(crate) async fn acknowledge(&self, resume_token: Vec<u8>) -> Result<(), WatchEnd> {
        let ack = GrantServiceWatchRequest { request: Some(Request::Ack(WatchAck { resume_token })) };
        let sending = timeout(self.silence, self.acks.send(ack));
        sending.await.map_err(|_| WatchEnd::Silent(self.silence))?.map_err(|_| WatchEnd::Closed)
    }
}

fn read(message: GrantServiceWatchResponse, guards: &Guards) -> Result<Message, Nonsense> {
    let step = wire::step(&message, guards)?;
    Ok(Message { step, resume_token: message.resume_token, revision: message.revision })
}
