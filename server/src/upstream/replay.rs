//! Applies living grants that nobody asks for now: all of them at the start, and later on what was left behind.

use std::{sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Grant, GrantId},
    time::WallTime,
};
use tokio::time::Instant;

use crate::{store::GrantIndex, upstream::message};

/// Grants a second that are applied without being asked for: a service that has just come back is not buried.
const RATE: u32 = 2_000;
/// Grants that one step looks at: the index is locked meanwhile.
const LOOKED_AT_MAX: usize = 4_096;
/// How long after a pass the next one begins: a caller may have left before its grant was handed in.
const EVERY: Duration = Duration::from_secs(60);
/// The same where something is known to have been left behind.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where the replay stands: each pass goes from the newest grant to the oldest.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The pass goes on before this grant; none: it begins with the newest.
    before: Option<GrantId>,
    next_at: Instant,
    /// Whether something was left behind that the pass may have gone by.
    left_behind: bool,
}

impl Replay {
    /// Begins with the newest grant.
    pub(crate) fn new(now: Instant) -> Self {
        Self { before: None, next_at: now, left_behind: false }
    }

    /// A grant was not applied, and nobody may ask for it again.
    pub(crate) fn leave_behind(&mut self, now: Instant) {
        match self.before {
            None => self.next_at = self.next_at.min(now + AGAIN_AFTER),
            Some(_) => self.left_behind = true,
        }
    }

    /// When it goes on.
    pub(crate) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// The next grants that `wanted` wants, if it is time; at most `size`. It may take several steps to come by some.
    pub(crate) fn take(
        &mut self,
        grants: &GrantIndex,
        size: usize,
        (now, wall): (Instant, WallTime),
        wanted: impl Fn(&Grant) -> bool,
    ) -> Vec<Arc<Grant>> {
        if now < self.next_at {
            return Vec::new();
        }
        let (mut batch, mut rest) = grants.newest(self.before, (size, LOOKED_AT_MAX), wall, wanted);
        let fits = fitting(&batch);
        if fits < batch.len() {
            batch.truncate(fits);
            rest = batch.last().map(|grant| grant.id);
        }
        self.before = rest;
        self.next_at = match rest {
            // Looking costs as well: a step that found nothing counts as one grant for 64 looked at.
            Some(_) => {
                let counted = (batch.len() as u32).max(LOOKED_AT_MAX as u32 / 64);
                now + Duration::from_secs(1) * counted / RATE
            }
            None if std::mem::take(&mut self.left_behind) => now + AGAIN_AFTER,
            None => now + EVERY,
        };
        batch
    }
}

/// How many grants from the first fit into one message; at least one of any.
fn fitting(batch: &[Arc<Grant>]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|grant| {
        bytes += message::bytes_max(grant);
        bytes <= message::BATCH_BYTES_MAX
    });
    fits.count().max(1)
}
