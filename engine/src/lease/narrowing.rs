//! Living grants under another policy: what is left of them.

use std::sync::Arc;

use crate::{
    decision::Ruling,
    grant::{Allowed, Basis, Grant, allowed_by},
    policy::{PolicySet, Standing},
};

/// What a policy leaves of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// All of it, or more; or the policy does not know the app any more, and the grant ends with its lease.
    All,
    /// So much.
    Some(Arc<[Allowed]>),
    /// Nothing.
    Nothing,
}

/// Decides again about what a grant allows, as its holder stands now.
///
/// A profile that is gone is none that narrows: whoever removes one takes its grants back by name, and a directory that
/// was emptied by mistake does not cut off everybody.
pub fn left_of(grant: &Grant, policy: &PolicySet) -> Left {
    let standing = policy.standing(&grant.app, &grant.subject);
    match standing {
        Standing::NoProfile => Left::All,
        Standing::NotListed(_) => Left::Nothing,
        Standing::Listed(_) => {
            let still = still_allowed(grant, standing, policy);
            match still.len() {
                0 => Left::Nothing,
                count if count == grant.allowed.len() => Left::All,
                _ => Left::Some(still.into()),
            }
        }
    }
}

/// What a policy still allows of a grant, to a holder in this standing.
pub fn still_allowed(grant: &Grant, standing: Standing, policy: &PolicySet) -> Vec<Allowed> {
    if grant.allowed.is_empty() {
        return Vec::new();
    }
    let wanted = grant.allowed.iter().map(|allowed| allowed.destination.clone()).collect();
    let decision = policy.decide(standing, &grant.subject.cluster, wanted);
    let is_shadow = decision.ruling == Ruling::Shadowed;
    let allowed = allowed_by(&decision);
    allowed.iter().filter(|allowed| is_shadow || allowed.basis != Basis::Shadow).cloned().collect()
}
