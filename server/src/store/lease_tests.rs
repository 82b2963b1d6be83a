//! Leases in the store: what the engine decides about a seat is durable with the grants, and what a restart finds.

use std::{path::Path, sync::Arc, time::Duration};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Fallback, Lifetimes, Narrowing, NewGrant, Refused, Renewal, SharedAddresses, Tenure},
    subject::Subject,
};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn open(home: &Path, rules: impl Into<Rules>) -> Store {
    Store::open(home, rules).unwrap().0
}

/// A grant for a call that was heard before anything was recorded.
fn new_grant(last: u8, uid: &str) -> NewGrant {
    let new = samples::new_grant([10, 0, 0, last], uid);
    let subject = Subject { cluster: "bj-1".into(), ..(*new.subject).clone() };
    NewGrant { subject: Arc::new(subject), seen: 0, app_max: 1_000, ..new }
}

/// A grant for a call that is heard just now.
fn grant(store: &Store, new: NewGrant) -> Result<Arc<Grant>, StoreError> {
    record(store, NewGrant { seen: u64::MAX, ..new })
}

/// A grant for a call that was heard under the generation that it has seen.
fn record(store: &Store, new: NewGrant) -> Result<Arc<Grant>, StoreError> {
    store.grant(new).unwrap().blocking_recv().unwrap()
}

fn claim(grant: &Grant) -> Claim {
    let uid = grant.subject.kind.uid().to_owned();
    Claim { id: grant.id, uid, generation: grant.generation, from: Some(grant.subject.address) }
}

fn release(store: &Store, grant: &Grant) -> u32 {
    store.end(Ending::Release(claim(grant))).unwrap().blocking_recv().unwrap().unwrap()
}

fn renew(store: &Store, claim: Claim, ttl: Duration) -> Result<Arc<Grant>, StoreError> {
    let renewal = Renewal {
        lifetimes: Lifetimes { ttl, max_age: HOUR },
        fallback: Fallback::LastGrant(HOUR),
        narrowed: None,
    };
    store.renew(Extension { claim, renewal }).unwrap().blocking_recv().unwrap()
}

#[track_caller]
fn expect_refused(result: &Result<Arc<Grant>, StoreError>, refused: Refused) {
    assert!(matches!(result, Err(StoreError::Refused(why)) if *why == refused), "{result:?}");
}

#[test]
fn a_superseded_pod_does_not_get_the_address_back_also_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    grant(&store, new_grant(1, "old")).unwrap();
    let new = grant(&store, new_grant(1, "new")).unwrap();
    expect_refused(&grant(&store, new_grant(1, "old")), Refused::Superseded);
    store.close();
    let store = open(home.path(), 10);
    expect_refused(&grant(&store, new_grant(1, "old")), Refused::Superseded);
    assert_eq!(store.grants().get(new.id).unwrap(), new);
    grant(&store, new_grant(1, "third")).unwrap();
    expect_refused(&grant(&store, new_grant(1, "new")), Refused::Superseded);
}

#[test]
fn a_call_that_waited_while_the_address_changed_hands_grants_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    // Both were heard before anything was recorded.
    let (first, queued) = (new_grant(1, "first"), new_grant(1, "queued"));
    let held = record(&store, first.clone()).unwrap();
    expect_refused(&record(&store, queued), Refused::Moved);
    // The same pod's own second call is none of another.
    record(&store, NewGrant { request: 2, ..first.clone() }).unwrap();
    assert_eq!(release(&store, &store.grants().get(held.id).unwrap()), 1);
    expect_refused(&record(&store, first.clone()), Refused::Moved);
    grant(&store, first).unwrap();
}

#[test]
fn an_address_rests_after_its_pod() {
    let home = tempfile::tempdir().unwrap();
    let rules = Rules { quarantine: HOUR, ..Rules::from(10) };
    let store = open(home.path(), rules.clone());
    let held = grant(&store, new_grant(1, "first")).unwrap();
    assert_eq!(release(&store, &held), 1);
    store.close();
    let store = open(home.path(), rules);
    let refused = grant(&store, new_grant(1, "next"));
    assert!(matches!(refused, Err(StoreError::Refused(Refused::Quarantined { .. }))), "{refused:?}");
    grant(&store, new_grant(1, "first")).unwrap();
}

#[test]
fn a_shared_address_holds_several_pods_and_none_of_them_supersedes() {
    let home = tempfile::tempdir().unwrap();
    let shared = SharedAddresses::new(["10.0.0.0/24".parse().unwrap()]);
    let store = open(home.path(), Rules { shared, ..Rules::from(1_000) });
    let held: Vec<_> =
        (0..300).map(|pod| record(&store, new_grant(1, &format!("uid-{pod}"))).unwrap()).collect();
    assert_eq!(store.grants().len(), 300);
    assert_eq!(release(&store, &held[7]), 1);
    // A late call of this one was heard before; that of its neighbour does not concern it.
    expect_refused(&record(&store, new_grant(1, "uid-7")), Refused::Moved);
    record(&store, NewGrant { request: 2, ..new_grant(1, "uid-8") }).unwrap();
    assert_eq!(store.grants().len(), 299);
}

#[test]
fn an_apps_leases_are_capped_and_one_that_takes_anothers_place_passes() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    let of = |last, uid: &str| NewGrant { app_max: 2, ..new_grant(last, uid) };
    let first = grant(&store, of(1, "a")).unwrap();
    grant(&store, of(2, "b")).unwrap();
    assert!(matches!(grant(&store, of(3, "c")), Err(StoreError::LeasesFull)));
    grant(&store, of(2, "successor")).unwrap();
    grant(&store, NewGrant { app: "pay".into(), ..of(3, "c") }).unwrap();
    assert_eq!(release(&store, &first), 1);
    store.close();
    let store = open(home.path(), 10);
    grant(&store, of(3, "c")).unwrap();
    assert!(matches!(grant(&store, of(4, "d")), Err(StoreError::LeasesFull)));
    assert_eq!(store.grants().count_of("order"), 2);
}

#[test]
fn a_lease_is_renewed_by_its_holder_from_its_address_alone() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    let held = grant(&store, new_grant(1, "a")).unwrap();
    let wrong = [
        Claim { id: GrantId(99), ..claim(&held) },
        Claim { uid: "b".to_owned(), ..claim(&held) },
        Claim { generation: held.generation + 1, ..claim(&held) },
        Claim { from: Some([10, 0, 0, 9].into()), ..claim(&held) },
    ];
    for wrong in wrong {
        assert!(matches!(renew(&store, wrong.clone(), HOUR), Err(StoreError::NoGrant)), "{wrong:?}");
    }
    let renewed = renew(&store, claim(&held), HOUR * 2).unwrap();
    assert_eq!((renewed.id, renewed.generation, renewed.tenure), (held.id, 2, Tenure::Renewed));
    assert!(renewed.expires_at > held.expires_at);
    // The answer was lost: it renews with what it knows.
    assert_eq!(renew(&store, claim(&held), HOUR).unwrap().generation, 3);
    let superseded = grant(&store, new_grant(1, "b")).unwrap();
    assert!(matches!(renew(&store, claim(&held), HOUR), Err(StoreError::NoGrant)));
    assert_eq!(release(&store, &held), 0);
    assert_eq!(store.grants().get(superseded.id).unwrap(), superseded);
}

#[test]
fn a_lease_that_ended_while_the_gateway_was_away_has_its_grace() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    let [fixed, denied, graced] = [(1, "a"), (2, "b"), (3, "c")].map(|(last, uid)| new_grant(last, uid));
    let over = Lifetimes { ttl: Duration::ZERO, max_age: Duration::ZERO };
    let renewed = |new| NewGrant { tenure: Tenure::Renewed, lifetimes: over, ..new };
    let fixed = NewGrant { lifetimes: over, fallback: Fallback::LastGrant(HOUR), ..fixed };
    let ids = [fixed, renewed(denied), NewGrant { fallback: Fallback::LastGrant(HOUR), ..renewed(graced) }]
        .map(|new| grant(&store, new).unwrap().id);
    store.close();
    let store = open(home.path(), 10);
    let living = ids.map(|id| store.grants().get(id).unwrap().lives(clock::wall()));
    assert_eq!(living, [false, false, true]);
}

#[test]
fn what_policy_leaves_is_put_in_force_unless_the_grant_has_changed() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 10);
    let [less, gone, changed] = [1, 2, 3].map(|last| grant(&store, new_grant(last, "a")).unwrap());
    renew(&store, claim(&changed), HOUR).unwrap();
    let narrowing = Narrowing { generation: 1, allowed: Arc::new([]), revision: 2 };
    let redecided = vec![
        Redecided::Narrowed(less.id, narrowing.clone()),
        Redecided::Ended(gone.id, 1),
        Redecided::Narrowed(changed.id, narrowing),
        Redecided::Ended(changed.id, 1),
    ];
    assert_eq!(store.redecide(redecided).unwrap().blocking_recv().unwrap().unwrap(), 2);
    store.close();
    let store = open(home.path(), 10);
    let less = store.grants().get(less.id).unwrap();
    assert_eq!((less.generation, less.revision, less.requests.len()), (2, 2, 0));
    assert!(store.grants().get(gone.id).is_none());
    assert_eq!(store.grants().get(changed.id).unwrap().revision, 1);
}

#[test]
fn who_had_an_address_is_forgotten_where_too_many_are_remembered() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path(), 3);
    for last in 1..=5 {
        let held = grant(&store, new_grant(last, "a")).unwrap();
        assert_eq!(release(&store, &held), 1);
    }
    assert_eq!(store.grants().occupancies(), 5);
    store.end(Ending::Expire(10)).unwrap().blocking_recv().unwrap().unwrap();
    assert_eq!(store.grants().occupancies(), 3);
    store.close();
    assert_eq!(open(home.path(), 3).grants().occupancies(), 3);
}
