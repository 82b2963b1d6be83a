//! Living grants are decided again when policy changes: what it no longer allows is narrowed or taken back, a bounded number
//! at a time.

use std::{sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Allowed, Grant, GrantId},
    lease::{Left, Narrowing, left_of},
    policy::PolicySet,
    time::Moment,
};

use crate::{
    clock,
    gate::{Gate, Refusal},
    store::{Redecided, StoreError},
};

/// How often a step is made.
pub const STEP_EVERY: Duration = Duration::from_millis(100);
/// Grants that one step decides again: 5,000 a second.
const DECIDED_MAX: usize = 500;
/// Grants that one step looks at, for those that another policy made. The index is locked meanwhile.
const LOOKED_AT_MAX: usize = 20_000;
/// How long after the first pass the second one begins. What was decided before the change is recorded by then, or never:
/// longer than any call may take.
const SECOND_PASS_AFTER_NS: i64 = 15_000_000_000;

/// Where deciding again stands. Each policy has two passes over all grants, from the newest to the oldest.
#[derive(Debug)]
pub struct Redecisions {
    /// Revision of the policy that the passes are for.
    policy: Option<u64>,
    passes_left: u32,
    /// The pass goes on before this grant; none: it begins with the newest.
    before: Option<GrantId>,
    next_at: Moment,
}

/// A step that has been decided, and is to be put in force.
struct Step {
    redecided: Vec<Redecided>,
    rest: Option<GrantId>,
}

impl Default for Redecisions {
    fn default() -> Self {
        Self { policy: None, passes_left: 0, before: None, next_at: Moment::from_nanos(i64::MIN) }
    }
}

impl Redecisions {
    /// Makes a step, if there is something to decide; tells how many grants it changed.
    pub async fn step(&mut self, gate: &Gate) -> Result<u32, Refusal> {
        let now = clock::now();
        let Some(Step { redecided, rest }) = self.decide(gate, now)? else { return Ok(0) };
        let changed = if redecided.is_empty() {
            0
        } else {
            gate.store.redecide(redecided)?.await.map_err(|_| StoreError::Closed)??
        };
        metrics::counter!("podgate_redecided_total").increment(u64::from(changed));
        // Only now: a step that was not written is made again.
        self.before = rest;
        if rest.is_none() {
            self.passes_left -= 1;
            self.next_at = now.offset(SECOND_PASS_AFTER_NS);
        }
        Ok(changed)
    }

    fn decide(&mut self, gate: &Gate, now: Moment) -> Result<Option<Step>, Refusal> {
        let in_force = gate.policies.in_force()?;
        let policy = in_force.as_ref().ok_or(Refusal::NoPolicy)?.policy();
        if self.policy != Some(policy.revision()) {
            *self = Self { policy: Some(policy.revision()), passes_left: 2, before: None, next_at: now };
        }
        if self.passes_left == 0 || now < self.next_at {
            return Ok(None);
        }
        let is_of_another = |grant: &Grant| {
            policy.find(&grant.app).is_some_and(|app| policy.app_revision(app) != grant.revision)
        };
        let bounds = (DECIDED_MAX, LOOKED_AT_MAX);
        let (grants, rest) = gate.store.grants().newest(self.before, bounds, clock::wall(), is_of_another);
        let redecided = grants.iter().filter_map(|grant| redecided(grant, policy)).collect();
        Ok(Some(Step { redecided, rest }))
    }
}

fn redecided(grant: &Grant, policy: &PolicySet) -> Option<Redecided> {
    match left_of(grant, policy) {
        Left::All => None,
        Left::Some(allowed) => {
            narrowing(grant, policy, allowed).map(|less| Redecided::Narrowed(grant.id, less))
        }
        Left::Nothing => Some(Redecided::Ended(grant.id, grant.generation)),
    }
}

/// What a policy that knows the app leaves of its grant.
pub(crate) fn narrowing(grant: &Grant, policy: &PolicySet, allowed: Arc<[Allowed]>) -> Option<Narrowing> {
    let revision = policy.app_revision(policy.find(&grant.app)?);
    Some(Narrowing { generation: grant.generation, allowed, revision })
}
