//! What survives: kill −9, a restart, an end by TERM; and what is refused, a second gateway on one store.

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use podgate_proto::v1::{
    GrantOrigin, GrantServiceRevokeRequest, authorize_response::Outcome, grant_service_revoke_request::Target,
};
use podgate_tests::{
    caller::Caller,
    eventually::{eventually, within},
    gateway::Setup,
    raw::{RawConnection, framed_message, tcp_from},
    refusal::reason,
    requests::authorize,
    yaml::{common_ports, profile},
};
use rustix::process::Signal;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const DB: [(&str, u32); 1] = [("db.shop.svc", 3306)];
/// A range of ports of it is common, so that a pod can ask many questions.
const DNS: &str = "dns.corp";
const AUTHORIZE: &str = "/podgate.v1.AuthorizationService/Authorize";

fn shop(spec: &str) -> Setup {
    let common = common_ports("everywhere", DNS).replace("[53]", "[1-65535]");
    Setup::new().with_file("shop.yaml", profile("shop", DB[0].0, spec)).with_file("common.yaml", common)
}

#[tokio::test]
async fn no_acknowledged_grant_is_lost_by_a_kill() {
    const PODS: usize = 200;
    let gateway = shop("  limits: { rate: 100000/s, burst: 1000 }\n").start().await;
    let mut pods = Vec::new();
    for number in 0..PODS {
        pods.push((number, Caller::from(&gateway, &format!("127.0.2.{}", number + 1)).await));
    }
    // All ask, again and again with another question; the kill comes while they do.
    // One that was between two calls then would connect to the next gateway and never end.
    let killed = Arc::new(AtomicBool::new(false));
    let mut calls = tokio::task::JoinSet::new();
    for (number, pod) in pods {
        let killed = Arc::clone(&killed);
        calls.spawn(async move {
            let mut acknowledged = None;
            for port in (1..).take_while(|_| !killed.load(Ordering::Relaxed)) {
                let request =
                    authorize("shop", &format!("uid-{number}"), &[("db.shop.svc", 3306), (DNS, port)]);
                match pod.authorize(request).await.map(|answer| answer.outcome) {
                    Ok(Some(Outcome::Granted(granted))) => acknowledged = granted.lease,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => break,
                }
            }
            acknowledged
        });
    }
    let caller = Caller::of(&gateway).await;
    eventually("half of the grants", async || (caller.all_grants().await.len() > PODS / 2).then_some(()))
        .await;
    let setup = gateway.kill().await;
    killed.store(true, Ordering::Relaxed);
    let gateway = setup.start().await;
    let acknowledged = calls.join_all().await;

    let grants = Caller::of(&gateway).await.all_grants().await;
    for lease in acknowledged.into_iter().flatten() {
        let kept = grants.iter().find(|grant| grant.grant_id == lease.grant_id);
        let kept = kept.unwrap_or_else(|| panic!("grant {} is lost", lease.grant_id));
        assert!(kept.generation >= lease.generation, "{kept:?} is older than {lease:?}");
    }
}

#[tokio::test]
async fn grants_live_on_after_a_kill_under_their_ids() {
    let gateway = shop("  limits: { rate: 1/h, burst: 20 }\n").start().await;
    let mut held = Vec::new();
    for last in 1..=10 {
        let pod = Caller::from(&gateway, &format!("127.0.1.{last}")).await;
        let granted = pod.granted(authorize("shop", &format!("uid-{last}"), &DB)).await;
        held.push((format!("127.0.1.{last}"), granted.lease.unwrap().grant_id));
    }
    let portal = Caller::of(&gateway).await;
    let (_, revoked) = held.pop().unwrap();
    let request = GrantServiceRevokeRequest { target: Some(Target::GrantId(revoked)), reason: String::new() };
    portal.grants().revoke(request).await.unwrap();
    let before = portal.all_grants().await;

    let gateway = gateway.kill().await.start().await;
    let portal = Caller::of(&gateway).await;
    assert_eq!(portal.all_grants().await, before);
    for (address, id) in &held {
        assert_eq!(&portal.check(address, DB[0].0, DB[0].1).await.grant_id, id);
        let pod = Caller::from(&gateway, address).await;
        let last = address.rsplit('.').next().unwrap();
        let again = pod.granted(authorize("shop", &format!("uid-{last}"), &DB)).await;
        assert_eq!(again.origin(), GrantOrigin::Repeated, "{address}");
        assert_eq!(&again.lease.unwrap().grant_id, id);
    }
}

#[tokio::test]
async fn ids_are_not_given_twice_over_a_restart() {
    let gateway = shop("  limits: { rate: 1000/s, burst: 1000 }\n").start().await;
    let caller = Caller::of(&gateway).await;
    let first = caller.granted(authorize("shop", "a", &DB)).await.lease.unwrap().grant_id;
    let request =
        GrantServiceRevokeRequest { target: Some(Target::App("shop".into())), reason: String::new() };
    caller.grants().revoke(request).await.unwrap();
    let gateway = gateway.kill().await.start().await;
    let caller = Caller::of(&gateway).await;
    let second = eventually("a token", async || {
        caller.authorize(authorize("shop", "b", &DB)).await.ok().and_then(|answer| answer.outcome)
    })
    .await;
    let Outcome::Granted(second) = second else { panic!("{second:?}") };
    assert!(second.lease.unwrap().grant_id > first);
}

#[tokio::test]
async fn buckets_begin_without_their_burst_after_a_restart() {
    let gateway = shop("  limits: { rate: 1/h, burst: 5 }\n").start().await;
    let caller = Caller::of(&gateway).await;
    assert_eq!(caller.bucket("shop").await.available, 5);
    caller.granted(authorize("shop", "a", &DB)).await;
    // However it ended: what was admitted just before is not known.
    let gateway = gateway.kill().await.start().await.terminate().await.start().await;
    let caller = Caller::of(&gateway).await;
    assert_eq!(caller.bucket("shop").await.available, 0);
    let refused = caller.refused(authorize("shop", "b", &DB)).await;
    assert_eq!(reason(&refused), "APP_RATE");
    // The living grant costs nothing, and is there.
    assert_eq!(caller.granted(authorize("shop", "a", &DB)).await.origin(), GrantOrigin::Repeated);
    // An app that comes later has admitted nobody before.
    gateway.write("later.yaml", profile("later", "db.later.svc", ""));
    gateway.until_profiles(2).await;
    assert!(caller.bucket("later").await.available > 0);
}

#[tokio::test]
async fn a_store_has_one_gateway() {
    let gateway = shop("").start().await;
    let ended = shop("").with_store_of(&gateway).run_to_end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("is open in another process"), "{}", ended.err);
    Caller::of(&gateway).await.granted(authorize("shop", "a", &DB)).await;
}

#[tokio::test]
async fn term_lets_calls_end_and_takes_no_more() {
    let gateway = shop("").start().await;
    let other = RawConnection::open(gateway.grpc()).await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let mut call = raw.begin(AUTHORIZE, &[]).await.unwrap();
    // The call is under way when the gateway counts it; half of its message is on the way.
    let frame = framed_message(&authorize("shop", "a", &DB));
    let (first, rest) = (frame.slice(..frame.len() / 2), frame.slice(frame.len() / 2..));
    call.body.send_data(first, false).unwrap();
    eventually("a call in flight", async || {
        (gateway.metric("podgate_calls_in_flight").await == Some(1.0)).then_some(())
    })
    .await;

    gateway.signal(Signal::TERM);
    gateway.until_readiness("the drain", |detail| detail["draining"] == true).await;
    assert_eq!(gateway.page("/readyz").await.status, 503);
    let refused =
        eventually("no more connections", async || tcp_from(Ipv4Addr::LOCALHOST, gateway.grpc()).await.err())
            .await;
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // A connection without a call is sent away.
    within("the end of an idle connection", other.connection).await.unwrap().ok();

    call.body.send_data(rest, true).unwrap();
    let status = call.ended().await.unwrap();
    assert_eq!(status.code(), Code::Ok, "{status:?}");
    let (status, setup) = gateway.ended().await;
    assert!(status.success(), "{status}");

    // The call was answered, and so its grant is durable.
    let gateway = setup.start().await;
    assert_eq!(Caller::of(&gateway).await.all_grants().await.len(), 1);
}

#[tokio::test]
async fn a_drain_has_its_own_end() {
    let gateway = shop("").flag("--drain-timeout", "100ms").start().await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let call = raw.begin(AUTHORIZE, &[]).await.unwrap();
    eventually("a call in flight", async || {
        (gateway.metric("podgate_calls_in_flight").await == Some(1.0)).then_some(())
    })
    .await;
    let setup = gateway.terminate().await;
    assert!(call.ended().await.is_err());
    assert!(setup.home().read("gateway.log").unwrap().contains("were cut at the end of the drain"));
}

#[tokio::test]
async fn a_client_that_watches_health_does_not_hold_up_the_end() {
    let gateway = shop("").flag("--drain-timeout", "1h").start().await;
    let caller = Caller::of(&gateway).await;
    let mut health = HealthClient::new(caller.channel());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    gateway.terminate().await;
}
