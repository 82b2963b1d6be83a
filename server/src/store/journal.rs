//! The latest changes of living grants, in the order in which they came into force, for whoever follows them.
//!
//! In memory only: each run of the gateway begins a journal of its own, and a revision means nothing in another run.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Occupancy, Seat},
};
use rand::RngExt as _;
use tokio::sync::watch;

use crate::store::{Change, GrantIndex};

/// Changes that are kept where nothing else is set: 52 s of 5,000 a second.
pub const CHANGES_MAX: usize = 262_144;

/// Rises by one with each change that comes into force. 0 is before all: nothing is in force as of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// The revision of what was in force when the gateway started.
const FIRST: Revision = Revision(1);

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
        let ring = Ring { changes: VecDeque::new(), changes_max: CHANGES_MAX, head: FIRST };
        Self { ring: RwLock::new(ring), epoch: rand::rng().random(), head: watch::Sender::new(FIRST) }
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
        changes: impl IntoIterator<Item = (GrantId, Option<Arc<Grant>>)>,
        occupancies: impl Iterator<Item = (Seat, Option<Arc<Occupancy>>)>,
    ) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let before = ring.head;
        index.publish(changes.into_iter(), occupancies, |change| ring.append(change));
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

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use podgate_engine::lease::{Lifetimes, NewGrant};

    use super::*;
    use crate::store::{Ending, Store, Target, samples::new_grant};

    const BRIEF: Lifetimes = Lifetimes { ttl: Duration::ZERO, max_age: Duration::ZERO };

    fn grant(store: &Store, new: NewGrant) -> Arc<Grant> {
        store.grant(new).unwrap().blocking_recv().unwrap().unwrap()
    }

    fn behind(store: &Store, reached: u64) -> Vec<Change> {
        match store.journal().read(Revision(reached), 100, || ()) {
            Reading::Changes(changes) => changes,
            Reading::AtHead(()) => Vec::new(),
            Reading::Lost => panic!("lost"),
        }
    }

    #[test]
    fn every_way_to_change_a_grant_is_told_before_it_is_answered() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 10).unwrap();
        let address = IpAddr::from([10, 0, 0, 1]);
        let made = grant(&store, new_grant(address, "old"));
        assert_eq!(behind(&store, 1), [Change { before: None, after: Some(Arc::clone(&made)) }]);
        let grown = grant(&store, NewGrant { request: 2, ..new_grant(address, "old") });
        let change = Change { before: Some(made), after: Some(Arc::clone(&grown)) };
        assert_eq!(behind(&store, 2), [change]);
        // Another pod takes the address over: first the one ends, then the other begins.
        let next = grant(&store, NewGrant { lifetimes: BRIEF, ..new_grant(address, "new") });
        let ended = Change { before: Some(grown), after: None };
        assert_eq!(behind(&store, 3), [ended, Change { before: None, after: Some(Arc::clone(&next)) }]);
        let end = |ending| store.end(ending).unwrap().blocking_recv().unwrap().unwrap();
        assert_eq!(end(Ending::Expire(10)), 1);
        assert_eq!(behind(&store, 5), [Change { before: Some(next), after: None }]);
        let last = grant(&store, new_grant(address, "last"));
        assert_eq!(end(Ending::Revoke(Target::Grant(last.id))), 1);
        assert_eq!(behind(&store, 7), [Change { before: Some(last), after: None }]);
        assert_eq!(end(Ending::Revoke(Target::App("order".to_owned()))), 0);
        assert_eq!((store.journal().head(), store.journal().len()), (Revision(8), 7));
        store.close();
        // Each run has a journal of its own.
        let (store, _) = Store::open(home.path(), 10).unwrap();
        assert_eq!(store.journal().head(), FIRST);
    }

    #[test]
    fn what_is_no_longer_kept_is_lost_and_never_skipped() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 10).unwrap();
        store.journal().keep(3);
        for last in 1..=5 {
            grant(&store, new_grant([10, 0, 0, last], "a"));
        }
        let read = |reached| store.journal().read(Revision(reached), 2, || "head");
        assert!(matches!(read(2), Reading::Lost));
        assert!(matches!(read(3), Reading::Changes(changes) if changes.len() == 2));
        assert!(matches!(read(5), Reading::Changes(changes) if changes.len() == 1));
        assert!(matches!(read(6), Reading::AtHead("head")));
        store.journal().keep(1);
        assert!(matches!(read(4), Reading::Lost));
    }
}
