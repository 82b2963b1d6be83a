//! GrantService.Watch: one task a watch, which tells steps as fast as they are taken, and hears acknowledgements.

use std::{pin::pin, sync::Arc, time::Duration};

use podgate_engine::guard::{GUARDS_MAX, Guards};
use podgate_proto::v1::{self, grant_service_watch_request::Request as Wanted};
use tokio::{
    sync::mpsc::{self, Permit, error::TrySendError},
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    authn::Caller,
    clock,
    gate::{
        Gate, Refusal,
        enforcers::Place,
        watch::{Next, Removal, Step, StepKind, Watcher},
    },
    grpc::convert::{fields::Fields, grant},
};

/// Steps that are made before the last one is taken. What a watcher does not take is not made.
const STEPS_AHEAD: usize = 1;
/// How long nothing is said before a sign of life.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// How long a watcher that knows everything rests: a thousand of them must not be woken by every commit.
const REST: Duration = Duration::from_millis(5);
/// Longest token that is read, in bytes; a longer one is none of any version.
const TOKEN_BYTES_MAX: usize = 64;

type Told = Result<v1::GrantServiceWatchResponse, Status>;

/// Begins the watch that the first message asks for.
pub async fn begin(
    gate: &Arc<Gate>,
    caller: &Caller,
    mut requests: Streaming<v1::GrantServiceWatchRequest>,
) -> Result<ReceiverStream<Told>, Status> {
    let first = requests.message().await?.and_then(|message| message.request);
    let (name, guards, token) = read(first)?;
    let (place, watcher) = gate.watch(caller, name, guards, &token)?;
    if watcher.token().is_none() {
        count_snapshot(if token.is_empty() { "new" } else { "unknown_token" });
    }
    let (sender, told) = mpsc::channel(STEPS_AHEAD);
    let watch = Watch { gate: Arc::clone(gate), requests, place, watcher };
    tokio::spawn(async move {
        if let Err(status) = watch.run(&sender).await {
            // A watcher that takes nothing any more is gone.
            drop(sender.send(Err(status)).await);
        }
    });
    Ok(ReceiverStream::new(told))
}

fn count_snapshot(why: &'static str) {
    metrics::counter!("podgate_watch_snapshots_total", "why" => why).increment(1);
}

fn read(first: Option<Wanted>) -> Result<(Box<str>, Guards, Vec<u8>), Refusal> {
    let mut fields = Fields::default();
    let start = match first {
        Some(Wanted::Start(start)) => start,
        Some(Wanted::Ack(_)) | None => {
            fields.violation("start", "missing; expected as the first message");
            return fields.finish(None);
        }
    };
    let v1::WatchStart { guards, resume_token, cluster, enforcer } = start;
    let cluster = fields.word("start.cluster", cluster, 63);
    let name = fields.word("start.enforcer", enforcer, 253);
    if resume_token.len() > TOKEN_BYTES_MAX {
        fields.violation("start.resume_token", format!("expected at most {TOKEN_BYTES_MAX} bytes"));
    }
    if guards.len() > GUARDS_MAX {
        let expected = format!("{} guards; expected at most {GUARDS_MAX}", guards.len());
        fields.violation("start.guards", expected);
    }
    let guarded = guards.iter().take(GUARDS_MAX).enumerate();
    let guarded: Vec<_> = guarded
        .filter_map(|(at, guard)| fields.destination(format_args!("start.guards[{at}]"), guard))
        .collect();
    let cluster = Some(cluster).filter(|cluster| !cluster.is_empty());
    fields.finish(Some((name, Guards::new(cluster, guarded), resume_token)))
}

/// A watch that has begun.
struct Watch {
    gate: Arc<Gate>,
    requests: Streaming<v1::GrantServiceWatchRequest>,
    place: Place,
    watcher: Watcher,
}

/// What the watcher is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// To take what there may be.
    ToTake,
    /// To have rested.
    ToRest,
    /// For something to change.
    ForChange,
}

/// What came of a look.
enum Looked {
    Told,
    Quiet,
    UpToDate,
}

impl Watch {
    /// Goes on until the watcher is gone, or the gateway ends, or the watch cannot go on.
    async fn run(mut self, sender: &mpsc::Sender<Told>) -> Result<(), Status> {
        let gate = Arc::clone(&self.gate);
        let mut head = gate.store().journal().subscribe();
        let (mut waiting, mut hears) = (Waiting::ToTake, true);
        let mut drained = pin!(gate.enforcers().drained());
        let mut rest = pin!(sleep(REST));
        let mut silence = pin!(sleep(HEARTBEAT_EVERY));
        loop {
            tokio::select! {
                () = drained.as_mut() => return Err(Refusal::Draining.into()),
                request = self.requests.message(), if hears => match request? {
                    Some(request) => self.hear(request)?,
                    // It can acknowledge nothing any more.
                    None if self.place.is_waited_for() => return Ok(()),
                    None => hears = false,
                },
                permit = sender.reserve(), if waiting == Waiting::ToTake => {
                    let Ok(permit) = permit else { return Ok(()) };
                    head.mark_unchanged();
                    match self.look(permit).await? {
                        Looked::Told => silence.as_mut().reset(Instant::now() + HEARTBEAT_EVERY),
                        Looked::Quiet => tokio::task::yield_now().await,
                        Looked::UpToDate => {
                            waiting = Waiting::ToRest;
                            rest.as_mut().reset(Instant::now() + REST);
                        }
                    }
                }
                () = rest.as_mut(), if waiting == Waiting::ToRest => waiting = Waiting::ForChange,
                _ = head.changed(), if waiting == Waiting::ForChange => waiting = Waiting::ToTake,
                () = silence.as_mut() => {
                    match sender.try_reserve() {
                        Ok(permit) => permit.send(Ok(self.message(self.sign_of_life()))),
                        // It has yet to take what was said before.
                        Err(TrySendError::Full(())) => {}
                        Err(TrySendError::Closed(())) => return Ok(()),
                    }
                    silence.as_mut().reset(Instant::now() + HEARTBEAT_EVERY);
                }
            }
            self.place.note(self.watcher.reached(), self.watcher.in_force());
        }
    }

    fn hear(&mut self, request: v1::GrantServiceWatchRequest) -> Result<(), Refusal> {
        let mut fields = Fields::default();
        let heard = match request.request {
            Some(Wanted::Ack(v1::WatchAck { resume_token })) if resume_token.is_empty() => Some(()),
            Some(Wanted::Ack(v1::WatchAck { resume_token })) => {
                fields.keep("ack.resume_token", self.watcher.acknowledge(&resume_token))
            }
            Some(Wanted::Start(_)) => {
                fields.violation("start", "the watch has begun; expected ack");
                None
            }
            None => {
                fields.violation("request", "missing; expected ack");
                None
            }
        };
        fields.finish(heard)
    }

    /// Makes one step, in turn with other watches.
    async fn look(&mut self, permit: Permit<'_, Told>) -> Result<Looked, Refusal> {
        let (enforcers, store) = (self.gate.enforcers(), self.gate.store());
        let turn = enforcers.turn().await;
        let next = self.watcher.next(store.grants(), store.journal(), clock::wall());
        let looked = match next {
            Next::Told(step) => {
                permit.send(Ok(self.message(step)));
                Looked::Told
            }
            Next::Quiet => Looked::Quiet,
            Next::UpToDate => Looked::UpToDate,
            Next::StartedAnew => {
                count_snapshot("fell_behind");
                Looked::Quiet
            }
            Next::Outrun => return Err(Refusal::Outrun),
        };
        drop(turn);
        Ok(looked)
    }

    fn sign_of_life(&self) -> Step {
        let kind = match self.watcher.token() {
            Some(_) => StepKind::Heartbeat,
            None => StepKind::Snapshot,
        };
        Step { kind, ..Step::default() }
    }

    fn message(&self, Step { kind, upserts, removals }: Step) -> v1::GrantServiceWatchResponse {
        let guards = self.watcher.guards();
        v1::GrantServiceWatchResponse {
            revision: self.watcher.reached().0,
            resume_token: self.watcher.token().map(Vec::from).unwrap_or_default(),
            upserts: upserts.iter().map(|held| grant::part(held, guards.part_of(held))).collect(),
            removals: removals.into_iter().map(removal).collect(),
            step: match kind {
                StepKind::Snapshot => v1::WatchStep::Snapshot,
                StepKind::SnapshotEnd => v1::WatchStep::SnapshotEnd,
                StepKind::Delta => v1::WatchStep::Delta,
                StepKind::Heartbeat => v1::WatchStep::Heartbeat,
            }
            .into(),
        }
    }
}

fn removal(Removal { id, generation }: Removal) -> v1::GrantRemoval {
    v1::GrantRemoval { grant_id: id.to_string(), generation }
}
