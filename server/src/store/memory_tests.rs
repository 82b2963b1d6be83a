//! What a living grant takes in memory, all of it: the grant, its names, its places in the indexes, and what is remembered of
//! its address. Measured as the gateway allocates, with grants that are read as after a restart. The indexes are as full as
//! with a million of them, which took 375 bytes each.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Allowed, Basis, Grant, GrantId, Terms},
    index::RuleRef,
    lease::{Fallback, Former, Move, Occupancy, SharedAddresses, Tenure},
    shared::Shared,
    subject::{PodIdentity, Subject, SubjectKind},
    time::{Moment, WallTime},
};

use super::{index::GrantIndex, record};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GRANTS: u64 = 250_000;
/// Grants that are made and forgotten before, so that what any of them brings along is not counted.
const WARM_UP: u64 = 10_000;
/// Most bytes that a grant may take (issue 4).
const GRANT_BYTES_MAX: u64 = 400;

fn grant(number: u64) -> Grant {
    let app = format!("hotel-{}", number % 1_000);
    let allowed = ["mysql-order.db.svc:3306", "redis-order.cache.svc:6379-6381"].map(|destination| Allowed {
        destination: destination.parse().unwrap(),
        basis: Basis::Profile(RuleRef { document: app.as_str().into(), rule: "db".into() }),
    });
    Grant {
        id: GrantId(number),
        generation: 1,
        terms: Arc::new(Terms {
            app: app.as_str().into(),
            allowed: allowed.into(),
            requests: Box::new([7]),
            revision: 9,
            shadow: false,
            fallback: Fallback::LastGrant(Duration::from_secs(3_600)),
        }),
        subject: Arc::new(Subject {
            cluster: "bj-1".into(),
            address: Ipv4Addr::from(0x0a00_0000 + number as u32).into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: format!("team-{}", number % 200).into(),
                name: format!("{app}-7d9f8c6b5-{number:05x}").into(),
                uid: format!("{number:08x}-4f0e-4d0c-9a51-0b7c5d1f2e3a").into(),
                service_account: app.into(),
                node: format!("node-{}", number % 5_000).into(),
            }),
        }),
        tenure: Tenure::Renewed,
        admitted_at: Moment::from_nanos(1),
        created_at: WallTime::from_millis(1),
        expires_at: WallTime::from_millis(1_000_000 + number / 10),
    }
}

/// Bytes of this process in RAM.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

fn index(count: u64, shared: &mut Shared) -> GrantIndex {
    let read = (1..=count).map(|number| {
        let record = record::to_record(&grant(number));
        let read = record::from_record(GrantId(number), record, shared).unwrap();
        (read.id, Arc::new(read))
    });
    GrantIndex::new(read.collect(), Vec::new())
}

#[test]
fn living_grants_take_no_more_than_they_may() {
    let mut shared = Shared::default();
    drop(index(WARM_UP, &mut shared));
    let before = resident();
    let index = index(GRANTS, &mut shared);
    let each = (resident() - before) / GRANTS;
    let occupancy = |number| Occupancy {
        generation: GRANTS + number,
        holder: number,
        last: Move::Taken { before: number },
        quarantined_until: WallTime::from_millis(0),
        former: Box::new([Former { uid: number, until: WallTime::from_millis(1) }]),
        kept_until: WallTime::from_millis(1),
    };
    let remembered = (1..=GRANTS).map(|number| {
        let held = index.get(GrantId(number)).unwrap();
        let seat = SharedAddresses::default().seat(held.subject.place(), "");
        (seat, Some(Arc::new(occupancy(number))))
    });
    index.publish(std::iter::empty(), remembered, drop);
    let with_history = (resident() - before) / GRANTS;
    println!("{each} bytes a grant; {with_history} where each address has changed hands within the hour");
    assert_eq!(index.len() as u64, GRANTS);
    assert!(each <= GRANT_BYTES_MAX, "{each} bytes a grant");
}
