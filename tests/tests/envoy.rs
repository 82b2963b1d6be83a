//! A real Envoy asks podgate whom it lets through, with the configurations of `examples/envoy`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use podgate_proto::{
    envoy::{
        config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::{
            auth::v3::{
                AttributeContext, CheckRequest, CheckResponse,
                attribute_context::{HttpRequest, Peer, Request, TlsSession},
                authorization_client::AuthorizationClient,
                check_response::HttpResponse,
            },
            ratelimit::v3::{
                RateLimitRequest, RateLimitResponse,
                rate_limit_response::{Code as LimitCode, DescriptorStatus, RateLimit, rate_limit::Unit},
                rate_limit_service_client::RateLimitServiceClient,
            },
        },
    },
    v1::{GrantServiceRevokeRequest, grant_service_revoke_request::Target},
};
use podgate_tests::{
    caller::Caller,
    envoy::{Databases, HttpService, example_text, examples, validate},
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    guarded_redis::{Passage, ping_from},
    refusal::{fields, reason},
    requests::authorize,
    wall_clock::WallClock,
    workspace::root,
    yaml::profile,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
};
use tonic::{Code, Status, metadata::MetadataValue};

const POD: &str = "127.7.41.17";
const OTHER_POD: &str = "127.7.41.18";

/// A gateway with the profiles of the example.
fn of_example() -> Setup {
    Setup::new().flag("--profiles", &root().join("examples/envoy/profiles").display().to_string())
}

async fn grant(gateway: &Gateway, from: &str) {
    Caller::from(gateway, from).await.granted(authorize("shop", from, &[])).await;
}

async fn revoke(gateway: &Gateway, address: &str) {
    let target = Some(Target::Address(address.to_owned()));
    let request = GrantServiceRevokeRequest { target, ..GrantServiceRevokeRequest::default() };
    let answer = Caller::of(gateway).await.grants().revoke(request).await.unwrap();
    assert_eq!(answer.into_inner().revoked, 1);
}

/// How many were counted; none if there was none.
async fn checks(gateway: &Gateway, labels: &str) -> Option<f64> {
    gateway.page("/metrics").await.metric("podgate_envoy_checks_total", labels)
}

#[tokio::test]
async fn a_connection_passes_with_a_grant_and_only_to_what_is_granted() {
    let gateway = of_example().start().await;
    let databases = Databases::start(&gateway).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Closed);
    assert_eq!(checks(&gateway, "verdict=\"denied\"").await, Some(1.0));

    grant(&gateway, POD).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Open);
    assert_eq!(checks(&gateway, "filter=\"network\",verdict=\"allowed\"").await, Some(1.0));
    // The other one has the same port, and its name is not granted; nor is anything to another address.
    for _ in 0..20 {
        assert_eq!(ping_from(POD, databases.stock).await, Passage::Closed);
        assert_eq!(ping_from(OTHER_POD, databases.order).await, Passage::Closed);
    }
    assert_eq!(checks(&gateway, "verdict=\"denied\"").await, Some(41.0));

    revoke(&gateway, POD).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Closed);
    assert_eq!(checks(&gateway, "verdict=\"denied\"").await, Some(42.0));
    grant(&gateway, POD).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Open);
}

/// A server that speaks first, as MySQL does, and answers what it hears; what it heard.
async fn speaks_first() -> (net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let _ = stream.write_all(b"greeting\n").await;
                let mut bytes = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    count.fetch_add(length, Ordering::Relaxed);
                    let _ = stream.write_all(b"welcome\n").await;
                }
            });
        }
    });
    (address, heard)
}

/// What a client of such a server reads when it answers the greeting with its login.
async fn log_in(from: &str, to: net::SocketAddr) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(net::SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let mut read = vec![0; 9];
    within("the greeting", stream.read_exact(&mut read)).await.unwrap();
    stream.write_all(b"login\n").await.unwrap();
    let mut answer = [0; 64];
    // Closed in order or by a reset: either way there is no answer.
    let length = within("an answer or an end", stream.read(&mut answer)).await.unwrap_or(0);
    read.extend(&answer[..length]);
    String::from_utf8(read).unwrap()
}

/// Envoy asks on the client's first bytes: the greeting is there before, and nothing else passes.
#[tokio::test]
async fn of_two_databases_that_speak_first_only_the_granted_one_is_reached() {
    let gateway = of_example().start().await;
    let ((order, order_heard), (stock, stock_heard)) = (speaks_first().await, speaks_first().await);
    let databases = Databases::before_own(&gateway, [order, stock]).await;
    grant(&gateway, POD).await;
    assert_eq!(log_in(POD, databases.order).await, "greeting\nwelcome\n");
    for _ in 0..10 {
        assert_eq!(log_in(POD, databases.stock).await, "greeting\n");
        assert_eq!(log_in(OTHER_POD, databases.order).await, "greeting\n");
    }
    assert_eq!((order_heard.load(Ordering::Relaxed), stock_heard.load(Ordering::Relaxed)), (6, 0));
}

#[tokio::test]
async fn a_connection_does_not_pass_once_the_grant_has_expired() {
    let (setup, clock) = WallClock::of(of_example());
    let gateway = setup.start().await;
    let databases = Databases::start(&gateway).await;
    grant(&gateway, POD).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Open);
    clock.forward("59m");
    assert_eq!(ping_from(POD, databases.order).await, Passage::Open);
    clock.forward("61m");
    assert_eq!(ping_from(POD, databases.order).await, Passage::Closed);
    assert_eq!(checks(&gateway, "verdict=\"denied\"").await, Some(1.0));
}

#[tokio::test]
async fn without_podgate_no_connection_passes() {
    let gateway = of_example().start().await;
    let databases = Databases::start(&gateway).await;
    grant(&gateway, POD).await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Open);
    let _setup = gateway.kill().await;
    assert_eq!(ping_from(POD, databases.order).await, Passage::Closed);
}

#[tokio::test]
async fn a_request_passes_with_a_grant_and_is_told_why_it_does_not() {
    let gateway = of_example().start().await;
    let service = HttpService::start(&gateway).await;
    let denied = service.get_from(POD, "/").await;
    assert_eq!((denied.status, denied.header("x-podgate-reason")), (403, Some("NO_GRANT")), "{denied:?}");
    assert!(denied.body.contains("no living grant"), "{denied:?}");

    grant(&gateway, POD).await;
    let passed = service.get_from(POD, "/").await;
    assert_eq!((passed.status, &*passed.body), (200, "orders\n"), "{passed:?}");
    // This route guards another name.
    assert_eq!(service.get_from(POD, "/admin/").await.status, 403);
    assert_eq!(checks(&gateway, "filter=\"http\",verdict=\"denied\"").await, Some(2.0));
    revoke(&gateway, POD).await;
    assert_eq!(service.get_from(POD, "/").await.status, 403);
}

/// Each address may ask five times at once, and then once a minute.
#[tokio::test]
async fn who_asks_too_often_is_told_when_there_is_room() {
    let gateway = of_example().start().await;
    let service = HttpService::start(&gateway).await;
    grant(&gateway, POD).await;
    grant(&gateway, OTHER_POD).await;
    for left in (0..5).rev() {
        let passed = service.get_from(POD, "/").await;
        assert_eq!(passed.status, 200, "{passed:?}");
        assert_eq!(passed.header("x-ratelimit-remaining"), Some(left.to_string().as_str()), "{passed:?}");
        let limit = passed.header("x-ratelimit-limit").unwrap();
        assert!(limit.starts_with("1, 1;w=60;name=\"remote_address\""), "{limit}");
    }
    let refused = service.get_from(POD, "/").await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, Some("0")), "{refused:?}");
    assert!(refused.header("x-envoy-ratelimited").is_some(), "{refused:?}");
    let reset: u32 = refused.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((20..60).contains(&reset), "{refused:?}");
    // Others have their own bucket, and what was refused spent nothing of that of all.
    assert_eq!(service.get_from(OTHER_POD, "/").await.status, 200);
    let page = gateway.page("/metrics").await;
    let calls = |labels| page.metric("podgate_rate_limit_calls_total", labels);
    assert_eq!(calls("domain=\"orders\",result=\"within\""), Some(6.0));
    assert_eq!(calls("domain=\"orders\",result=\"over\""), Some(1.0));
    assert_eq!(page.metric("podgate_rate_limit_over_total", "limit=\"remote_address\""), Some(1.0));
}

#[tokio::test]
async fn envoy_finds_the_examples_good() {
    let examples = examples();
    assert!(examples.len() >= 2, "{examples:?}");
    for example in examples {
        good(&example, &example_text(&example)).await;
    }
}

async fn good(what: &str, configuration: &str) {
    let output = validate(configuration).await;
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Istio is not here, but what its EnvoyFilters put into Envoy is, in the places of the same filters of `http.yaml`.
#[tokio::test]
async fn envoy_finds_the_filters_for_istio_good() {
    let (http, istio) = (example_text("http.yaml"), example_text("istio/orders.yaml"));
    // Istio merges the one into a filter of its own making, which has these.
    let made = "transport_api_version: V3\n  grpc_service:\n    envoy_grpc: { cluster_name: podgate }\n";
    let checks = block(&istio, "name: envoy.filters.http.ext_authz\n").replace("grpc_service:\n", made);
    let rates = block(&istio, "name: envoy.filters.http.ratelimit\n");
    let rates = rates.replace("outbound|7420||podgate.podgate.svc.cluster.local", "podgate");
    for (filter, by) in [("ext_authz", checks), ("ratelimit", rates)] {
        let mine = block(&http, &format!("name: envoy.filters.http.{filter}\n"));
        let indented = |text: &str| text.replace('\n', &format!("\n{}", " ".repeat(20)));
        assert!(http.contains(&indented(&mine)), "{mine}");
        good(filter, &http.replace(&indented(&mine), &indented(&by))).await;
    }
}

/// The mapping that begins with this line, the last one of it, without what indents it.
fn block(text: &str, first: &str) -> String {
    let at = text.find(&format!("{first} ")).unwrap_or_else(|| panic!("no {first}"));
    let indent = text[..at].lines().last().unwrap_or_default().len();
    let lines = text[at..].lines().skip(1).take_while(|line| line.chars().take(indent).all(|it| it == ' '));
    let lines: Vec<&str> = lines.map(|line| line.get(indent..).unwrap_or_default()).collect();
    format!("{first}{}", lines.join("\n"))
}

/// What an Envoy asks, by hand.
fn asked(source: &str, destination: &str, port: u32) -> AttributeContext {
    let peer = |address: &str, port| Peer {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: address.to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(port)),
                ..SocketAddress::default()
            })),
        }),
        ..Peer::default()
    };
    let (source, destination) = (Some(peer(source, 40_000)), Some(peer(destination, port)));
    AttributeContext { source, destination, ..AttributeContext::default() }
}

async fn ask(gateway: &Gateway, guards: &str, attributes: AttributeContext) -> Result<CheckResponse, Status> {
    let mut client = AuthorizationClient::new(Caller::of(gateway).await.channel());
    let mut request = tonic::Request::new(CheckRequest { attributes: Some(attributes) });
    if !guards.is_empty() {
        request.metadata_mut().insert("podgate-guards", MetadataValue::try_from(guards).unwrap());
    }
    client.check(request).await.map(tonic::Response::into_inner)
}

async fn code(gateway: &Gateway, guards: &str, attributes: AttributeContext) -> Code {
    ask(gateway, guards, attributes).await.unwrap().status.unwrap().code.into()
}

#[tokio::test]
async fn addresses_names_and_identities_are_told_apart() {
    let profile = profile("shop", "'*.db.svc', 10.9.0.0/24", "");
    let gateway = Setup::new().with_file("shop.yaml", profile).start().await;
    grant(&gateway, POD).await;
    let named = |name: &str| {
        let tls_session = Some(TlsSession { sni: name.to_owned() });
        AttributeContext { tls_session, ..asked(POD, "10.7.7.7", 3306) }
    };
    let by = |principal: &str| {
        let mut attributes = asked(POD, "10.9.0.7", 3306);
        attributes.source.as_mut().unwrap().principal = principal.to_owned();
        attributes
    };
    for (guards, attributes, expected) in [
        // Without guards it is the address, however it is written, and never the sender's word.
        ("", asked(POD, "10.9.0.7", 3306), Code::Ok),
        ("", asked(&format!("::ffff:{POD}"), "::ffff:10.9.0.7", 3306), Code::Ok),
        ("", asked(POD, "10.9.0.7", 3307), Code::PermissionDenied),
        ("", asked(POD, "10.9.1.7", 3306), Code::PermissionDenied),
        ("", named("mysql.db.svc"), Code::PermissionDenied),
        ("mysql.db.svc:3306", asked(POD, "10.7.7.7", 13306), Code::Ok),
        ("mysql.cache.svc:3306", asked(POD, "10.9.0.7", 3306), Code::PermissionDenied),
        ("mysql.cache.svc:3306, 10.9.0.0/24:3306", asked(POD, "10.9.0.7", 3306), Code::Ok),
        ("*.svc:3306", named("mysql.db.svc"), Code::Ok),
        ("*.svc:3306", named("mysql.cache.svc"), Code::PermissionDenied),
        ("*.svc:3306", asked(POD, "10.9.0.7", 3306), Code::PermissionDenied),
        // Who has proven to be another than the grant's holder has no part in it.
        ("", by("spiffe://cluster.local/ns/shop/sa/shop"), Code::Ok),
        ("", by("spiffe://cluster.local/ns/shop/sa/other"), Code::PermissionDenied),
        ("", by("CN=anything"), Code::Ok),
    ] {
        assert_eq!(code(&gateway, guards, attributes.clone()).await, expected, "{guards} {attributes:?}");
    }
    // What is set for a route goes before what is set for the filter.
    let mut attributes = asked(POD, "10.7.7.7", 80);
    attributes.request = Some(Request { http: Some(HttpRequest::default()), ..Request::default() });
    attributes.context_extensions.insert("podgate-guards".into(), "mysql.db.svc:3306".into());
    let passed = ask(&gateway, "mysql.cache.svc:3306", attributes.clone()).await.unwrap();
    assert!(matches!(passed.http_response, Some(HttpResponse::OkResponse(_))), "{passed:?}");
    let told = passed.dynamic_metadata.unwrap().fields;
    assert_eq!(told.keys().map(String::as_str).collect::<Vec<_>>(), ["app", "grant", "rule", "verdict"]);
    attributes.context_extensions.insert("podgate-cluster".into(), "bj-1".into());
    assert_eq!(code(&gateway, "", attributes).await, Code::PermissionDenied);
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_and_no_denial() {
    let gateway = Setup::new().at_own_address().with_file("shop.yaml", "kind: [").start_unready().await;
    let refused = ask(&gateway, "", asked(POD, "10.9.0.7", 3306)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "NO_POLICY"));
    let refused = ask(&gateway, "mysql", asked("pod", "10.9.0.7", 70_000)).await.unwrap_err();
    let wrong = [
        "attributes.source.address.socket_address.address",
        "attributes.destination.address.socket_address.port_value",
        "metadata[podgate-guards]",
    ];
    assert_eq!(
        (refused.code(), fields(&refused)),
        (Code::InvalidArgument, wrong.map(str::to_owned).to_vec())
    );
    let refused = ask(&gateway, "", AttributeContext::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["attributes.source.address", "attributes.destination.address"]);
    assert_eq!(gateway.metric("podgate_refusals_total").await, Some(3.0));
    assert_eq!(checks(&gateway, "").await, None);
}

const LIMITS: &str = "
apiVersion: podgate.io/v1
kind: RateLimits
metadata: { name: shop }
spec:
  domain: shop
  descriptors:
    - { key: path, value: /order, rate: 1/h, burst: 3 }
    - { key: user, rate: 2/h, burst: 2 }
    - { key: trial, value: x, rate: 1/h, burst: 1, shadow: true }
";

async fn limit(gateway: &Gateway, hits: u32, descriptors: &[(&str, &str)]) -> RateLimitResponse {
    limited(gateway, "shop", hits, descriptors).await.unwrap()
}

async fn limited(
    gateway: &Gateway,
    domain: &str,
    hits_addend: u32,
    descriptors: &[(&str, &str)],
) -> Result<RateLimitResponse, Status> {
    let descriptors = descriptors.iter().map(|(key, value)| RateLimitDescriptor {
        entries: vec![Entry { key: (*key).to_owned(), value: (*value).to_owned() }],
        ..RateLimitDescriptor::default()
    });
    let domain = domain.to_owned();
    let request = RateLimitRequest { domain, descriptors: descriptors.collect(), hits_addend };
    let mut client = RateLimitServiceClient::new(Caller::of(gateway).await.channel());
    client.should_rate_limit(request).await.map(tonic::Response::into_inner)
}

fn remaining(response: &RateLimitResponse) -> Vec<u32> {
    response.statuses.iter().map(|status| status.limit_remaining).collect()
}

#[tokio::test]
async fn buckets_are_spent_together_and_live_through_a_reload() {
    let gateway = Setup::new().with_file("limits.yaml", LIMITS).start().await;
    let all = [("path", "/order"), ("user", "li"), ("trial", "x"), ("path", "/free")];
    let within = limit(&gateway, 0, &all).await;
    assert_eq!((within.overall_code(), remaining(&within)), (LimitCode::Ok, vec![2, 1, 0, 0]));
    let expected = RateLimit { name: "path".to_owned(), requests_per_unit: 1, unit: Unit::Hour.into() };
    assert_eq!(within.statuses[0].current_limit, Some(expected));
    assert_eq!(
        within.statuses[3],
        DescriptorStatus { code: LimitCode::Ok.into(), ..DescriptorStatus::default() }
    );
    // Two hits find no room with one of them, and so spend with none; what is on trial does not count.
    let over = limit(&gateway, 2, &all).await;
    assert_eq!((over.overall_code(), remaining(&over)), (LimitCode::OverLimit, vec![2, 1, 0, 0]));
    let codes: Vec<LimitCode> = over.statuses.iter().map(DescriptorStatus::code).collect();
    assert_eq!(codes, [LimitCode::Ok, LimitCode::OverLimit, LimitCode::Ok, LimitCode::Ok]);
    let wait = over.statuses[1].duration_until_reset.unwrap().seconds;
    assert!((1_700..1_800).contains(&wait), "{over:?}");

    gateway.write("limits.yaml", LIMITS.replace("key: user,", "key: name,"));
    gateway.write("more.yaml", LIMITS.replace("shop", "more"));
    eventually("the new documents", async || {
        (gateway.metric("podgate_policy_rate_limits").await == Some(2.0)).then_some(())
    })
    .await;
    let kept = limit(&gateway, 1, &all).await;
    assert_eq!((kept.overall_code(), remaining(&kept)), (LimitCode::Ok, vec![1, 0, 0, 0]));
    let other = limited(&gateway, "more", 1, &all).await.unwrap();
    assert_eq!(remaining(&other), [2, 1, 0, 0]);
}

#[tokio::test]
async fn who_asks_about_no_limit_is_told_so_or_what_is_wrong() {
    let gateway = Setup::new().with_file("limits.yaml", LIMITS).start().await;
    let unknown = limited(&gateway, "nobodys", 1, &[("path", "/order")]).await.unwrap();
    assert_eq!((unknown.overall_code(), unknown.statuses.len()), (LimitCode::Ok, 1));
    let refused = limited(&gateway, "", 1, &[]).await.unwrap_err();
    assert_eq!(
        (refused.code(), fields(&refused)),
        (Code::InvalidArgument, vec!["domain".into(), "descriptors".into()])
    );
    gateway.write("second.yaml", LIMITS.replace("name: shop", "name: other"));
    let detail = gateway.until_readiness("a fault", |detail| detail["faults_total"] == 1).await;
    let fault = detail["faults"][0].as_str().unwrap();
    assert!(
        fault.contains("second.yaml:2:1: spec.domain: a second RateLimits has the domain `shop`"),
        "{fault}"
    );
}

/// Before anything is known, nothing is limited: that is an error, and Envoy does with it as it is told.
#[tokio::test]
async fn no_limit_is_told_before_the_documents_are_read() {
    let gateway = Setup::new().at_own_address().with_file("limits.yaml", "kind: [").start_unready().await;
    let refused = limited(&gateway, "shop", 1, &[("path", "/order")]).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "NO_POLICY"));
}
