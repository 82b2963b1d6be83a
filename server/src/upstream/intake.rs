//! The intake at which grants are handed in, by any thread, and answered when they are in force.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use papaya::HashMap;
use podgate_engine::grant::{Grant, GrantId};
use rustc_hash::FxBuildHasher;
use tokio::{sync::Notify, time::timeout};

use crate::{
    config::Upstream as Settings,
    store::Tombstones,
    upstream::{applies::Applies, breaker::Phase},
};

/// Why a grant is not known to be in force at the upstream. It is recorded all the same, and the same request finds it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// The caller's time was up before the upstream had acknowledged it.
    #[error("the grant is recorded, and the upstream has not acknowledged it yet; ask again")]
    Pending,
    /// The upstream fails, and is given a rest; or the attempts to reach it are used up.
    #[error("the upstream cannot be reached; ask again")]
    Unavailable,
    /// As many grants as may wait for the upstream do.
    #[error("too many grants wait for the upstream; ask again")]
    Busy,
    /// The upstream will not have it.
    #[error("the upstream refuses the grant: {0}")]
    Refused(String),
    /// It ended while it waited.
    #[error("the grant ended while it waited for the upstream; ask again")]
    Ended,
}

/// The intake.
#[derive(Debug)]
pub struct Intake {
    applies: Mutex<Applies>,
    /// The highest generation of each living grant that the upstream has in force.
    applied: HashMap<GrantId, u64, FxBuildHasher>,
    breaker: AtomicU8,
    /// Whether a grant was turned away that is durable all the same.
    left_behind: AtomicBool,
    /// Has the lane of applies look at what was handed in.
    handed_in: Notify,
    tombstones: Arc<Tombstones>,
}

impl Intake {
    pub(crate) fn new(settings: &Settings, tombstones: Arc<Tombstones>) -> Self {
        Self {
            applies: Mutex::new(Applies::new(settings.queue, settings.batch)),
            applied: HashMap::with_hasher(FxBuildHasher),
            breaker: AtomicU8::new(Phase::Closed as u8),
            left_behind: AtomicBool::new(false),
            handed_in: Notify::new(),
            tombstones,
        }
    }

    /// Whether the upstream has this generation of the grant in force; answered from memory.
    pub fn is_applied(&self, grant: &Grant) -> bool {
        self.applied.pin().get(&grant.id).is_some_and(|generation| *generation >= grant.generation)
    }

    /// Whether it makes sense to hand in a grant now; asked before anything is spent for one.
    pub fn ready(&self) -> Result<(), UpstreamError> {
        if self.breaker.load(Ordering::Relaxed) != Phase::Closed as u8 {
            return Err(UpstreamError::Unavailable);
        }
        if self.applies().is_full() {
            return Err(UpstreamError::Busy);
        }
        Ok(())
    }

    /// Waits until the upstream has this generation of the grant in force, at most `within`.
    ///
    /// Whoever asks for a grant that is asked for already waits with the others. Who leaves takes nothing with him.
    pub async fn apply(&self, grant: &Grant, within: Duration) -> Result<(), UpstreamError> {
        if self.is_applied(grant) {
            return Ok(());
        }
        let asked = self.ready().and_then(|()| self.applies().ask(grant.id, grant.generation));
        let acknowledged = match asked {
            Ok(acknowledged) => acknowledged,
            Err(refusal) => {
                self.left_behind.store(true, Ordering::Relaxed);
                return Err(refusal);
            }
        };
        self.handed_in.notify_one();
        match timeout(within, acknowledged).await {
            Ok(Ok(answer)) => answer,
            // The lane has ended, with the gateway.
            Ok(Err(_)) => Err(UpstreamError::Unavailable),
            Err(_) => Err(UpstreamError::Pending),
        }
    }

    /// How many applies and ends the upstream has not acknowledged.
    pub fn pending(&self) -> usize {
        self.applies().len() + self.tombstones.len()
    }

    /// The phase of the breaker: 0 closed, 1 half-open, 2 open.
    pub fn breaker_phase(&self) -> u8 {
        self.breaker.load(Ordering::Relaxed)
    }

    pub(crate) fn set_breaker_phase(&self, phase: Phase) {
        self.breaker.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn applies(&self) -> MutexGuard<'_, Applies> {
        self.applies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something has been handed in.
    pub(crate) async fn handed_in(&self) {
        self.handed_in.notified().await;
    }

    /// Whether a grant has been turned away since this was last asked.
    pub(crate) fn take_left_behind(&self) -> bool {
        self.left_behind.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn note_applied(&self, id: GrantId, generation: u64) {
        self.applied.pin().insert(id, generation);
    }

    pub(crate) fn note_ended(&self, id: GrantId) {
        self.applied.pin().remove(&id);
    }

    /// The upstream has lost everything.
    pub(crate) fn forget_applied(&self) {
        self.applied.pin().clear();
    }
}
