//! The upstream, against the adapter of the examples: granted means that the proxy is open, and revoked that it is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use podgate_proto::v1::{GrantServiceRevokeRequest, grant_service_revoke_request::Target};
use podgate_tests::{
    caller::Caller,
    eventually::eventually,
    gateway::{Gateway, Setup},
    guarded_redis::{Adapter, GUARDED, GuardedRedis, Passage},
    raw::RawConnection,
    refusal::{reason, retry_after},
    requests::authorize,
    yaml::common_ports,
};
use prost::Message as _;
use rustix::process::Signal;
use tonic::{Code, Status};

const POD: &str = "127.7.31.17";
const OTHER_POD: &str = "127.7.31.18";
const DNS: (&str, u32) = ("dns.corp", 53);

const PROFILE: &str = "
apiVersion: podgate.io/v1
kind: AppProfile
metadata: { name: shop }
spec:
  subjects:
    - serviceAccount: { namespace: shop, name: shop }
  allow:
    - { name: cache, hosts: ['*.shop.svc'], ports: [6379-6381] }
    - { name: db, hosts: [db.shop.svc], ports: [3306] }
  limits: { rate: 1/h, burst: 3 }
";

fn behind(adapter: &Adapter) -> Setup {
    Setup::new()
        .with_file("shop.yaml", PROFILE)
        .with_file("common.yaml", common_ports("everywhere", DNS.0))
        .flag("--upstream", &adapter.endpoint())
}

/// Asks from 127.0.0.1 with a deadline of a second that only the gateway keeps, and expects to be refused.
async fn refused_within_a_second(gateway: &Gateway, uid: &str) -> Status {
    let message = authorize("shop", uid, &[GUARDED]).encode_to_vec();
    let raw = RawConnection::open(gateway.grpc()).await;
    let path = "/podgate.v1.AuthorizationService/Authorize";
    let refused = raw.call(path, &[("grpc-timeout", "1S")], &message).await.unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(retry_after(&refused).is_some(), "{refused:?}");
    refused
}

async fn revoke(gateway: &Gateway, target: Target) {
    let request = GrantServiceRevokeRequest { target: Some(target), ..GrantServiceRevokeRequest::default() };
    let answer = Caller::of(gateway).await.grants().revoke(request).await.unwrap();
    assert_eq!(answer.into_inner().revoked, 1);
}

#[tokio::test]
async fn granted_means_open_and_revoked_means_closed() {
    let redis = GuardedRedis::start().await;
    let adapter = redis.adapter().await;
    let gateway = behind(&adapter).start().await;
    let (pod, other) = (Caller::from(&gateway, POD).await, Caller::from(&gateway, OTHER_POD).await);
    assert_eq!(redis.ping_from(POD).await, Passage::Closed);
    // At once: the answer means that it is in force.
    let granted = pod.granted(authorize("shop", "a", &[GUARDED])).await;
    assert_eq!(redis.ping_from(POD).await, Passage::Open);
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Closed);
    // A grant of something that this proxy does not guard opens nothing, and more of it does.
    other.granted(authorize("shop", "b", &[("db.shop.svc", 3306)])).await;
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Closed);
    other.granted(authorize("shop", "b", &[GUARDED])).await;
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Open);
    let id = granted.lease.expect("no lease").grant_id;
    revoke(&gateway, Target::GrantId(id)).await;
    redis.until(POD, Passage::Closed).await;
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Open);
    assert_eq!(gateway.metric("podgate_upstream_breaker").await, Some(0.0));
    assert!(gateway.metric("podgate_upstream_grants_total").await >= Some(3.0));
}

#[tokio::test]
async fn restarts_lose_neither_a_grant_nor_an_end() {
    let mut redis = GuardedRedis::start().await;
    let adapter = redis.adapter().await;
    let gateway = behind(&adapter).start().await;
    let (pod, other) = (Caller::from(&gateway, POD).await, Caller::from(&gateway, OTHER_POD).await);
    pod.granted(authorize("shop", "a", &[GUARDED])).await;
    other.granted(authorize("shop", "b", &[GUARDED])).await;
    // The adapter is gone when a grant ends, and so is the gateway before it has told it.
    adapter.kill().await;
    revoke(&gateway, Target::Address(POD.to_owned())).await;
    let setup = gateway.kill().await;
    assert_eq!(redis.ping_from(POD).await, Passage::Open);
    let adapter = redis.adapter().await;
    let gateway = setup.start().await;
    redis.until(POD, Passage::Closed).await;
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Open);
    // Everything is lost at once: the map, with what the adapter knows, and what the gateway knows of both.
    adapter.kill().await;
    redis.restart_proxy().await;
    assert_eq!(redis.ping_from(OTHER_POD).await, Passage::Closed);
    let setup = gateway.terminate().await;
    let adapter = redis.adapter().await;
    let gateway = setup.start().await;
    redis.until(OTHER_POD, Passage::Open).await;
    // The proxy alone: the adapter tells of another epoch.
    redis.restart_proxy().await;
    redis.until(OTHER_POD, Passage::Open).await;
    assert_eq!(redis.ping_from(POD).await, Passage::Closed);
    drop((gateway, adapter));
}

#[tokio::test]
async fn a_stopped_upstream_holds_up_nobody_but_those_who_need_it() {
    let redis = GuardedRedis::start().await;
    let adapter = redis.adapter().await;
    let gateway = behind(&adapter).flag("--upstream-timeout", "500ms").start().await;
    let (operator, other) = (Caller::of(&gateway).await, Caller::from(&gateway, OTHER_POD).await);
    other.granted(authorize("shop", "b", &[GUARDED])).await;
    adapter.signal(Signal::STOP);
    assert_eq!(reason(&refused_within_a_second(&gateway, "a").await), "UPSTREAM_PENDING");
    // Common ports, repeats and denials do not ask it, or they would be refused as well.
    operator.granted(authorize("shop", "a", &[DNS])).await;
    other.granted(authorize("shop", "b", &[GUARDED])).await;
    operator.denied(authorize("shop", "a", &[("elsewhere.svc", 1)])).await;
    // It is found out to be gone; then nothing is spent any more for a grant that it could not be told of.
    until_given_a_rest(&gateway).await;
    let before = operator.bucket("shop").await;
    assert_eq!(reason(&refused_within_a_second(&gateway, "c").await), "UPSTREAM_UNAVAILABLE");
    assert_eq!((operator.bucket("shop").await.available, before.available), (1, 1));
    // What was recorded meanwhile comes in force when it is back, whether somebody asks or not.
    adapter.signal(Signal::CONT);
    redis.until("127.0.0.1", Passage::Open).await;
    operator.granted(authorize("shop", "a", &[GUARDED])).await;
}

async fn until_given_a_rest(gateway: &Gateway) {
    eventually("an open breaker", async || {
        gateway.metric("podgate_upstream_breaker").await.filter(|phase| *phase > 0.0)
    })
    .await;
}
