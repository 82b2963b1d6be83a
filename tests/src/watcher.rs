//! A watcher of grants, as an enforcer is one: it puts each step in force as it comes.

use std::collections::{BTreeMap, BTreeSet};

use podgate_proto::v1::{
    Grant, GrantServiceWatchRequest, GrantServiceWatchResponse, WatchAck, WatchStart, WatchStep,
    grant_service_client::GrantServiceClient, grant_service_watch_request::Request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{eventually::within, requests::destination};

/// A watcher.
#[derive(Debug)]
pub struct Watcher {
    requests: mpsc::Sender<GrantServiceWatchRequest>,
    steps: Streaming<GrantServiceWatchResponse>,
    /// The grants in force, by id.
    pub held: BTreeMap<String, Grant>,
    /// Token of the last step that had one.
    pub token: Vec<u8>,
    named: Option<BTreeSet<String>>,
    revision: u64,
}

/// What a watcher had when its watch broke off.
#[derive(Debug)]
pub struct BrokenOff {
    held: BTreeMap<String, Grant>,
    token: Vec<u8>,
    revision: u64,
}

impl BrokenOff {
    /// Goes on from there.
    ///
    /// # Panics
    ///
    /// Panics if it cannot.
    pub async fn resume(self, client: GrantServiceClient<Channel>, start: WatchStart) -> Watcher {
        let Self { held, token, revision } = self;
        let start = WatchStart { resume_token: token.clone(), ..start };
        match Watcher::begin(client, start).await {
            Ok(begun) => Watcher { held, token, revision, ..begun },
            Err(status) => panic!("no watch goes on: {status:?}"),
        }
    }
}

/// A start of an enforcer that guards some names or addresses.
pub fn enforcer(name: &str, guards: &[(&str, u32)]) -> WatchStart {
    WatchStart {
        enforcer: name.to_owned(),
        guards: guards.iter().map(|(host, port)| destination(host, *port)).collect(),
        ..WatchStart::default()
    }
}

impl Watcher {
    /// Begins a watch.
    pub async fn begin(mut client: GrantServiceClient<Channel>, start: WatchStart) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(16);
        let start = GrantServiceWatchRequest { request: Some(Request::Start(start)) };
        drop(requests.send(start).await);
        let steps = within("a watch", client.watch(ReceiverStream::new(sent))).await?.into_inner();
        let (held, token) = (BTreeMap::new(), Vec::new());
        Ok(Self { requests, steps, held, token, named: None, revision: 0 })
    }

    /// Ends without a word.
    pub fn break_off(self) -> BrokenOff {
        let Self { held, token, revision, .. } = self;
        BrokenOff { held, token, revision }
    }

    /// Takes the next step, and puts it in force.
    ///
    /// # Panics
    ///
    /// Panics if the watch ends, or the step is not a next one.
    pub async fn step(&mut self) -> GrantServiceWatchResponse {
        match within("a step of a watch", self.steps.message()).await {
            Ok(Some(step)) => {
                self.take(&step);
                step
            }
            other => panic!("the watch has ended: {other:?}"),
        }
    }

    /// Takes steps up to the first of a kind.
    pub async fn step_of(&mut self, kind: WatchStep) -> GrantServiceWatchResponse {
        loop {
            let step = self.step().await;
            if step.step() == kind {
                return step;
            }
        }
    }

    /// Waits until the watch ends; returns with what.
    pub async fn ended(mut self) -> Status {
        loop {
            match within("the end of a watch", self.steps.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    /// Acknowledges what it has put in force.
    pub async fn acknowledge(&self) {
        self.acknowledge_with(self.token.clone()).await;
    }

    /// Acknowledges by a token.
    pub async fn acknowledge_with(&self, resume_token: Vec<u8>) {
        let request = GrantServiceWatchRequest { request: Some(Request::Ack(WatchAck { resume_token })) };
        drop(self.requests.send(request).await);
    }

    fn take(&mut self, step: &GrantServiceWatchResponse) {
        let kind = step.step();
        // A gateway that has started anew begins anew.
        let begins = kind == WatchStep::Snapshot || kind == WatchStep::SnapshotEnd;
        assert!(step.revision >= self.revision || begins, "back to {} from {}", step.revision, self.revision);
        assert!(step.revision > self.revision || kind != WatchStep::Delta, "{} twice", step.revision);
        self.revision = step.revision;
        let mut named = begins.then(|| self.named.take().unwrap_or_default());
        for removal in &step.removals {
            self.held.remove(&removal.grant_id);
            if let Some(named) = &mut named {
                named.remove(&removal.grant_id);
            }
        }
        for grant in &step.upserts {
            self.held.insert(grant.grant_id.clone(), grant.clone());
            if let Some(named) = &mut named {
                named.insert(grant.grant_id.clone());
            }
        }
        if kind == WatchStep::SnapshotEnd
            && let Some(named) = named.take()
        {
            self.held.retain(|id, _| named.contains(id));
        }
        self.named = named;
        if !step.resume_token.is_empty() {
            self.token.clone_from(&step.resume_token);
        }
    }
}
