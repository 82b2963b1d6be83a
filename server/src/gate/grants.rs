//! Check, Release, List and Revoke: grants as they stand.

use std::{net::IpAddr, sync::Arc, time::Duration};

use podgate_engine::{
    destination::Destination,
    grant::{Basis, Grant, GrantId},
    index::RuleRef,
    lease::{Left, Renewal, left_of},
};

use crate::{
    authn::{Caller, Role},
    clock,
    gate::{Gate, Refusal, redecision::narrowing, require_operator},
    store::{Claim, ENDED_MAX, Ending, Extension, StoreError, Target, index::PlaceRef},
};

/// Expired grants that one sweep ends.
const EXPIRED_MAX: usize = 10_000;

/// Whether an address may reach a destination now.
#[derive(Clone, Debug)]
pub enum Checked {
    /// A grant allows it.
    Allowed(Arc<Grant>, Option<RuleRef>),
    /// It is a common port.
    Common(RuleRef),
    /// No living grant allows it.
    NoGrant,
}

impl Gate {
    /// Whether an address may reach a destination now; answered from memory.
    pub fn check(
        &self,
        caller: &Caller,
        cluster: &str,
        address: IpAddr,
        destination: &Destination,
    ) -> Result<Checked, Refusal> {
        self.check_among(caller, cluster, address, destination, |_| true)
    }

    /// The same where only some of the address's grants count.
    pub(crate) fn check_among(
        &self,
        caller: &Caller,
        cluster: &str,
        address: IpAddr,
        destination: &Destination,
        counts: impl Fn(&Grant) -> bool,
    ) -> Result<Checked, Refusal> {
        require_operator(caller)?;
        let now = clock::wall();
        let grants = self.store.grants().at(PlaceRef { cluster, address });
        let living = grants.iter().flat_map(|grants| grants.iter()).filter(|grant| grant.lives(now));
        for grant in living.filter(|grant| counts(grant)) {
            if let Some(allowed) = grant.covering(destination) {
                let rule = match &allowed.basis {
                    Basis::Profile(rule) | Basis::Common(rule) => Some(rule.clone()),
                    Basis::Shadow => None,
                };
                return Ok(Checked::Allowed(Arc::clone(grant), rule));
            }
        }
        let in_force = self.policies.in_force()?;
        let in_force = in_force.as_ref().ok_or(Refusal::NoPolicy)?;
        match in_force.policy().common_rule(destination, cluster, None) {
            Some(rule) => Ok(Checked::Common(rule)),
            None => Ok(Checked::NoGrant),
        }
    }

    /// Gives a grant back; tells whether this call ended it.
    ///
    /// A pod gives back only what lies on the address that it calls from.
    pub async fn release(
        &self,
        caller: &Caller,
        id: GrantId,
        uid: String,
        generation: u64,
    ) -> Result<u32, Refusal> {
        self.end(Ending::Release(claim(caller, id, uid, generation))).await
    }

    /// Extends a lease; returns it as it stands now. A grant that was not renewed so far is from now on.
    ///
    /// It is decided again: what the policy no longer allows is not extended. A pod renews only what lies on the address
    /// that it calls from.
    pub async fn renew(
        &self,
        caller: &Caller,
        id: GrantId,
        uid: String,
        generation: u64,
    ) -> Result<Arc<Grant>, Refusal> {
        let claim = claim(caller, id, uid, generation);
        let held = self.store.grants().get(id).filter(|held| claim.is_of(held)).ok_or(StoreError::NoGrant)?;
        self.extend(claim, &held).await
    }

    /// Extends a lease whose holder has been found.
    pub(crate) async fn extend(&self, claim: Claim, held: &Grant) -> Result<Arc<Grant>, Refusal> {
        let outcome =
            |outcome| metrics::counter!("podgate_renewals_total", "outcome" => outcome).increment(1);
        let Some(renewal) = self.renewal(held)? else {
            outcome("ended");
            let generation = held.generation;
            self.end(Ending::Release(Claim { generation, ..claim })).await?;
            return Err(Refusal::NoLongerAllowed);
        };
        let is_narrowed = renewal.narrowed.is_some();
        let pending = self.store.renew(Extension { claim, renewal })?;
        let grant = pending.await.map_err(|_| StoreError::Closed)??;
        outcome(if is_narrowed { "narrowed" } else { "renewed" });
        if let Some(upstream) = &self.upstream {
            // It has the grant in force already, and hears of the new end when it can.
            drop(upstream.intake().apply(&grant, Duration::ZERO).await);
        }
        Ok(grant)
    }

    /// How a lease is extended under the policy in force; nothing where that leaves nothing of it.
    fn renewal(&self, held: &Grant) -> Result<Option<Renewal>, Refusal> {
        let in_force = self.policies.in_force()?;
        let in_force = in_force.as_ref().ok_or(Refusal::NoPolicy)?;
        let policy = in_force.policy();
        let app = policy.find(&held.app).ok_or(Refusal::NoLongerAllowed)?;
        let left = if policy.app_revision(app) == held.revision { Left::All } else { left_of(held, policy) };
        let narrowed = match left {
            Left::All => None,
            Left::Some(allowed) => narrowing(held, policy, allowed),
            Left::Nothing => return Ok(None),
        };
        let (lifetimes, fallback) = (in_force.lifetimes(app), in_force.fallback(app));
        Ok(Some(Renewal { lifetimes, fallback, narrowed }))
    }

    /// Takes grants back; tells how many living ones it ended.
    pub async fn revoke(&self, caller: &Caller, target: Target, reason: &str) -> Result<u32, Refusal> {
        require_operator(caller)?;
        let mut revoked = 0;
        loop {
            let more = self.end(Ending::Revoke(target.clone())).await?;
            revoked += more;
            if more < ENDED_MAX {
                break;
            }
        }
        tracing::info!(?target, revoked, reason, caller = %caller.address, "grants were revoked");
        Ok(revoked)
    }

    /// Ends what has expired, a bounded number at a time, and forgets who had which address long ago; tells how many grants
    /// it ended.
    pub async fn sweep(&self) -> Result<u32, Refusal> {
        let grants = self.store.grants();
        if !grants.any_expired(clock::wall()) && grants.occupancies() == 0 {
            return Ok(0);
        }
        self.end(Ending::Expire(EXPIRED_MAX)).await
    }

    async fn end(&self, ending: Ending) -> Result<u32, Refusal> {
        Ok(self.store.end(ending)?.await.map_err(|_| StoreError::Closed)??)
    }

    /// A page of living grants, oldest first, and after which one to go on.
    pub fn grants_page(
        &self,
        caller: &Caller,
        after: Option<GrantId>,
        size: usize,
        filter: impl Fn(&Grant) -> bool,
    ) -> Result<(Vec<Arc<Grant>>, Option<GrantId>), Refusal> {
        require_operator(caller)?;
        Ok(self.store.grants().page(after, size, clock::wall(), filter))
    }
}

/// What a caller says of its grant. A pod speaks only of what lies on its own address.
fn claim(caller: &Caller, id: GrantId, uid: String, generation: u64) -> Claim {
    let from = match caller.role {
        Role::Operator => None,
        Role::Pod => Some(caller.address),
    };
    Claim { id, uid, generation, from }
}
