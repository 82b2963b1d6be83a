//! The latest changes of living grants, in the order in which they came into force, for whoever follows them.
//!
//! In memory only: each run of the gateway begins a journal of its own, and a revision means nothing in another run.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use podgate_engine::grant::{Grant, GrantId, Place};
use rand::RngExt as _;
use tokio::sync::watch;

use crate::store::{Change, GrantIndex};

/// Changes that are kept where nothing else is set: 52 s of 5,000 a second.
pub const CHANGES_MAX: usize = 262_144;

/// How many changes had come into force; a change's own number is the revision after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What came into force, in order. Written by the store's writer alone.
#[derive(Debug)]
pub struct Journal {
    ring: RwLock<Ring>,
    /// Tells this run's journal from all others.
    epoch: u64,
    head: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Ring {
    /// The latest changes; the last one made the revision `head`.
    changes: VecDeque<Change>,
    changes_max: usize,
    head: Revision,
}

/// What a reader finds behind the revision that it has reached.
#[derive(Debug)]
pub enum Reading<T> {
    /// Changes that follow it, in order.
    Changes(Vec<Change>),
    /// Nothing: this is the latest revision, and what was looked at is as of it.
    AtHead(T),
    /// Some that follow it are no longer kept.
    Lost,
}

impl Default for Journal {
    fn default() -> Self {
        let ring = Ring { changes: VecDeque::new(), changes_max: CHANGES_MAX, head: Revision::default() };
        Self {
            ring: RwLock::new(ring),
            epoch: rand::rng().random(),
            head: watch::Sender::new(Revision::default()),
        }
    }
}

impl Journal {
    /// Tells this run's journal from all others.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The latest revision.
    pub fn head(&self) -> Revision {
        *self.head.borrow()
    }

    /// Follows the latest revision.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.head.subscribe()
    }

    /// How many changes are kept now.
    pub fn len(&self) -> usize {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).changes.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps at most so many changes from now on.
    pub fn keep(&self, changes_max: usize) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        ring.changes_max = changes_max;
        let over = ring.changes.len().saturating_sub(changes_max);
        ring.changes.drain(..over);
    }

    /// Up to `most` changes behind `reached`, or, where there are none, what `look` sees of the index: nothing comes into
    /// force meanwhile, so it has to be quick.
    pub fn read<T>(&self, reached: Revision, most: usize, look: impl FnOnce() -> T) -> Reading<T> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let behind = usize::try_from(ring.head.0.saturating_sub(reached.0)).unwrap_or(usize::MAX);
        match ring.changes.len().checked_sub(behind) {
            None => Reading::Lost,
            Some(_) if behind == 0 => Reading::AtHead(look()),
            Some(first) => Reading::Changes(ring.changes.range(first..).take(most).cloned().collect()),
        }
    }

    /// Puts a committed group in force, and keeps what it changed.
    pub(crate) fn publish(
        &self,
        index: &GrantIndex,
        places: impl IntoIterator<Item = (Place, Vec<Arc<Grant>>)>,
        changes: impl IntoIterator<Item = (GrantId, Option<Arc<Grant>>)>,
    ) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let before = ring.head;
        index.publish(places.into_iter(), changes.into_iter(), |change| ring.append(change));
        let head = ring.head;
        drop(ring);
        if head != before {
            self.head.send_replace(head);
        }
    }
}

impl Ring {
    fn append(&mut self, change: Change) {
        // What one group has made and ended was never in force.
        if change.before.is_some() || change.after.is_some() {
            if self.changes.len() >= self.changes_max {
                self.changes.pop_front();
            }
            self.changes.push_back(change);
            self.head.0 += 1;
        }
    }
}
