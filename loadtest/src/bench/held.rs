//! Grants that a gateway holds before it is measured, written by its own store.

use std::{collections::VecDeque, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use podgate::{
    clock,
    store::{Pending, Store, StoreError},
};
use podgate_engine::{
    destination::Destination,
    fault::Unreadable,
    grant::{Allowed, Basis, Grant},
    index::RuleRef,
    lease::{Fallback, Lifetimes, NewGrant, Tenure},
    port::{PortRange, Protocol},
    subject::{PodIdentity, Subject, SubjectKind},
};

use serde::Serialize;

use crate::{
    bench::documents::{ALLOWED, NAMESPACE},
    figures::rounded,
};

/// Cluster of the pods that hold them.
pub(crate) const CLUSTER: &str = "bench-held";
/// Their app. No profile has its name any more: what it was granted lasts, counts for no other app, and is not decided again.
const APP: &str = "bench-held";
/// Grants that a gateway holds, and what they take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Held {
    /// How many.
    pub grants: u32,
    /// What the gateway has in RAM beyond one that holds none, by grant.
    pub grant_bytes: f64,
}

impl Held {
    /// Compares a gateway without grants with one that holds so many.
    pub(crate) fn new(grants: u32, without_bytes: u64, with_bytes: u64) -> Self {
        let bytes = with_bytes.saturating_sub(without_bytes);
        Self { grants, grant_bytes: rounded(bytes as f64 / f64::from(grants.max(1))) }
    }
}

/// Why the grants could not be made.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A destination of the benchmark's own profile cannot be read.
    #[error(transparent)]
    Destination(#[from] Unreadable),
}

/// How long they live.
const DAY: Duration = Duration::from_hours(24);
/// Grants on their way to the store.
const PENDING_MAX: usize = 2_048;

/// The address of the holder of grant `number`.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    let [_, x, y, z] = number.to_be_bytes();
    Ipv4Addr::new(10, x, y, z)
}

/// Makes a store of so many grants.
pub(crate) async fn fill(directory: &Path, count: u32) -> Result<(), HeldError> {
    let (store, _) = Store::open(directory, count as usize)?;
    let allowed = allowed()?;
    let mut pending: VecDeque<Pending<Arc<Grant>>> = VecDeque::with_capacity(PENDING_MAX);
    for number in 0..count {
        if pending.len() == PENDING_MAX
            && let Some(oldest) = pending.pop_front()
        {
            oldest.await.map_err(|_| StoreError::Closed)??;
        }
        pending.push_back(store.grant(new_grant(number, &allowed))?);
    }
    for grant in pending {
        grant.await.map_err(|_| StoreError::Closed)??;
    }
    store.close();
    Ok(())
}

fn allowed() -> Result<Arc<[Allowed]>, Unreadable> {
    let rules = ["order-db", "cache", "events"];
    let pairs = ALLOWED.into_iter().zip(rules);
    pairs
        .map(|((host, port), rule)| {
            let ports = PortRange::new(port, port)?;
            let destination = Destination { host: host.parse()?, ports, protocol: Protocol::Tcp };
            let rule = RuleRef { document: APP.into(), rule: rule.into() };
            Ok(Allowed { destination, basis: Basis::Profile(rule) })
        })
        .collect()
}

fn new_grant(number: u32, allowed: &Arc<[Allowed]>) -> NewGrant {
    NewGrant {
        app: APP.into(),
        subject: Arc::new(Subject {
            cluster: CLUSTER.into(),
            address: address(number).into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: NAMESPACE.into(),
                name: format!("{APP}-7d9c5b6f4-{number:05x}").into(),
                uid: format!("{number:08x}-5f0e-4d3c-9a51-0b7c1d2e3f40").into(),
                service_account: APP.into(),
                node: format!("node-{}", number % 5_000).into(),
            }),
        }),
        allowed: Arc::clone(allowed),
        request: 1,
        admitted_at: clock::now(),
        tenure: Tenure::Fixed,
        lifetimes: Lifetimes { ttl: DAY, max_age: DAY },
        revision: 1,
        shadow: false,
        fallback: Fallback::Deny,
        seen: u64::MAX,
        app_max: u32::MAX,
    }
}
