//! Enforcers: what they are told of grants, in which order, after which breaks; and grants that wait for them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use podgate_proto::v1::{
    AuthorizeRequest, AuthorizeResponse, Destination, Grant, GrantOrigin, GrantServiceRevokeRequest,
    GrantServiceWatchResponse, Pod, WatchStart, WatchStep, authorize_response::Outcome,
    grant_service_client::GrantServiceClient, grant_service_revoke_request::Target,
};
use podgate_tests::{
    caller::Caller,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    refusal::{fields, reason, retry_after},
    requests::{authorize, authorize_as, pod as pod_of},
    wall_clock::WallClock,
    watcher::{Watcher, enforcer},
    yaml::profile,
};
use rustix::process::Signal;
use tonic::{Code, Status, transport::Endpoint};

const DB: (&str, u32) = ("db.shop.svc", 3306);
const CACHE: (&str, u32) = ("cache.shop.svc", 6379);
const BY_ADDRESS: (&str, u32) = ("10.9.0.7", 443);
/// More calls than any test makes.
const LIMITS: &str = "  limits: { rate: 100000/s, burst: 100000 }\n";

/// A gateway with an app that may reach a database, a cache and an address, and with settings.
fn shop(spec: &str) -> Setup {
    let rules = "    - { name: cache, hosts: [\"*.shop.svc\"], ports: [6379] }\n    - { name: net, hosts: [10.9.0.0/24], \
                 ports: [443] }\n";
    let text = profile("shop", DB.0, &format!("{rules}{LIMITS}{spec}"));
    Setup::new()
        .with_file("shop.yaml", text)
        .flag("--enforcer-grace", "0s")
        .flag("--capacity-rate", "100000/s")
        .flag("--capacity-burst", "100000")
}

async fn watch(caller: &Caller, start: WatchStart) -> Watcher {
    Watcher::begin(caller.grants(), start).await.unwrap_or_else(|status| panic!("no watch: {status:?}"))
}

async fn grant(gateway: &Gateway, address: &str, uid: &str, wanted: &[(&str, u32)]) -> String {
    let pod = Caller::from(gateway, address).await;
    pod.granted(authorize("shop", uid, wanted)).await.lease.unwrap().grant_id
}

async fn revoke(caller: &Caller, target: Target) {
    let request = GrantServiceRevokeRequest { target: Some(target), reason: String::new() };
    caller.grants().revoke(request).await.unwrap();
}

fn ids(step: &GrantServiceWatchResponse) -> (Vec<&str>, Vec<&str>) {
    let upserts = step.upserts.iter().map(|grant| grant.grant_id.as_str()).collect();
    (upserts, step.removals.iter().map(|removal| removal.grant_id.as_str()).collect())
}

fn hosts(watcher: &Watcher, id: &str) -> Vec<String> {
    let decisions = watcher.held[id].decisions.iter();
    decisions.map(|decision| decision.destination.as_ref().unwrap().host.clone()).collect()
}

#[tokio::test]
async fn a_watch_shows_what_is_guarded_and_follows_it() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    let first = grant(&gateway, "127.0.1.1", "a", &[DB, CACHE, BY_ADDRESS]).await;
    let other = grant(&gateway, "127.0.1.2", "b", &[CACHE]).await;

    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    let end = db.step().await;
    assert_eq!((end.step(), ids(&end)), (WatchStep::SnapshotEnd, (vec![&*first], vec![])));
    assert_eq!(hosts(&db, &first), [DB.0]);
    assert_eq!(db.held[&first].address, "127.0.1.1");
    let mut cache = watch(&portal, enforcer("cache", &[("cache.shop.svc", 6379)])).await;
    cache.step().await;
    assert_eq!(cache.held.keys().collect::<Vec<_>>(), [&first, &other]);
    // Without guards: addresses, and no names.
    let mut net = watch(&portal, WatchStart::default()).await;
    net.step().await;
    assert_eq!((net.held.len(), hosts(&net, &first)), (1, vec![BY_ADDRESS.0.to_owned()]));

    let second = grant(&gateway, "127.0.1.3", "c", &[DB]).await;
    let delta = db.step().await;
    assert_eq!((delta.step(), ids(&delta)), (WatchStep::Delta, (vec![&*second], vec![])));
    // A further request of the same pod changes its grant.
    assert_eq!(grant(&gateway, "127.0.1.3", "c", &[CACHE]).await, second);
    let delta = db.step().await;
    assert_eq!((ids(&delta), delta.upserts[0].generation), ((vec![&*second], vec![]), 2));
    assert_eq!(hosts(&db, &second), [DB.0]);

    revoke(&portal, Target::GrantId(first.clone())).await;
    let delta = db.step().await;
    assert_eq!((delta.step(), ids(&delta)), (WatchStep::Delta, (vec![], vec![&*first])));
    // A pod that comes to an address of another takes its place.
    let third = grant(&gateway, "127.0.1.3", "d", &[DB]).await;
    let mut step = db.step().await;
    assert_eq!(ids(&step).1, [&*second]);
    if step.upserts.is_empty() {
        step = db.step().await;
    }
    assert_eq!(ids(&step).0, [&*third]);
    assert_eq!(gateway.metric("podgate_watchers").await, Some(3.0));
}

#[tokio::test]
async fn a_grant_that_is_over_is_removed() {
    let (setup, clock) = WallClock::of(shop("  lease: { maxAge: 1h }\n"));
    let gateway = setup.start().await;
    let portal = Caller::of(&gateway).await;
    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    db.step_of(WatchStep::SnapshotEnd).await;
    let over = grant(&gateway, "127.0.1.1", "a", &[DB]).await;
    db.step_of(WatchStep::Delta).await;
    clock.forward("61m");
    let removal = db.step_of(WatchStep::Delta).await;
    assert_eq!(ids(&removal), (vec![], vec![&*over]));
    assert_eq!(watch(&portal, enforcer("", &[DB])).await.step().await.upserts, []);
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke_off() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    let start = || enforcer("db", &[DB]);
    let first = grant(&gateway, "127.0.1.1", "a", &[DB]).await;
    let mut db = watch(&portal, start()).await;
    db.step_of(WatchStep::SnapshotEnd).await;

    revoke(&portal, Target::GrantId(first.clone())).await;
    let second = grant(&gateway, "127.0.1.2", "b", &[DB]).await;
    let mut db = db.break_off().resume(portal.grants(), start()).await;
    while db.held.keys().collect::<Vec<_>>() != [&second] {
        assert_eq!(db.step().await.step(), WatchStep::Delta);
    }
    // Nothing is told twice: what comes next is what happens next.
    let mut db = db.break_off().resume(portal.grants(), start()).await;
    revoke(&portal, Target::GrantId(second.clone())).await;
    assert_eq!(ids(&db.step().await), (vec![], vec![&*second]));

    // Other guards, another story.
    let both = enforcer("db", &[DB, CACHE]);
    let mut both = db.break_off().resume(portal.grants(), both).await;
    assert_eq!(both.step().await.step(), WatchStep::SnapshotEnd);
}

#[tokio::test]
async fn who_was_away_for_too_long_is_told_everything_anew() {
    let gateway = shop("").flag("--max-journal", "4").start().await;
    let portal = Caller::of(&gateway).await;
    let start = || enforcer("db", &[DB]);
    let gone = grant(&gateway, "127.0.1.1", "a", &[DB]).await;
    let mut db = watch(&portal, start()).await;
    db.step_of(WatchStep::SnapshotEnd).await;
    assert!(db.held.contains_key(&gone));
    revoke(&portal, Target::GrantId(gone.clone())).await;
    let mut held = Vec::new();
    for last in 2..=8 {
        held.push(grant(&gateway, &format!("127.0.1.{last}"), "a", &[DB]).await);
    }
    let mut db = db.break_off().resume(portal.grants(), start()).await;
    assert_eq!(db.step().await.step(), WatchStep::SnapshotEnd);
    assert!(db.held.keys().eq(&held), "{:?}", db.held.keys());

    // A gateway that has started anew knows no token.
    let gateway = gateway.kill().await.start().await;
    let portal = Caller::of(&gateway).await;
    let mut db = db.break_off().resume(portal.grants(), start()).await;
    assert_eq!(db.step().await.step(), WatchStep::SnapshotEnd);
    assert!(db.held.keys().eq(&held), "{:?}", db.held.keys());
}

#[tokio::test]
async fn a_slow_watcher_is_told_anew_and_misses_no_removal() {
    let rules: Vec<_> = (0..100)
        .map(|number| format!("    - {{ name: r{number}, hosts: [h{number}.shop.svc], ports: [80] }}\n"))
        .collect();
    let text = profile("shop", DB.0, &format!("{}{LIMITS}", rules.concat()));
    let gateway = shop("").with_file("shop.yaml", text).flag("--max-journal", "16").start().await;
    let endpoint = Endpoint::try_from(gateway.endpoint()).unwrap().initial_stream_window_size(65_535);
    let client = GrantServiceClient::new(endpoint.connect().await.unwrap());
    let guards = vec![Destination { host: "*.shop.svc".into(), port: 1, last_port: 65_535, protocol: 0 }];
    let mut slow = Watcher::begin(client, WatchStart { guards, ..WatchStart::default() }).await.unwrap();
    slow.step_of(WatchStep::SnapshotEnd).await;

    // One pod after another on the same address, each with a grant of some 10 kB.
    let pod = Caller::from(&gateway, "127.0.1.1").await;
    let mut last = String::new();
    for uid in 0..100 {
        let granted = pod.granted(authorize("shop", &format!("uid-{uid}"), &[])).await;
        last = granted.lease.unwrap().grant_id;
    }
    let mut kinds = Vec::new();
    while slow.held.keys().collect::<Vec<_>>() != [&last] {
        kinds.push(slow.step().await.step());
    }
    assert!(kinds.contains(&WatchStep::SnapshotEnd), "{kinds:?}");
    let page = gateway.page("/metrics").await;
    assert!(page.metric("podgate_watch_snapshots_total", "fell_behind") >= Some(1.0), "{}", page.body);
}

#[tokio::test]
async fn a_snapshot_in_parts_follows_what_changes_meanwhile() {
    const CLUSTERS: usize = 250;
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    // A pod of each address in each cluster; each asks twice, so that its grant is made and changed.
    let all_ask = async |addresses: std::ops::RangeInclusive<u8>, wanted: &'static [(&str, u32)]| {
        let mut asking = tokio::task::JoinSet::new();
        for last in addresses {
            let pod = Caller::from(&gateway, &format!("127.0.1.{last}")).await;
            asking.spawn(async move {
                for cluster in 0..CLUSTERS {
                    let named = Pod { cluster: format!("c{cluster}"), ..pod_of("a") };
                    pod.granted(authorize_as("shop", named, wanted)).await;
                }
            });
        }
        asking
    };
    all_ask(1..=3, &[DB]).await.join_all().await;
    let mut db = watch(&portal, enforcer("db", &[DB, CACHE])).await;
    let mut parts = 1;
    let changing = all_ask(3..=4, &[DB, CACHE]).await;
    while db.step().await.step() == WatchStep::Snapshot {
        parts += 1;
    }
    assert!(parts >= 3, "{parts} parts");
    changing.join_all().await;
    revoke(&portal, Target::Address("127.0.1.2".to_owned())).await;
    let expected = portal.all_grants().await;
    assert_eq!(expected.len(), 3 * CLUSTERS);
    let generations = |grants: &[Grant]| -> Vec<(String, u64)> {
        grants.iter().map(|grant| (grant.grant_id.clone(), grant.generation)).collect()
    };
    let expected = generations(&expected);
    while generations(&db.held.values().cloned().collect::<Vec<_>>()) != expected {
        db.step_of(WatchStep::Delta).await;
    }
}

#[tokio::test]
async fn a_watch_without_news_shows_that_it_is_alive() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    let end = db.step().await;
    // What does not concern it moves it on.
    grant(&gateway, "127.0.1.1", "a", &[CACHE]).await;
    let alive = db.step().await;
    assert_eq!(alive.step(), WatchStep::Heartbeat);
    assert_eq!((alive.revision, ids(&alive)), (end.revision + 1, (vec![], vec![])));
    assert_ne!(alive.resume_token, end.resume_token);
}

#[tokio::test]
async fn what_an_enforcer_says_is_read_or_refused() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    let refused = async |start| Watcher::begin(portal.grants(), start).await.map(|_| ()).unwrap_err();
    let faulty = WatchStart {
        cluster: "a b".into(),
        resume_token: vec![0; 65],
        ..enforcer(&"n".repeat(254), &[DB, ("db", 0)])
    };
    let expected = ["start.cluster", "start.enforcer", "start.resume_token", "start.guards[1].port"];
    assert_eq!(fields(&refused(faulty).await), expected);
    assert_eq!(fields(&refused(enforcer("", &[DB; 257])).await), ["start.guards"]);

    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    db.step().await;
    // An empty one says nothing.
    db.acknowledge_with(Vec::new()).await;
    db.acknowledge_with(vec![1; 25]).await;
    assert_eq!(fields(&db.ended().await), ["ack.resume_token"]);
}

fn behind_barrier(uid: &str, wanted: &[(&str, u32)]) -> AuthorizeRequest {
    AuthorizeRequest { barrier: true, ..authorize("shop", uid, wanted) }
}

/// Asks from a task of its own, with a deadline.
async fn ask(
    gateway: &Gateway,
    request: AuthorizeRequest,
    within: Duration,
) -> tokio::task::JoinHandle<Result<AuthorizeResponse, Status>> {
    let pod = Caller::from(gateway, "127.0.1.1").await;
    let mut request = tonic::Request::new(request);
    request.set_timeout(within);
    tokio::spawn(async move { Ok(pod.authorization().authorize(request).await?.into_inner()) })
}

const LONG: Duration = Duration::from_secs(9);
const SHORT: Duration = Duration::from_millis(400);

fn origin(answer: AuthorizeResponse) -> GrantOrigin {
    match answer.outcome {
        Some(Outcome::Granted(granted)) => granted.origin(),
        other => panic!("not granted: {other:?}"),
    }
}

#[tokio::test]
async fn granted_means_open() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    // Nobody guards it: there is nobody to wait for.
    let answer = ask(&gateway, behind_barrier("a", &[CACHE]), LONG).await.await.unwrap().unwrap();
    assert_eq!(origin(answer), GrantOrigin::Fresh);

    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    let mut other = watch(&portal, enforcer("other", &[("other.shop.svc", 3306)])).await;
    let mut looks_on = watch(&portal, enforcer("", &[DB])).await;
    for watcher in [&mut db, &mut other, &mut looks_on] {
        watcher.step_of(WatchStep::SnapshotEnd).await;
    }
    db.acknowledge().await;
    let call = ask(&gateway, behind_barrier("a", &[DB]), LONG).await;
    db.step_of(WatchStep::Delta).await;
    looks_on.step_of(WatchStep::Delta).await;
    assert!(!call.is_finished());
    db.acknowledge().await;
    assert_eq!(origin(call.await.unwrap().unwrap()), GrantOrigin::Fresh);
    // What it has acknowledged need not be waited for.
    let again = ask(&gateway, behind_barrier("a", &[DB]), LONG).await.await.unwrap().unwrap();
    assert_eq!(origin(again), GrantOrigin::Repeated);
    assert_eq!(gateway.page("/metrics").await.metric("podgate_barriers_total", "open"), Some(3.0));
}

#[tokio::test]
async fn a_barrier_in_vain_leaves_the_grant_and_the_repeat_waits_on() {
    let gateway = shop("").start().await;
    let portal = Caller::of(&gateway).await;
    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    db.step_of(WatchStep::SnapshotEnd).await;
    // The snapshot is not acknowledged either.
    for _ in 0..2 {
        let refused = ask(&gateway, behind_barrier("a", &[DB]), SHORT).await.await.unwrap().unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "ENFORCERS_PENDING"));
        assert!(retry_after(&refused).is_some());
        assert_eq!(portal.all_grants().await.len(), 1);
    }
    let call = ask(&gateway, behind_barrier("a", &[DB]), LONG).await;
    while db.held.is_empty() {
        db.step().await;
    }
    db.acknowledge().await;
    assert_eq!(origin(call.await.unwrap().unwrap()), GrantOrigin::Repeated);
}

#[tokio::test]
async fn an_enforcer_that_comes_back_is_waited_for_meanwhile() {
    let gateway = shop("").flag("--enforcer-grace", "4s").start().await;
    let portal = Caller::of(&gateway).await;
    // After a start any enforcer may be on its way back.
    let refused = ask(&gateway, behind_barrier("a", &[DB]), SHORT).await.await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "ENFORCERS_PENDING");
    let answer = ask(&gateway, behind_barrier("a", &[DB]), LONG).await.await.unwrap().unwrap();
    assert_eq!(origin(answer), GrantOrigin::Repeated);

    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    db.step_of(WatchStep::SnapshotEnd).await;
    db.acknowledge().await;
    let answer = ask(&gateway, behind_barrier("a", &[DB]), LONG).await.await.unwrap().unwrap();
    assert_eq!(origin(answer), GrantOrigin::Repeated);
    let broken = db.break_off();
    eventually("the end of the watch", async || {
        (gateway.metric("podgate_watchers").await == Some(0.0)).then_some(())
    })
    .await;
    let call = ask(&gateway, behind_barrier("b", &[DB]), LONG).await;
    eventually("the grant", async || {
        let grants = portal.all_grants().await;
        grants.iter().any(|grant| grant.pod.as_ref().is_some_and(|pod| pod.uid == "b")).then_some(())
    })
    .await;
    let mut db = broken.resume(portal.grants(), enforcer("db", &[DB])).await;
    db.step_of(WatchStep::Delta).await;
    assert!(!call.is_finished());
    while db.held.values().any(|grant| grant.pod.as_ref().is_none_or(|pod| pod.uid != "b")) {
        db.step().await;
    }
    db.acknowledge().await;
    assert_eq!(origin(call.await.unwrap().unwrap()), GrantOrigin::Fresh);
}

#[tokio::test]
async fn a_drain_ends_watches_and_waits_for_none() {
    let gateway = shop("").flag("--drain-timeout", "1h").start().await;
    let portal = Caller::of(&gateway).await;
    let mut db = watch(&portal, enforcer("db", &[DB])).await;
    db.step_of(WatchStep::SnapshotEnd).await;
    let call = ask(&gateway, behind_barrier("a", &[DB]), LONG).await;
    db.step_of(WatchStep::Delta).await;
    gateway.signal(Signal::TERM);
    let status = db.ended().await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"));
    assert!(retry_after(&status).is_some());
    let refused = within("the end of the barrier", call).await.unwrap().unwrap_err();
    assert_eq!(reason(&refused), "ENFORCERS_PENDING");
    let (status, _) = gateway.ended().await;
    assert!(status.success());
}
