//! Leases that follow the pod: who has an address, who renews, how many there may be, and what a narrower profile leaves.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use podgate_proto::v1::{
    AuthorizeRequest, GrantOrigin, GrantServiceRevokeRequest, Granted, Lease, ReleaseRequest, RenewRequest,
    Verdict, grant_service_revoke_request::Target,
};
use podgate_tests::{
    caller::Caller,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    refusal::{quotas, reason, retry_after},
    requests::{authorize, authorize_host},
    yaml::{profile, profile_for},
};
use tonic::{Code, Status};

const DB: (&str, u32) = ("db.shop.svc", 3306);
const TTL: Duration = Duration::from_secs(600);

fn shop(spec: &str) -> Setup {
    Setup::new().with_file("shop.yaml", profile("shop", DB.0, spec))
}

fn renewing(uid: &str) -> AuthorizeRequest {
    AuthorizeRequest { renews: true, ..authorize("shop", uid, &[DB]) }
}

fn lease(granted: Granted) -> Lease {
    granted.lease.expect("no lease")
}

fn renew_after(lease: &Lease) -> Option<Duration> {
    lease.renew_after.map(|after| after.try_into().unwrap())
}

fn expires_at_s(lease: &Lease) -> i64 {
    lease.expires_at.expect("it never ends").seconds
}

async fn renew(caller: &Caller, lease: &Lease, uid: &str) -> Result<Lease, Status> {
    let (grant_id, pod_uid) = (lease.grant_id.clone(), uid.to_owned());
    let request = RenewRequest { grant_id, pod_uid, generation: lease.generation };
    let renewed = within("an answer to Renew", caller.authorization().renew(request)).await;
    renewed.map(|response| response.into_inner().lease.expect("no lease"))
}

async fn release(caller: &Caller, lease: &Lease, uid: &str) -> bool {
    let (grant_id, pod_uid) = (lease.grant_id.clone(), uid.to_owned());
    let request = ReleaseRequest { grant_id, pod_uid, generation: lease.generation };
    caller.authorization().release(request).await.unwrap().into_inner().released
}

#[track_caller]
fn expect_refused(status: &Status, code: Code, why: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (code, why), "{status:?}");
}

async fn verdict(gateway: &Gateway, address: &str) -> Verdict {
    Caller::of(gateway).await.check(address, DB.0, DB.1).await.verdict()
}

#[tokio::test]
async fn an_address_goes_to_the_next_pod_and_does_not_come_back() {
    let gateway = shop("").start().await;
    let caller = Caller::from(&gateway, "127.0.3.1").await;
    let old = lease(caller.granted(authorize("shop", "old", &[DB])).await);
    caller.granted(authorize("shop", "new", &[DB])).await;
    let before = caller.bucket("shop").await.available;
    let refused = caller.refused(authorize("shop", "old", &[DB])).await;
    expect_refused(&refused, Code::FailedPrecondition, "POD_SUPERSEDED");
    assert_eq!(retry_after(&refused), None);
    assert!(caller.bucket("shop").await.available >= before, "it has cost a token");
    // What it held has ended, and so has what it could do with it.
    assert!(!release(&caller, &old, "old").await);
    expect_refused(&renew(&caller, &old, "old").await.unwrap_err(), Code::NotFound, "GRANT_NOT_FOUND");
    let setup = gateway.kill().await;
    let gateway = setup.start().await;
    let caller = Caller::from(&gateway, "127.0.3.1").await;
    let refused = caller.refused(authorize("shop", "old", &[DB])).await;
    expect_refused(&refused, Code::FailedPrecondition, "POD_SUPERSEDED");
    assert_eq!(caller.granted(authorize("shop", "new", &[DB])).await.origin(), GrantOrigin::Repeated);
    // Elsewhere it is as good as any other.
    Caller::from(&gateway, "127.0.3.2").await.granted(authorize("shop", "old", &[DB])).await;
}

#[tokio::test]
async fn only_a_pod_that_renews_lives_by_ttl() {
    let gateway = shop("  lease: { ttl: 10m, maxAge: 7d }\n").start().await;
    let caller = Caller::of(&gateway).await;
    // The init container asks, and never renews.
    let first = lease(caller.granted(authorize("shop", "a", &[DB])).await);
    assert_eq!(renew_after(&first), None);
    // Then the sidecar does: the same grant, for nothing.
    let second = caller.granted(renewing("a")).await;
    assert_eq!(second.origin(), GrantOrigin::Repeated);
    let second = lease(second);
    assert_eq!(second.grant_id, first.grant_id);
    assert!(expires_at_s(&first) - expires_at_s(&second) > 6 * 24 * 3_600);
    let after = renew_after(&second).expect("it is not told when to renew");
    assert!((TTL * 39 / 100..=TTL * 6 / 10).contains(&after), "{after:?}");

    let third = renew(&caller, &second, "a").await.unwrap();
    assert_eq!((&third.grant_id, third.generation), (&second.grant_id, second.generation + 1));
    assert!(expires_at_s(&third) >= expires_at_s(&second) && renew_after(&third).is_some());
    // Its answer was lost: the same renewal once more.
    assert_eq!(renew(&caller, &second, "a").await.unwrap().generation, third.generation + 1);
    for (held, uid) in
        [(&third, "b"), (&Lease { grant_id: "00000000000000ff".to_owned(), ..third.clone() }, "a")]
    {
        expect_refused(&renew(&caller, held, uid).await.unwrap_err(), Code::NotFound, "GRANT_NOT_FOUND");
    }
    let fault = renew(&caller, &Lease::default(), "a").await.unwrap_err();
    expect_refused(&fault, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn renewals_of_pods_that_were_granted_together_are_spread() {
    let gateway = shop("  limits: { rate: 100000/s, burst: 1000 }\n").start().await;
    let mut told = Vec::new();
    for pod in 0..20 {
        let caller = Caller::from(&gateway, &format!("127.0.4.{}", pod + 1)).await;
        told.push(renew_after(&lease(caller.granted(renewing(&format!("uid-{pod}"))).await)).unwrap());
    }
    told.sort();
    assert!(told[19] > told[0] + TTL / 10, "{told:?}");
}

#[tokio::test]
async fn a_machine_renews_without_a_uid() {
    let hosts = profile_for("hosts: { cidrs: [127.0.5.0/24] }", "shop", DB.0, "");
    let gateway = Setup::new().with_file("shop.yaml", hosts).start().await;
    let caller = Caller::from(&gateway, "127.0.5.1").await;
    let held =
        lease(caller.granted(AuthorizeRequest { renews: true, ..authorize_host("shop", &[DB]) }).await);
    assert_eq!(renew(&caller, &held, "").await.unwrap().grant_id, held.grant_id);
    assert!(release(&caller, &Lease { generation: 0, ..held }, "").await);
}

#[tokio::test]
async fn an_app_has_so_many_leases_and_a_successor_needs_no_further_one() {
    let gateway = shop("  lease: { max: 2 }\n").start().await;
    let of = async |last: u8| Caller::from(&gateway, &format!("127.0.6.{last}")).await;
    let first = lease(of(1).await.granted(authorize("shop", "a", &[DB])).await);
    of(2).await.granted(authorize("shop", "b", &[DB])).await;
    let before = of(3).await.bucket("shop").await.available;
    let refused = of(3).await.refused(authorize("shop", "c", &[DB])).await;
    expect_refused(&refused, Code::ResourceExhausted, "LEASES_FULL");
    assert_eq!(quotas(&refused), ["app"]);
    assert!(retry_after(&refused).unwrap() >= Duration::from_secs(5));
    assert!(of(3).await.bucket("shop").await.available >= before, "it has cost a token");
    of(2).await.granted(authorize("shop", "successor", &[DB])).await;
    assert!(release(&of(1).await, &first, "a").await);
    of(3).await.granted(authorize("shop", "c", &[DB])).await;
}

#[tokio::test]
async fn an_address_rests_after_its_pod_where_that_is_set() {
    let gateway = shop("").flag("--quarantine", "1h").start().await;
    let caller = Caller::of(&gateway).await;
    let held = lease(caller.granted(authorize("shop", "a", &[DB])).await);
    assert!(release(&caller, &held, "a").await);
    let refused = caller.refused(authorize("shop", "b", &[DB])).await;
    expect_refused(&refused, Code::Unavailable, "ADDRESS_QUARANTINED");
    let wait = retry_after(&refused).unwrap();
    assert!((Duration::from_secs(3_500)..=Duration::from_secs(3_600)).contains(&wait), "{wait:?}");
    caller.granted(authorize("shop", "a", &[DB])).await;
}

#[tokio::test]
async fn pods_behind_one_shared_address_hold_side_by_side() {
    let gateway = shop("").flag("--shared-addresses", "127.0.7.0/24").start().await;
    let caller = Caller::from(&gateway, "127.0.7.1").await;
    let held = lease(caller.granted(authorize("shop", "a", &[DB])).await);
    caller.granted(authorize("shop", "b", &[DB])).await;
    assert_eq!(caller.all_grants().await.len(), 2);
    assert!(release(&caller, &held, "a").await);
    assert_eq!(verdict(&gateway, "127.0.7.1").await, Verdict::Allowed);
    assert_eq!(caller.granted(authorize("shop", "b", &[DB])).await.origin(), GrantOrigin::Repeated);
}

/// Waits until the grants of `shop` are these: for each, how many destinations it allows, by address.
async fn until_grants(gateway: &Gateway, expected: &[(&str, usize)]) {
    let caller = Caller::of(gateway).await;
    eventually(&format!("{expected:?}"), async || {
        let mut grants: Vec<_> = caller.all_grants().await;
        grants.sort_by(|one, other| one.address.cmp(&other.address));
        let found: Vec<_> = grants.iter().map(|grant| (&*grant.address, grant.decisions.len())).collect();
        (found == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_profile_that_narrows_narrows_what_it_granted() {
    let both = "    - { name: mq, hosts: [mq.shop.svc], ports: [9092] }\n";
    let gateway = shop(both).start().await;
    let narrow = Caller::from(&gateway, "127.0.8.1").await;
    let wide = Caller::from(&gateway, "127.0.8.2").await;
    let first = lease(narrow.granted(renewing("a")).await);
    let held = lease(wide.granted(authorize("shop", "b", &[DB, ("mq.shop.svc", 9092)])).await);
    gateway.write("shop.yaml", profile("shop", "else.shop.svc", both));
    until_grants(&gateway, &[("127.0.8.2", 1)]).await;
    assert_eq!(verdict(&gateway, "127.0.8.1").await, Verdict::Denied);
    assert_eq!(verdict(&gateway, "127.0.8.2").await, Verdict::Denied);
    let left = narrow.all_grants().await;
    assert_eq!((&left[0].grant_id, left[0].generation), (&held.grant_id, held.generation + 1));
    expect_refused(&renew(&narrow, &first, "a").await.unwrap_err(), Code::NotFound, "GRANT_NOT_FOUND");
    // It asks again, and learns what has become of what it asked for.
    wide.denied(authorize("shop", "b", &[DB, ("mq.shop.svc", 9092)])).await;
    // A profile that is gone narrows nothing: its grants end with their leases, and are not renewed.
    gateway.remove("shop.yaml");
    gateway.until_profiles(0).await;
    let kept = Lease { grant_id: held.grant_id, generation: 0, ..Lease::default() };
    let refused = renew(&wide, &kept, "b").await.unwrap_err();
    expect_refused(&refused, Code::FailedPrecondition, "NO_LONGER_ALLOWED");
    until_grants(&gateway, &[("127.0.8.2", 1)]).await;
}

#[tokio::test]
async fn who_is_no_longer_listed_loses_the_grant() {
    let gateway = shop("").start().await;
    Caller::of(&gateway).await.granted(authorize("shop", "a", &[DB])).await;
    let other = profile_for("serviceAccount: { namespace: other, name: other }", "shop", DB.0, "");
    gateway.write("shop.yaml", other);
    until_grants(&gateway, &[]).await;
    assert_eq!(verdict(&gateway, "127.0.0.1").await, Verdict::Denied);
}

#[tokio::test]
async fn what_was_revoked_is_not_renewed() {
    let gateway = shop("").start().await;
    let caller = Caller::of(&gateway).await;
    let held = lease(caller.granted(renewing("a")).await);
    let target = Some(Target::GrantId(held.grant_id.clone()));
    caller.grants().revoke(GrantServiceRevokeRequest { target, reason: String::new() }).await.unwrap();
    expect_refused(&renew(&caller, &held, "a").await.unwrap_err(), Code::NotFound, "GRANT_NOT_FOUND");
}
