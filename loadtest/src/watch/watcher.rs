//! A watcher, as an enforcer is one: it acknowledges each step that it has.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, time::Duration};

use podgate_proto::v1::{
    Destination, GrantServiceWatchRequest, GrantServiceWatchResponse, Protocol, WatchAck, WatchStart,
    WatchStep, grant_service_client::GrantServiceClient, grant_service_watch_request::Request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

use crate::{
    bench::documents::ALLOWED,
    clock,
    watch::{WatchError, changes::Made},
};

/// Acknowledgements on their way.
const ACKS_MAX: usize = 64;

/// A watch that has its snapshot.
pub(crate) struct Watcher {
    requests: mpsc::Sender<GrantServiceWatchRequest>,
    steps: Streaming<GrantServiceWatchResponse>,
    /// When it heard of each grant that is new since the snapshot, by id.
    pub(crate) seen: HashMap<String, std::time::Instant>,
    changes: u64,
}

/// What a snapshot took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) lasted: Duration,
    pub(crate) grants: u64,
}

/// Changes of which the watcher was told while they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) changes: u64,
}

impl Watcher {
    /// Connects, and takes the snapshot: of all grants, since all allow what it guards.
    pub(crate) async fn begin(gateway: SocketAddr) -> Result<(Self, Snapshot), WatchError> {
        let channel = Endpoint::from_shared(format!("http://{gateway}"))?.connect().await?;
        let began = clock::now();
        let (requests, sent) = mpsc::channel(ACKS_MAX);
        let (host, port) = ALLOWED[0];
        let guard = Destination { host: host.to_owned(), port, last_port: 0, protocol: Protocol::Tcp.into() };
        let start =
            WatchStart { guards: vec![guard], enforcer: "loadtest".to_owned(), ..WatchStart::default() };
        // There is room for the first of them.
        drop(requests.send(GrantServiceWatchRequest { request: Some(Request::Start(start)) }).await);
        let steps =
            GrantServiceClient::new(channel).watch(ReceiverStream::new(sent)).await.map_err(Box::new)?;
        let mut watcher = Self { requests, steps: steps.into_inner(), seen: HashMap::new(), changes: 0 };
        let mut grants = 0;
        loop {
            let step = watcher.next().await?;
            grants += step.upserts.len() as u64;
            match step.step() {
                WatchStep::SnapshotEnd => break,
                WatchStep::Snapshot | WatchStep::Delta | WatchStep::Heartbeat | WatchStep::Unspecified => {}
            }
        }
        Ok((watcher, Snapshot { lasted: clock::now() - began, grants }))
    }

    /// Follows the changes for as long as they are made.
    pub(crate) async fn follow_while(
        &mut self,
        changing: impl Future<Output = Result<(), WatchError>>,
    ) -> Result<Followed, WatchError> {
        let mut changing = std::pin::pin!(changing);
        loop {
            tokio::select! {
                ended = &mut changing => {
                    ended?;
                    return Ok(Followed { changes: self.changes });
                }
                step = self.next() => self.note(&step?),
            }
        }
    }

    /// Goes on until it has heard of every grant that was made.
    pub(crate) async fn catch_up(&mut self, made: &RefCell<Made>) -> Result<(), WatchError> {
        while made.borrow().answered_at.keys().any(|id| !self.seen.contains_key(id)) {
            let step = self.next().await?;
            self.note(&step);
        }
        Ok(())
    }

    fn note(&mut self, step: &GrantServiceWatchResponse) {
        let now = clock::now();
        self.changes += (step.upserts.len() + step.removals.len()) as u64;
        self.seen.extend(step.upserts.iter().map(|grant| (grant.grant_id.clone(), now)));
    }

    async fn next(&mut self) -> Result<GrantServiceWatchResponse, WatchError> {
        let step = self.steps.message().await.map_err(Box::new)?.ok_or(WatchError::Ended)?;
        if !step.resume_token.is_empty() {
            let ack = WatchAck { resume_token: step.resume_token.clone() };
            // A gateway that reads no acknowledgement would end the watch, and that is told above.
            drop(self.requests.try_send(GrantServiceWatchRequest { request: Some(Request::Ack(ack)) }));
        }
        Ok(step)
    }
}
