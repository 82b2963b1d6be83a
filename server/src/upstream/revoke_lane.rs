//! The lane of ends: one call at a time, beside all applies, until each end is acknowledged.
//!
//! The breaker does not close it: one call with a growing wait behind each failure buries nobody, and an end is
//! never given up.

use std::{sync::Arc, time::Duration};

use podgate_engine::grant::GrantId;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::{
    store::{Ends, StoreError, Tombstone},
    upstream::{
        Intake,
        backend::{Backend, Fault},
        backoff::Backoff,
        measures::Measures,
    },
};

const BACKOFF: Backoff = Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(10) };

/// Calls in a row that come to nothing until the connection is given up.
const DIAL_ANEW_AFTER: u32 = 5;

/// The lane.
#[derive(Debug)]
pub(crate) struct RevokeLane {
    intake: Arc<Intake>,
    backend: Backend,
    ends: Ends,
    measures: Arc<Measures>,
    batch_max: usize,
    /// Halved when a batch failed and one of it may be to blame.
    batch: usize,
    /// The last one sent: one that fails alone must not keep the others waiting.
    after: Option<GrantId>,
    /// Calls in a row that came to nothing.
    in_vain: u32,
}

impl RevokeLane {
    pub(crate) fn new(
        intake: Arc<Intake>,
        backend: Backend,
        ends: Ends,
        measures: Arc<Measures>,
        batch_max: usize,
    ) -> Self {
        Self { intake, backend, ends, measures, batch_max, batch: batch_max, after: None, in_vain: 0 }
    }

    /// Works for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                self.ends.tombstones.changed().await;
                continue;
            }
            self.after = batch.last().map(|tombstone| tombstone.id);
            let heard = self.tell(&batch).await;
            if heard.is_empty() {
                self.in_vain = self.in_vain.saturating_add(1);
                if self.in_vain.is_multiple_of(DIAL_ANEW_AFTER) {
                    self.backend.dial_anew();
                }
                sleep(BACKOFF.wait(self.in_vain - 1)).await;
                continue;
            }
            self.in_vain = 0;
            self.measures.ended.increment(heard.len() as u64);
            if let Err(failure) = self.forget(heard).await {
                // They are told once more, which changes nothing there.
                debug!(error = %failure, "acknowledged ends stay in the store for now");
                sleep(BACKOFF.longest).await;
            }
        }
    }

    /// The next ends, behind the last ones or from the beginning again. An end waits for a call that may still apply
    /// its grant.
    fn next_batch(&self) -> Vec<Tombstone> {
        let page = |after| {
            let applies = self.intake.applies();
            self.ends.tombstones.page(after, self.batch, |id| !applies.is_in_flight(id))
        };
        let behind = page(self.after);
        if behind.is_empty() && self.after.is_some() { page(None) } else { behind }
    }

    /// Tells of a batch; returns what was heard.
    async fn tell(&mut self, batch: &[Tombstone]) -> Vec<GrantId> {
        for tombstone in batch {
            self.intake.note_ended(tombstone.id);
        }
        match self.backend.clone().revoke(batch).await {
            Ok(answer) => {
                self.batch = (self.batch * 2).min(self.batch_max);
                for (id, fault) in &answer.failures {
                    warn!(grant = %id, reason = fault.reason(), "the upstream did not revoke a grant");
                }
                let ids = batch.iter().map(|tombstone| tombstone.id);
                ids.filter(|id| !answer.failures.contains_key(id)).collect()
            }
            Err(fault) => {
                warn!(
                    reason = fault.reason(),
                    ends = batch.len(),
                    "the upstream did not hear of ended grants"
                );
                if matches!(fault, Fault::Broken(_) | Fault::Refused(_)) {
                    self.batch = batch.len().div_ceil(2);
                }
                Vec::new()
            }
        }
    }

    async fn forget(&self, heard: Vec<GrantId>) -> Result<(), StoreError> {
        self.ends.acknowledge(heard)?.await.map_err(|_| StoreError::Closed)?
    }
}
