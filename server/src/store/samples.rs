//! Grants for tests.

use std::{net::IpAddr, sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Allowed, Basis, Grant, GrantId, Terms},
    lease::{Fallback, Lifetimes, NewGrant, Tenure},
    subject::{PodIdentity, Subject, SubjectKind},
    time::{Moment, WallTime},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A grant that is to be made for a pod of `order`, whose call is heard just now.
pub(crate) fn new_grant(address: impl Into<IpAddr>, uid: &str) -> NewGrant {
    NewGrant {
        app: "order".into(),
        subject: Arc::new(Subject {
            cluster: "".into(),
            address: address.into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: "hotel".into(),
                name: "".into(),
                uid: uid.into(),
                service_account: "order".into(),
                node: "".into(),
            }),
        }),
        allowed: Arc::new([]),
        request: 1,
        admitted_at: Moment::from_nanos(1),
        tenure: Tenure::Fixed,
        lifetimes: Lifetimes { ttl: HOUR, max_age: HOUR },
        revision: 1,
        shadow: false,
        fallback: Fallback::Deny,
        seen: u64::MAX,
        app_max: 1_000_000,
    }
}

/// The grant of a machine, to destinations.
pub(crate) fn grant<'a>(id: GrantId, generation: u64, allowed: impl IntoIterator<Item = &'a str>) -> Grant {
    let allowed = allowed
        .into_iter()
        .map(|destination| Allowed { destination: destination.parse().unwrap(), basis: Basis::Shadow });
    Grant {
        id,
        generation,
        terms: Arc::new(Terms {
            app: "order".into(),
            allowed: allowed.collect(),
            requests: [].into(),
            revision: 1,
            shadow: false,
            fallback: Fallback::Deny,
        }),
        subject: Arc::new(Subject {
            cluster: "".into(),
            address: [10, 8, 0, id.0 as u8].into(),
            kind: SubjectKind::Host("".into()),
        }),
        tenure: Tenure::Fixed,
        admitted_at: Moment::from_nanos(1),
        created_at: WallTime::from_millis(0),
        expires_at: WallTime::from_millis(2),
    }
}
