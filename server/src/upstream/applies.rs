//! The applies that have been asked for: who waits for which, what is sent next, and what becomes of an answer.
//!
//! At most one call carries a grant at a time, so an older generation never overtakes a newer one.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use podgate_engine::grant::{Grant, GrantId};
use rustc_hash::FxHashMap;
use tokio::{sync::oneshot, time::Instant};

use crate::upstream::{UpstreamError, message};

/// Most callers that wait for one grant; more are told to come again.
const WAITERS_MAX: usize = 64;

type Answer = Result<(), UpstreamError>;

/// What has been asked for and is not settled. Bounded by `queue_max`, and one batch beyond it for the replay.
#[derive(Debug)]
pub(crate) struct Applies {
    entries: FxHashMap<GrantId, Entry>,
    /// What can be sent now, in order.
    ready: VecDeque<GrantId>,
    /// What is to be sent again, by when.
    later: BTreeSet<(Instant, GrantId)>,
    queue_max: usize,
    batch_max: usize,
}

#[derive(Debug)]
struct Entry {
    /// Those who wait for this generation.
    waiters: Vec<(u64, oneshot::Sender<Answer>)>,
    in_flight: bool,
    attempts: u32,
    /// Longest batch that it may be part of: halved when its batch failed and one of the batch may be to blame.
    batch_max: usize,
}

/// What becomes of a grant after a call.
#[derive(Clone, Debug)]
pub(crate) enum Settled {
    /// It is in force.
    InForce,
    /// It is sent again at this instant.
    Again { at: Instant },
    /// The same, in a batch of at most so many; which counts as no attempt, since it was not to blame alone.
    Halved { at: Instant, batch_max: usize },
    /// It is not sent again unless somebody asks.
    GivenUp(UpstreamError),
}

impl Applies {
    pub(crate) fn new(queue_max: usize, batch_max: usize) -> Self {
        let (entries, ready, later) = (FxHashMap::default(), VecDeque::new(), BTreeSet::new());
        Self { entries, ready, later, queue_max, batch_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.queue_max
    }

    pub(crate) fn is_known(&self, id: GrantId) -> bool {
        self.entries.contains_key(&id)
    }

    /// Whether a call that carries this grant has not ended.
    pub(crate) fn is_in_flight(&self, id: GrantId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.in_flight)
    }

    /// Asks for a generation of a grant; one that is asked for already is waited for together.
    pub(crate) fn ask(
        &mut self,
        id: GrantId,
        generation: u64,
    ) -> Result<oneshot::Receiver<Answer>, UpstreamError> {
        let is_full = self.is_full();
        let batch_max = self.batch_max;
        let entry = match self.entries.entry(id) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if is_full => return Err(UpstreamError::Busy),
            std::collections::hash_map::Entry::Vacant(vacant) => {
                self.ready.push_back(id);
                vacant.insert(Entry { waiters: Vec::new(), in_flight: false, attempts: 0, batch_max })
            }
        };
        if entry.waiters.len() >= WAITERS_MAX {
            entry.waiters.retain(|(_, waiter)| !waiter.is_closed());
            if entry.waiters.len() >= WAITERS_MAX {
                return Err(UpstreamError::Busy);
            }
        }
        let (reply, acknowledged) = oneshot::channel();
        entry.waiters.push((generation, reply));
        Ok(acknowledged)
    }

    /// The next batch, each grant as `find` has it now; none where nothing is to be sent. Those that `find` does not
    /// have any more have ended, and are dropped.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        find: impl Fn(GrantId) -> Option<Arc<Grant>>,
    ) -> Vec<Arc<Grant>> {
        while let Some((at, id)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.later.remove(&(at, id));
            self.ready.push_back(id);
        }
        let (mut batch, mut bytes, mut most) = (Vec::new(), 0, self.batch_max);
        while let Some(id) = self.ready.pop_front() {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(grant) = find(id) else {
                self.drop_ended(id);
                continue;
            };
            bytes += message::bytes_max(&grant);
            most = most.min(entry.batch_max);
            if batch.len() >= most || (bytes > message::BATCH_BYTES_MAX && !batch.is_empty()) {
                self.ready.push_front(id);
                break;
            }
            entry.in_flight = true;
            batch.push(grant);
        }
        batch
    }

    /// Takes grants into flight that nobody asked for.
    pub(crate) fn take_unasked(&mut self, grants: &[Arc<Grant>]) {
        for grant in grants {
            let batch_max = self.batch_max;
            self.entries
                .insert(grant.id, Entry { waiters: Vec::new(), in_flight: true, attempts: 0, batch_max });
        }
    }

    /// How often this grant has failed by itself.
    pub(crate) fn attempts(&self, id: GrantId) -> u32 {
        self.entries.get(&id).map_or(0, |entry| entry.attempts)
    }

    /// A call that carried this generation of a grant has ended.
    pub(crate) fn settle(&mut self, id: GrantId, generation: u64, settled: Settled) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.in_flight = false;
        match settled {
            Settled::InForce => {
                let newer = answer_up_to(&mut entry.waiters, generation, &Ok(()));
                if newer {
                    entry.attempts = 0;
                    self.ready.push_back(id);
                } else {
                    self.entries.remove(&id);
                }
            }
            Settled::Again { at } => {
                entry.attempts += 1;
                self.later.insert((at, id));
            }
            Settled::Halved { at, batch_max } => {
                entry.batch_max = batch_max.max(1);
                self.later.insert((at, id));
            }
            Settled::GivenUp(why) => {
                answer_up_to(&mut entry.waiters, u64::MAX, &Err(why));
                self.entries.remove(&id);
            }
        }
    }

    /// When the next grant is to be sent again.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    fn drop_ended(&mut self, id: GrantId) {
        if let Some(mut entry) = self.entries.remove(&id) {
            answer_up_to(&mut entry.waiters, u64::MAX, &Err(UpstreamError::Ended));
        }
    }
}

/// Answers those who wait for a generation up to this one; tells whether somebody still waits for a newer one.
fn answer_up_to(waiters: &mut Vec<(u64, oneshot::Sender<Answer>)>, generation: u64, answer: &Answer) -> bool {
    for (_, waiter) in waiters.extract_if(.., |(wanted, _)| *wanted <= generation) {
        // Who waited may have left.
        drop(waiter.send(answer.clone()));
    }
    !waiters.is_empty()
}
