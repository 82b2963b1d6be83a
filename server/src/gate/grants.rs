//! Check, Release, List and Revoke: grants as they stand.

use std::{net::IpAddr, sync::Arc};

use podgate_engine::{
    destination::Destination,
    grant::{Basis, Grant, GrantId},
    index::RuleRef,
};

use crate::{
    authn::{Caller, Role},
    clock,
    gate::{Gate, Refusal, require_operator},
    store::{ENDED_MAX, Ending, StoreError, Target, index::PlaceRef},
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
        let from = match caller.role {
            Role::Operator => None,
            Role::Pod => Some(caller.address),
        };
        self.end(Ending::Release { id, uid, generation, from }).await
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

    /// Ends what has expired, a bounded number at a time; tells how many.
    pub async fn sweep(&self) -> Result<u32, Refusal> {
        if !self.store.grants().any_expired(clock::wall()) {
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
