//! How one watcher is brought to where the living grants are, and kept there: a snapshot in parts, then changes in order.
//!
//! While the grants are named by id, changes of those that have been named go along. So whatever has been told is as of
//! one revision at every step, the snapshot ends at the revision that it shows, and nobody is ever told of a grant as it
//! was before.

use std::sync::Arc;

use podgate_engine::{
    digest::digest_of,
    grant::{Grant, GrantId},
    guard::Guards,
    time::WallTime,
};
use rustc_hash::FxHashMap;

use crate::store::{Change, GrantIndex, Journal, Revision, journal::Reading};

/// Most grants of one step. A step is made on a worker that serves pods too, and has to be quick.
const GRANTS_MAX: usize = 256;
/// Most destinations of one step, unless a single grant has more: messages stay well below the 4 MiB that clients take.
const DESTINATIONS_MAX: usize = 2_048;
/// Version of the tokens.
const TOKEN_VERSION: u8 = 1;
/// Length of a token, in bytes.
pub const TOKEN_BYTES: usize = 25;

/// One watcher.
#[derive(Debug)]
pub struct Watcher {
    guards: Guards,
    /// Tells its tokens from those of other guards, and of other runs of the gateway.
    scope: Scope,
    /// Most grants of one step.
    grants_max: usize,
    position: Position,
    /// The latest revision that has been put in force where the watcher is.
    acknowledged: Revision,
    /// The revision with which all that it has been told is in force there; none: the snapshot is not complete.
    owed: Option<Revision>,
}

/// How far a watcher has come.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// Grants up to `named` have been told as of `revision`.
    Snapshot { named: Option<GrantId>, revision: Revision },
    /// All have.
    Following(Revision),
}

/// What comes next for a watcher.
#[derive(Debug)]
pub enum Next {
    /// This is to be told.
    Told(Step),
    /// What was looked at does not concern it; there may be more.
    Quiet,
    /// There is nothing more for now.
    UpToDate,
    /// Changes that it should have been told of are no longer kept; it is told everything anew.
    StartedAnew,
    /// The same before its snapshot was complete: it has to come again, so that it knows where the next one begins.
    Outrun,
}

/// Something to be told to a watcher.
#[derive(Debug, Default)]
pub struct Step {
    /// What kind.
    pub kind: StepKind,
    /// Grants that are new to it or have changed.
    pub upserts: Vec<Arc<Grant>>,
    /// Grants that are no longer its concern.
    pub removals: Vec<Removal>,
}

/// The kinds of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepKind {
    /// A part of a snapshot.
    #[default]
    Snapshot,
    /// The last part of a snapshot.
    SnapshotEnd,
    /// Changes.
    Delta,
    /// A sign of life.
    Heartbeat,
}

/// A grant that has ended, or no longer concerns the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The grant.
    pub id: GrantId,
    /// The generation that ended it.
    pub generation: u64,
}

/// An acknowledgement of what was never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token that this watch has sent")]
pub struct NeverSent;

/// Which run's journal a token is of, and which guards'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scope {
    epoch: u64,
    guards: u64,
}

impl Watcher {
    /// A watcher that goes on where `token` was given, or begins with a snapshot where that cannot be.
    pub fn new(guards: Guards, token: &[u8], journal: &Journal) -> Self {
        let scope = Scope { epoch: journal.epoch(), guards: digest_of(&guards) };
        let resumed = read_token(token, scope).filter(|reached| *reached <= journal.head());
        let position = match resumed {
            Some(reached) => Position::Following(reached),
            None => Position::Snapshot { named: None, revision: journal.head() },
        };
        let acknowledged = resumed.unwrap_or_default();
        Self { guards, scope, grants_max: GRANTS_MAX, position, acknowledged, owed: resumed }
    }

    /// What it watches for.
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// The revision of what it has been told.
    pub fn reached(&self) -> Revision {
        match self.position {
            Position::Snapshot { revision, .. } | Position::Following(revision) => revision,
        }
    }

    /// Where to go on after a break; none in the midst of a snapshot, which is not gone on with.
    pub fn token(&self) -> Option<[u8; TOKEN_BYTES]> {
        match self.position {
            Position::Snapshot { .. } => None,
            Position::Following(reached) => Some(write_token(self.scope, reached)),
        }
    }

    /// Notes that it has put in force what came with a token.
    pub fn acknowledge(&mut self, token: &[u8]) -> Result<(), NeverSent> {
        let reached = read_token(token, self.scope).filter(|reached| *reached <= self.reached());
        self.acknowledged = self.acknowledged.max(reached.ok_or(NeverSent)?);
        Ok(())
    }

    /// The revision that is in force where the watcher is. Changes that do not concern it need no acknowledgement.
    pub fn in_force(&self) -> Revision {
        match self.owed {
            Some(owed) if owed <= self.acknowledged => self.reached(),
            Some(_) | None => self.acknowledged,
        }
    }

    /// Looks at some more of what it has not been told.
    pub fn next(&mut self, grants: &GrantIndex, journal: &Journal, now: WallTime) -> Next {
        let Position::Snapshot { named, revision } = self.position else {
            return self.follow(journal);
        };
        let most = self.grants_max;
        match journal.read(revision, most, || grants.page(named, most, now, |_| true)) {
            Reading::Lost => Next::Outrun,
            Reading::Changes(changes) => {
                let (step, revision) = self.sift(changes, revision, |id| Some(id) <= named);
                self.position = Position::Snapshot { named, revision };
                told_if_any(step, StepKind::Snapshot)
            }
            Reading::AtHead((page, more)) => self.name(page, more, revision),
        }
    }

    fn follow(&mut self, journal: &Journal) -> Next {
        let reached = self.reached();
        match journal.read(reached, self.grants_max, || ()) {
            Reading::AtHead(()) => Next::UpToDate,
            Reading::Lost => {
                self.position = Position::Snapshot { named: None, revision: journal.head() };
                self.owed = None;
                Next::StartedAnew
            }
            Reading::Changes(changes) => {
                let (step, reached) = self.sift(changes, reached, |_| true);
                self.position = Position::Following(reached);
                let next = told_if_any(step, StepKind::Delta);
                if matches!(next, Next::Told(_)) {
                    self.owed = Some(reached);
                }
                next
            }
        }
    }

    /// Names the grants of a page, as far as one step can; `more` tells whether there are any behind it.
    fn name(&mut self, page: Vec<Arc<Grant>>, more: Option<GrantId>, revision: Revision) -> Next {
        let mut upserts = Vec::with_capacity(page.len());
        let (mut destinations, mut named) = (0, None);
        let last = page.last().map(|grant| grant.id);
        for grant in page {
            let concerned = self.guards.part_of(&grant).count();
            if named.is_some() && destinations + concerned > DESTINATIONS_MAX {
                break;
            }
            destinations += concerned;
            named = Some(grant.id);
            if concerned > 0 {
                upserts.push(grant);
            }
        }
        let step = Step { upserts, ..Step::default() };
        if named == last {
            match more {
                // The page may have looked at more than it names: at grants that are over.
                Some(_) => named = more,
                None => {
                    self.position = Position::Following(revision);
                    self.owed = Some(revision);
                    return Next::Told(Step { kind: StepKind::SnapshotEnd, ..step });
                }
            }
        }
        self.position = Position::Snapshot { named, revision };
        told_if_any(step, StepKind::Snapshot)
    }

    /// What changes behind `reached` mean for the watcher, one thing for each grant that `is_told`, as far as one step
    /// can; and the revision of the last of them.
    fn sift(
        &self,
        changes: Vec<Change>,
        reached: Revision,
        is_told: impl Fn(GrantId) -> bool,
    ) -> (Step, Revision) {
        let (mut destinations, mut sifted) = (0, 0);
        let mut net: FxHashMap<GrantId, Change> = FxHashMap::default();
        for change in changes {
            let Some(either) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            let weight = change.after.as_ref().map_or(0, |grant| grant.allowed.len());
            if sifted > 0 && destinations + weight > DESTINATIONS_MAX {
                break;
            }
            sifted += 1;
            if is_told(either.id) {
                destinations += weight;
                match net.get_mut(&either.id) {
                    Some(earlier) => earlier.after = change.after,
                    None => drop(net.insert(either.id, change)),
                }
            }
        }
        let mut step = Step::default();
        for (id, Change { before, after }) in net {
            match (before.filter(|before| self.guards.concern(before)), after) {
                (_, Some(after)) if self.guards.concern(&after) => step.upserts.push(after),
                (Some(_), Some(after)) => step.removals.push(Removal { id, generation: after.generation }),
                (Some(before), None) => step.removals.push(Removal { id, generation: before.generation }),
                (None, _) => {}
            }
        }
        (step, Revision(reached.0 + sifted))
    }
}

fn told_if_any(step: Step, kind: StepKind) -> Next {
    if step.upserts.is_empty() && step.removals.is_empty() {
        return Next::Quiet;
    }
    Next::Told(Step { kind, ..step })
}

fn write_token(Scope { epoch, guards }: Scope, Revision(reached): Revision) -> [u8; TOKEN_BYTES] {
    let mut token = [TOKEN_VERSION; TOKEN_BYTES];
    for (at, number) in [epoch, guards, reached].into_iter().enumerate() {
        token[1 + 8 * at..][..8].copy_from_slice(&number.to_be_bytes());
    }
    token
}

/// The revision of a token, if it is one of this scope.
fn read_token(token: &[u8], scope: Scope) -> Option<Revision> {
    let (version, numbers) = token.split_first()?;
    let (&[epoch, guards, reached], []) = numbers.as_chunks::<8>() else { return None };
    let of = Scope { epoch: u64::from_be_bytes(epoch), guards: u64::from_be_bytes(guards) };
    (*version == TOKEN_VERSION && of == scope).then(|| Revision(u64::from_be_bytes(reached)))
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
