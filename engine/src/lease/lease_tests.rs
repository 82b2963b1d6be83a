//! What becomes of grants on one address, by example.

use std::{slice, sync::Arc, time::Duration};

use super::*;
use crate::{
    destination::Destination,
    grant::Basis,
    port::Protocol,
    subject::{PodIdentity, SubjectKind},
};

const NOW: WallTime = WallTime::from_millis(1_000_000);
const EMPTY: Tenancy<'_> = Tenancy { grants: &[], occupancy: None };

fn new_grant(app: &str, uid: &str, host: &str, revision: u64) -> NewGrant {
    NewGrant {
        app: app.into(),
        subject: Arc::new(Subject {
            cluster: "".into(),
            address: [10, 8, 3, 17].into(),
            kind: SubjectKind::Pod(PodIdentity {
                namespace: "hotel".into(),
                name: "order".into(),
                uid: uid.into(),
                service_account: "order".into(),
                node: "".into(),
            }),
        }),
        allowed: Arc::new([allowed(host)]),
        request: u64::from(host.as_bytes()[0]),
        admitted_at: Moment::from_nanos(7),
        tenure: Tenure::Fixed,
        lifetimes: Lifetimes { ttl: Duration::from_secs(10), max_age: Duration::from_secs(60) },
        revision,
        shadow: false,
        fallback: Fallback::Deny,
        seen: 0,
        app_max: 10,
    }
}

fn allowed(host: &str) -> Allowed {
    Allowed {
        destination: Destination {
            host: host.parse().unwrap(),
            ports: "3306".parse().unwrap(),
            protocol: Protocol::Tcp,
        },
        basis: Basis::Shadow,
    }
}

/// A seat on which the grants lie, under a generation that every call has seen.
fn place(living: &[Arc<Grant>], new: NewGrant, next: u64) -> Placement {
    let tenancy = Tenancy { grants: living, occupancy: None };
    let new = NewGrant { seen: tenancy.generation(), ..new };
    tenancy.place(new, GrantId(next), NOW, &mut Shared::default()).unwrap()
}

#[test]
fn a_reused_address_never_inherits() {
    let first = place(&[], new_grant("order", "old", "db", 1), 1);
    assert_eq!(first.occupancy, None);
    let second = place(slice::from_ref(&first.grant), new_grant("order", "new", "cache", 1), 2);
    assert_eq!(second.ended, [first.grant]);
    assert_eq!(*second.grant.allowed, [allowed("cache")]);
    assert_eq!(second.grant.id, GrantId(2));
}

#[test]
fn a_superseded_uid_does_not_take_the_address_back_until_it_is_forgotten() {
    let first = place(&[], new_grant("order", "old", "db", 1), 1);
    let second = place(&[first.grant], new_grant("order", "new", "db", 1), 2);
    let (grants, occupancy) = ([second.grant], second.occupancy.unwrap());
    let tenancy = Tenancy { grants: &grants, occupancy: Some(&occupancy) };
    let seen = tenancy.generation();
    assert_eq!(tenancy.admits("old", seen, NOW), Err(Refused::Superseded));
    assert_eq!(tenancy.admits("third", seen, NOW), Ok(()));
    assert_eq!(tenancy.admits("old", seen, NOW.plus(REMEMBERED_FOR)), Ok(()));
}

#[test]
fn as_many_superseded_uids_are_remembered_as_may_be_and_the_latest_of_them() {
    let mut last = place(&[], new_grant("order", "pod-0", "db", 1), 1);
    for pod in 1..=FORMER_MAX + 1 {
        let (grants, occupancy) = ([last.grant], last.occupancy);
        let tenancy = Tenancy { grants: &grants, occupancy: occupancy.as_ref() };
        let new = NewGrant { seen: u64::MAX, ..new_grant("order", &format!("pod-{pod}"), "db", 1) };
        last = tenancy.place(new, GrantId(pod as u64 + 1), NOW, &mut Shared::default()).unwrap();
    }
    let (grants, occupancy) = ([last.grant], last.occupancy.unwrap());
    let tenancy = Tenancy { grants: &grants, occupancy: Some(&occupancy) };
    let admits = |pod: usize| tenancy.admits(&format!("pod-{pod}"), u64::MAX, NOW);
    assert_eq!(admits(0), Ok(()));
    assert!((1..=FORMER_MAX).all(|pod| admits(pod) == Err(Refused::Superseded)));
}

#[test]
fn a_call_that_was_heard_before_the_address_changed_hands_grants_nothing() {
    let first = place(&[], new_grant("order", "first", "db", 1), 1);
    let grants = [first.grant];
    let tenancy = Tenancy { grants: &grants, occupancy: None };
    // Two calls of one pod may have been heard before either was recorded.
    assert_eq!(tenancy.admits("first", 0, NOW), Ok(()));
    assert_eq!(tenancy.admits("queued", 0, NOW), Err(Refused::Moved));
    let ended = tenancy.ended(&grants[0], GrantId(2), Duration::ZERO, NOW);
    let vacant = Tenancy { grants: &[], occupancy: Some(&ended) };
    assert_eq!(vacant.admits("first", 1, NOW), Err(Refused::Moved));
    assert_eq!(vacant.admits("first", 2, NOW), Ok(()));
}

#[test]
fn an_address_rests_for_everybody_but_its_holder() {
    let first = place(&[], new_grant("order", "first", "db", 1), 1);
    let grants = [first.grant];
    let rest = Duration::from_secs(30);
    let ended = Tenancy { grants: &grants, occupancy: None }.ended(&grants[0], GrantId(2), rest, NOW);
    let vacant = Tenancy { grants: &[], occupancy: Some(&ended) };
    let until = NOW.plus(rest);
    assert_eq!(vacant.admits("next", 2, NOW), Err(Refused::Quarantined { until }));
    assert_eq!(vacant.admits("first", 2, NOW), Ok(()));
    assert_eq!(vacant.admits("next", 2, until), Ok(()));
}

#[test]
fn a_machine_comes_back_to_its_address() {
    let mut machine = new_grant("order", "", "db", 1);
    let subject = Subject { kind: SubjectKind::Host("vm".into()), ..(*machine.subject).clone() };
    machine.subject = Arc::new(subject);
    let first = place(&[], machine, 1);
    let second = place(&[first.grant], new_grant("order", "pod", "db", 1), 2);
    let (grants, occupancy) = ([second.grant], second.occupancy.unwrap());
    let tenancy = Tenancy { grants: &grants, occupancy: Some(&occupancy) };
    assert_eq!(tenancy.admits("", tenancy.generation(), NOW), Ok(()));
}

#[test]
fn a_second_request_of_the_same_pod_adds_up() {
    let first = place(&[], new_grant("order", "uid", "db", 1), 1);
    let second = place(&[first.grant], new_grant("order", "uid", "cache", 1), 2);
    assert!(second.ended.is_empty());
    assert_eq!(*second.grant.allowed, [allowed("db"), allowed("cache")]);
    assert_eq!((second.grant.id, second.grant.generation), (GrantId(1), 2));
    assert!(second.grant.answers("order", "uid", u64::from(b'd'), 1, NOW));
    assert!(!second.grant.answers("order", "uid", u64::from(b'd'), 2, NOW));
    assert!(!second.grant.answers("order", "uid", u64::from(b'd'), 1, NOW.plus(Duration::from_secs(60))));
}

#[test]
fn another_policy_replaces_what_the_old_one_allowed() {
    let first = place(&[], new_grant("order", "uid", "db", 1), 1);
    let second = place(&[first.grant], new_grant("order", "uid", "cache", 2), 2);
    assert_eq!(*second.grant.allowed, [allowed("cache")]);
}

#[test]
fn requests_of_one_grant_are_bounded() {
    let mut held = place(&[], new_grant("order", "uid", "a", 1), 1).grant;
    for letter in 'b'..='z' {
        held = place(&[held], new_grant("order", "uid", &letter.to_string(), 1), 2).grant;
        assert!(held.requests.len() <= REQUESTS_MAX && held.allowed.len() <= REQUESTS_MAX);
    }
}

#[test]
fn two_apps_of_one_pod_hold_two_grants() {
    let first = place(&[], new_grant("order", "uid", "db", 1), 1);
    let second = place(&[first.grant], new_grant("pay", "uid", "db", 1), 2);
    assert!(second.ended.is_empty());
    assert_eq!(second.grant.id, GrantId(2));
}

#[test]
fn a_pod_that_renews_lives_by_ttl_and_others_by_their_age() {
    let fixed = place(&[], new_grant("order", "uid", "db", 1), 1).grant;
    assert_eq!(fixed.expires_at, NOW.plus(Duration::from_secs(60)));
    assert_eq!(fixed.renew_after(NOW), None);
    let renews = NewGrant { tenure: Tenure::Renewed, ..new_grant("order", "uid", "db", 1) };
    let lifetimes = renews.lifetimes;
    let both = place(&[fixed], renews, 2).grant;
    assert_eq!(both.expires_at, NOW.plus(lifetimes.ttl));
    let after = both.renew_after(NOW).unwrap();
    assert!((Duration::from_secs(4)..=Duration::from_secs(6)).contains(&after), "{after:?}");
    // What asks for more meanwhile, without renewing, changes nothing about that.
    let more = place(&[Arc::clone(&both)], new_grant("order", "uid", "cache", 1), 3).grant;
    assert_eq!((more.tenure, more.expires_at), (Tenure::Renewed, NOW.plus(lifetimes.ttl)));
    let later = NOW.plus(Duration::from_secs(5));
    let renewal = Renewal { lifetimes, fallback: Fallback::Deny, narrowed: None };
    let again = renewed(&both, renewal, later, &mut Shared::default());
    assert_eq!((again.generation, again.expires_at), (both.generation + 1, later.plus(lifetimes.ttl)));
}

#[test]
fn what_is_narrowed_answers_nothing_and_is_left_alone_where_it_has_changed() {
    let held = place(&[], new_grant("order", "uid", "db", 1), 1).grant;
    let narrowing = |generation| Narrowing { generation, allowed: Arc::new([allowed("db")]), revision: 2 };
    let mut shared = Shared::default();
    assert_eq!(narrowed(&held, narrowing(2), &mut shared), None);
    let less = narrowed(&held, narrowing(1), &mut shared).unwrap();
    assert_eq!((less.generation, less.revision, less.requests.len()), (2, 2, 0));
    assert_eq!(less.expires_at, held.expires_at);
}

#[test]
fn a_shared_address_has_a_seat_for_each_uid() {
    let shared = SharedAddresses::new(["10.8.0.0/16".parse().unwrap()]);
    let grant = |uid| place(&[], new_grant("order", uid, "db", 1), 1).grant;
    let (one, other) = (grant("one"), grant("other"));
    let seat = shared.seat(one.subject.place(), "one");
    assert!(seat.has(&one) && !seat.has(&other));
    assert_ne!(seat, shared.seat(one.subject.place(), "other"));
    let alone = SharedAddresses::default().seat(one.subject.place(), "one");
    assert!(alone.has(&one) && alone.has(&other));
    assert_eq!(EMPTY.generation(), 0);
}
