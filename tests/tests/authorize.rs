//! Authorize and its neighbours: what is free, what is spent, what is denied, and what is refused.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use podgate_proto::v1::{
    AuditServiceStreamRequest, AuthorizeRequest, DenialReason, Destination, ExplainRequest, GrantOrigin,
    Granted, Pod, Protocol, Verdict, authorize_request, authorize_response,
};
use podgate_tests::{
    caller::Caller,
    clock,
    gateway::{Gateway, Setup},
    raw::RawConnection,
    refusal::{fields, quotas, reason, retry_after},
    requests::{authorize, authorize_as, authorize_host, destination, explain_pod, pod},
    yaml::{common_ports, profile, profile_for},
};
use prost::Message as _;
use tonic::{Code, codegen::tokio_stream::once};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const DB: [(&str, u32); 1] = [("db.shop.svc", 3306)];
const DNS: (&str, u32) = ("dns.corp", 53);
const AUTHORIZE: &str = "/podgate.v1.AuthorizationService/Authorize";

/// Nothing comes back within a test.
const SLOW: &str = "  limits: { rate: 1/h, burst: 3 }\n";

fn shop(spec: &str) -> Setup {
    let common = common_ports("everywhere", DNS.0);
    Setup::new().with_file("shop.yaml", profile("shop", DB[0].0, spec)).with_file("common.yaml", common)
}

fn grant_id(granted: &Granted) -> &str {
    &granted.lease.as_ref().expect("no lease").grant_id
}

#[tokio::test]
async fn a_grant_tells_what_it_allows_by_which_rule_and_when_it_was_admitted() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let before = clock::since_boot();
    let response = caller.authorize(authorize("shop", "a", &[DB[0], DNS])).await.unwrap();
    let after = clock::since_boot();
    assert_eq!(response.policy_revision.len(), 16);
    let Some(authorize_response::Outcome::Granted(granted)) = response.outcome else {
        panic!("{response:?}")
    };
    let told: Vec<_> = granted
        .decisions
        .iter()
        .map(|decision| (decision.verdict(), decision.rule.as_str(), decision.document.as_str()))
        .collect();
    assert_eq!(told, [(Verdict::Allowed, "db", "shop"), (Verdict::Common, "dns", "everywhere")]);
    assert_eq!((granted.origin(), granted.shadow), (GrantOrigin::Fresh, false));
    let admitted_at = Duration::try_from(granted.admitted_at.unwrap()).unwrap();
    assert!((before..=after).contains(&admitted_at), "{admitted_at:?} is not in {before:?}..{after:?}");
    assert_eq!(granted.lease.unwrap().addresses, ["127.0.0.1"]);
    assert_eq!(caller.bucket("shop").await.available, 2);
}

#[tokio::test]
async fn common_ports_take_no_token_and_write_no_grant() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    for app in ["shop", "nobody"] {
        let granted = caller.granted(authorize(app, "a", &[DNS])).await;
        assert_eq!((granted.origin(), granted.lease, granted.admitted_at), (GrantOrigin::Common, None, None));
        assert_eq!(granted.decisions[0].verdict(), Verdict::Common);
    }
    assert_eq!(caller.all_grants().await, []);
    assert_eq!(caller.bucket("shop").await.available, 3);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_grant_and_costs_nothing() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let first = caller.granted(authorize("shop", "a", &DB)).await;
    for _ in 0..5 {
        let again = caller.granted(authorize("shop", "a", &DB)).await;
        assert_eq!(again.origin(), GrantOrigin::Repeated);
        assert_eq!((&again.lease, &again.admitted_at), (&first.lease, &first.admitted_at));
    }
    assert_eq!(caller.bucket("shop").await.available, 2);
    // Another question of the same pod is another admission, and adds to the grant.
    let more = caller.granted(authorize("shop", "a", &[])).await;
    assert_eq!((more.origin(), grant_id(&more)), (GrantOrigin::Fresh, grant_id(&first)));
    assert_eq!(caller.bucket("shop").await.available, 1);
}

#[tokio::test]
async fn beyond_its_burst_an_app_is_told_when_to_come_again() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    for number in 0..3 {
        caller.granted(authorize("shop", &number.to_string(), &DB)).await;
    }
    let refused = caller.refused(authorize("shop", "late", &DB)).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "APP_RATE"));
    assert_eq!(quotas(&refused), ["app"]);
    // The next slot is an hour away, beyond the horizon of two minutes: nothing is booked, and the delay is U(H/2, H).
    let told = retry_after(&refused).expect("no RetryInfo");
    assert!((Duration::from_secs(60)..=Duration::from_secs(120)).contains(&told), "{told:?}");
    // Nobody else pays for it: denials and common ports are answered as before, and the late pod holds nothing.
    caller.denied(authorize("shop", "late", &[("else.where", 1)])).await;
    caller.granted(authorize("shop", "late", &[DNS])).await;
    assert!(caller.all_grants().await.iter().all(|grant| grant.pod.as_ref().unwrap().uid != "late"));
}

#[tokio::test]
async fn what_the_shared_capacity_refuses_is_not_taken_from_the_app() {
    let setup = shop("  limits: { rate: 1/h, burst: 100 }\n");
    let gateway = setup.flag("--capacity-rate", "1/h").flag("--capacity-burst", "2").start().await;
    let caller = Caller::of(&gateway).await;
    for number in 0..2 {
        caller.granted(authorize("shop", &number.to_string(), &DB)).await;
    }
    for _ in 0..3 {
        let refused = caller.refused(authorize("shop", "late", &DB)).await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "CAPACITY"));
        assert_eq!(quotas(&refused), ["gateway"]);
        assert!(retry_after(&refused).is_some());
    }
    assert_eq!(caller.bucket("shop").await.available, 98);
}

#[tokio::test]
async fn each_address_has_its_own_limit_on_calls() {
    let setup = shop("").flag("--per-ip-rate", "1/h").flag("--per-ip-burst", "3");
    let gateway = setup.start().await;
    let caller = Caller::from(&gateway, "127.0.1.1").await;
    caller.granted(authorize("shop", "a", &DB)).await;
    caller.granted(authorize("shop", "a", &[DNS])).await;
    caller.denied(authorize("nobody", "a", &DB)).await;
    let refused = caller.refused(authorize("shop", "a", &[DNS])).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "PER_IP_CALLS"));
    assert_eq!(quotas(&refused), ["address"]);
    assert!(retry_after(&refused).is_some());
    // By address and not by connection; and nobody else is concerned.
    let same = Caller::from(&gateway, "127.0.1.1").await;
    assert_eq!(reason(&same.refused(authorize("shop", "a", &DB)).await), "PER_IP_CALLS");
    let other = Caller::from(&gateway, "127.0.1.2").await;
    other.granted(authorize("shop", "b", &DB)).await;
    assert_eq!(health(&caller).await, ServingStatus::Serving);
}

#[tokio::test]
async fn denials_name_the_first_reason_and_the_nearest_rule() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let reasons = async |request: AuthorizeRequest| {
        let denied = caller.denied(request).await;
        let last = denied.decisions.last().unwrap();
        assert!(!denied.explanation.is_empty() && !last.explanation.is_empty());
        (denied.reason(), last.reason(), last.rule.clone())
    };
    let udp = Destination { protocol: Protocol::Udp.into(), ..destination("db.shop.svc", 3306) };
    let over_udp = AuthorizeRequest { destinations: vec![udp], ..authorize("shop", "a", &[]) };
    let stranger = Pod { service_account: "stranger".into(), ..pod("a") };
    for (request, expected) in [
        (authorize("nobody", "a", &DB), (DenialReason::NoProfile, "")),
        (authorize_as("shop", stranger, &DB), (DenialReason::SubjectNotListed, "")),
        (authorize("shop", "a", &[("else.where", 1)]), (DenialReason::HostNotAllowed, "")),
        (authorize("shop", "a", &[DB[0], ("db.shop.svc", 3307)]), (DenialReason::PortNotAllowed, "db")),
        (over_udp, (DenialReason::ProtocolNotAllowed, "db")),
    ] {
        let (whole, last, rule) = reasons(request).await;
        assert_eq!((whole, last), (expected.0, expected.0));
        if !expected.1.is_empty() {
            assert_eq!(rule, expected.1);
        }
    }
    // All or nothing, and nothing was spent.
    assert_eq!(caller.all_grants().await, []);
    assert_eq!(caller.bucket("shop").await.available, 3);
}

#[tokio::test]
async fn shadow_mode_lets_through_and_says_so() {
    let gateway = shop("  mode: shadow\n").start().await;
    let caller = Caller::of(&gateway).await;
    let granted = caller.granted(authorize("shop", "a", &[("else.where", 1)])).await;
    assert!(granted.shadow);
    assert_eq!(granted.decisions[0].verdict(), Verdict::Denied);
    let check = caller.check("127.0.0.1", "else.where", 1).await;
    assert_eq!((check.verdict(), check.rule.as_str()), (Verdict::Allowed, ""));
    assert!(!caller.granted(authorize("shop", "b", &DB)).await.shadow);
}

#[tokio::test]
async fn a_machine_is_known_by_the_address_that_it_calls_from() {
    let machines = profile_for("hosts: { cidrs: [127.9.0.0/16] }", "shop", DB[0].0, "");
    let gateway = Setup::new().with_file("shop.yaml", machines).start().await;
    let machine = Caller::from(&gateway, "127.9.8.7").await;
    let granted = machine.granted(authorize_host("shop", &DB)).await;
    assert_eq!(granted.lease.unwrap().addresses, ["127.9.8.7"]);
    assert_eq!(machine.check("127.9.8.7", DB[0].0, DB[0].1).await.verdict(), Verdict::Allowed);
    assert_eq!(machine.all_grants().await[0].pod, None);

    let elsewhere = Caller::from(&gateway, "127.10.8.7").await;
    let denied = elsewhere.denied(authorize_host("shop", &DB)).await;
    assert_eq!(denied.reason(), DenialReason::SubjectNotListed);
    // A pod on a listed address is no machine.
    let denied = machine.denied(authorize("shop", "a", &DB)).await;
    assert_eq!(denied.reason(), DenialReason::SubjectNotListed);
}

#[tokio::test]
async fn an_address_has_to_be_proven_by_calling_from_it() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::from(&gateway, "127.0.1.1").await;
    let claiming = |addresses: &[&str]| {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        authorize_as("shop", Pod { addresses, ..pod("a") }, &DB)
    };
    let refused = caller.refused(claiming(&["10.8.3.17", "fd00::17"])).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "ADDRESS_NOT_PROVEN"));
    assert_eq!(caller.bucket("shop").await.available, 3);
    // Of those that it names, the lease covers only the one that it called from.
    let granted = caller.granted(claiming(&["10.8.3.17", "127.0.1.1"])).await;
    assert_eq!(granted.lease.unwrap().addresses, ["127.0.1.1"]);
    assert_eq!(caller.check("10.8.3.17", DB[0].0, DB[0].1).await.verdict(), Verdict::Denied);
}

#[tokio::test]
async fn a_call_whose_deadline_cannot_be_met_spends_nothing() {
    let gateway = shop(SLOW).start().await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let message = authorize("shop", "a", &DB).encode_to_vec();
    for timeout in ["0m", "1m", "999u", "1n"] {
        let status = raw.call(AUTHORIZE, &[("grpc-timeout", timeout)], &message).await.unwrap();
        let told = (status.code(), reason(&status));
        assert_eq!(told, (Code::DeadlineExceeded, "DEADLINE_TOO_SHORT".to_owned()), "{timeout}");
    }
    let caller = Caller::of(&gateway).await;
    assert_eq!(caller.all_grants().await, []);
    assert_eq!(caller.bucket("shop").await.available, 3);
    let status = raw.call(AUTHORIZE, &[("grpc-timeout", "30S")], &message).await.unwrap();
    assert_eq!(status.code(), Code::Ok, "{status:?}");
}

/// Fields of a request that is refused for them.
async fn refused_fields(caller: &Caller, request: AuthorizeRequest) -> Vec<String> {
    let refused = caller.refused(request).await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "INVALID_FIELD"),
        "{refused:?}"
    );
    fields(&refused)
}

#[tokio::test]
async fn absurd_requests_are_refused_field_by_field() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let with_pod = |pod: Pod| authorize_as("shop", pod, &DB);
    let none = AuthorizeRequest {
        destinations: vec![Destination::default(); 10_000],
        ..authorize("shop", "a", &[])
    };
    for (request, expected) in [
        (AuthorizeRequest::default(), &["app", "subject"][..]),
        (authorize("SHOP", "", &DB), &["app", "pod.uid"]),
        (with_pod(Pod { uid: "x".repeat(60_000), ..pod("a") }), &["pod.uid"]),
        (with_pod(Pod { uid: "a b\u{0}\u{e9}".into(), ..pod("a") }), &["pod.uid", "pod.uid"]),
        (with_pod(Pod { addresses: vec!["::ffff:127.0.0.1".into()], ..pod("a") }), &["pod.addresses[0]"]),
        (with_pod(Pod { addresses: vec!["127.0.0.1".into(); 17], ..pod("a") }), &["pod.addresses"]),
        (authorize("shop", "a", &[DB[0], ("db.shop.svc", 70_000)]), &["destinations[1].port"]),
        (
            authorize("shop", "a", &[("db.shop.svc", 0), ("", u32::MAX)]),
            &["destinations[0].port", "destinations[1].host", "destinations[1].port"],
        ),
        (authorize("shop", "a", &[("::ffff:10.0.0.1", 1)]), &["destinations[0].host"]),
        (AuthorizeRequest { ticket: vec![0; 513], ..authorize("shop", "a", &DB) }, &["ticket"]),
    ] {
        assert_eq!(refused_fields(&caller, request).await, expected);
    }
    let told = refused_fields(&caller, none).await;
    assert!(told[0] == "destinations" && told.len() <= 32, "{told:?}");
    let backwards = Destination { last_port: 79, ..destination("db.shop.svc", 80) };
    let request = AuthorizeRequest { destinations: vec![backwards], ..authorize("shop", "a", &[]) };
    assert_eq!(refused_fields(&caller, request).await, ["destinations[0].port"]);
    let strange = Destination { protocol: 7, ..destination("db.shop.svc", 80) };
    let request = AuthorizeRequest { destinations: vec![strange], ..authorize("shop", "a", &[]) };
    assert_eq!(refused_fields(&caller, request).await, ["destinations[0].protocol"]);

    assert_eq!(caller.bucket("shop").await.available, 3);
    caller.granted(authorize("shop", "a", &DB)).await;
}

#[tokio::test]
async fn what_is_larger_than_a_message_may_be_is_not_read() {
    let gateway = shop("").start().await;
    let caller = Caller::of(&gateway).await;
    let many: Vec<(&str, u32)> = vec![DB[0]; 10_000];
    for request in [
        authorize_as("shop", Pod { uid: "x".repeat(1 << 20), ..pod("a") }, &DB),
        authorize("shop", "a", &many),
    ] {
        assert_eq!(refused_fields(&caller, request).await, ["message"]);
        caller.granted(authorize("shop", "a", &DB)).await;
    }
    // Where larger messages are taken, the fields are refused.
    let gateway = shop("").flag("--max-message-bytes", "4194304").start().await;
    let caller = Caller::of(&gateway).await;
    let huge = authorize_as("shop", Pod { uid: "x".repeat(1 << 20), ..pod("a") }, &DB);
    assert_eq!(refused_fields(&caller, huge).await, ["pod.uid"]);
    assert_eq!(refused_fields(&caller, authorize("shop", "a", &many)).await, ["destinations"]);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let gateway = shop("").start().await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let not_utf8 = [b"\x0a\x02\xff\xfe".as_slice(), &authorize("", "a", &DB).encode_to_vec()].concat();
    for message in [not_utf8.as_slice(), b"\xff\xff\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f"] {
        let status = raw.call(AUTHORIZE, &[], message).await.unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let caller = Caller::of(&gateway).await;
    caller.granted(authorize("shop", "a", &DB)).await;
}

#[tokio::test]
async fn what_is_not_served_yet_says_so() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let status = caller.audit().stream(AuditServiceStreamRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "NOT_SERVED"), "{status:?}");
    let raw = RawConnection::open(gateway.grpc()).await;
    let status = raw.call("/podgate.v1.AuthorizationService/Nonsense", &[], b"").await.unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(caller.bucket("shop").await.available, 3);
}

async fn health(caller: &Caller) -> ServingStatus {
    let request = HealthCheckRequest { service: "podgate.v1.AuthorizationService".into() };
    HealthClient::new(caller.channel()).check(request).await.unwrap().into_inner().status()
}

async fn services(gateway: &Gateway) -> Vec<String> {
    let caller = Caller::of(gateway).await;
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut client = ServerReflectionClient::new(caller.channel());
    let mut answers = client.server_reflection_info(once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    match answer.message_response {
        Some(MessageResponse::ListServicesResponse(list)) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn foreign_clients_find_health_and_reflection() {
    let gateway = shop("").start().await;
    assert_eq!(health(&Caller::of(&gateway).await).await, ServingStatus::Serving);
    let services = services(&gateway).await;
    for name in [
        "podgate.v1.AuthorizationService",
        "podgate.v1.ProfileService",
        "podgate.v1.CommonPortsService",
        "podgate.v1.GrantService",
        "podgate.v1.AuditService",
        "grpc.health.v1.Health",
        "envoy.service.auth.v3.Authorization",
        "envoy.service.ratelimit.v3.RateLimitService",
    ] {
        assert!(services.iter().any(|service| service == name), "{name} is not in {services:?}");
    }
}

#[tokio::test]
async fn explaining_has_no_effect() {
    let gateway = shop(SLOW).start().await;
    let caller = Caller::of(&gateway).await;
    let explain =
        |host: &str| ExplainRequest { destinations: vec![destination(host, 3306)], ..explain_pod("shop") };
    let allowed = caller.explain(explain("db.shop.svc")).await;
    assert!(allowed.allowed);
    assert_eq!(allowed.decisions[0].rule, "db");
    let denied = caller.explain(explain("else.where")).await;
    assert_eq!((denied.allowed, denied.reason()), (false, DenialReason::HostNotAllowed));
    let bucket = denied.bucket.unwrap();
    assert_eq!((bucket.burst, bucket.available), (3, 3));
    assert_eq!(caller.all_grants().await, []);
    // Who asks is a pod or a machine, and has to be said.
    let request = ExplainRequest { subject: None, ..explain("db") };
    let refused = caller.authorization().explain(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["subject"]);
    let nobody =
        AuthorizeRequest { subject: None::<authorize_request::Subject>, ..authorize("shop", "a", &DB) };
    assert_eq!(refused_fields(&caller, nobody).await, ["subject"]);
}
