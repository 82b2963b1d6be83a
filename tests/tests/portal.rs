//! The Portal's side: profiles, common ports and grants, each change obeyed by the next call.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use podgate_proto::v1::{
    self, CommonPorts, CommonPortsServiceApplyRequest, CommonPortsServiceDeleteRequest,
    CommonPortsServiceGetRequest, CommonPortsServiceListRequest, DenialReason, GrantOrigin,
    GrantServiceListRequest, GrantServiceRevokeRequest, Profile, ProfileServiceApplyRequest,
    ProfileServiceDeleteRequest, ProfileServiceGetRequest, ProfileServiceListRequest, ReleaseRequest, Rule,
    SourceKind, Verdict, grant_service_revoke_request::Target,
};
use podgate_tests::{
    caller::Caller,
    documents::{common_ports as common, profile, rule},
    gateway::Setup,
    refusal::{fields, reason},
    requests::authorize,
    yaml,
};
use tonic::{Code, Status};

const DB: [(&str, u32); 1] = [("db.shop.svc", 3306)];

fn document(name: &str) -> Profile {
    profile(name, DB[0].0)
}

async fn apply(portal: &Caller, profile: Profile, etag: &str) -> Result<Profile, Status> {
    let request =
        ProfileServiceApplyRequest { profile: Some(profile), etag: etag.into(), validate_only: false };
    Ok(portal.profiles().apply(request).await?.into_inner().profile.unwrap())
}

async fn get(portal: &Caller, name: &str) -> Result<Profile, Status> {
    let request = ProfileServiceGetRequest { name: name.into() };
    Ok(portal.profiles().get(request).await?.into_inner().profile.unwrap())
}

async fn delete(portal: &Caller, name: &str, etag: &str) -> Result<(), Status> {
    let request = ProfileServiceDeleteRequest { name: name.into(), etag: etag.into() };
    portal.profiles().delete(request).await.map(drop)
}

async fn apply_common(portal: &Caller, common: CommonPorts, etag: &str) -> Result<CommonPorts, Status> {
    let request = CommonPortsServiceApplyRequest {
        common_ports: Some(common),
        etag: etag.into(),
        validate_only: false,
    };
    Ok(portal.common_ports().apply(request).await?.into_inner().common_ports.unwrap())
}

async fn delete_common(portal: &Caller, name: &str, etag: &str) -> Result<(), Status> {
    let request = CommonPortsServiceDeleteRequest { name: name.into(), etag: etag.into() };
    portal.common_ports().delete(request).await.map(drop)
}

#[tokio::test]
async fn a_profile_is_applied_changed_and_deleted_and_obeyed_at_once() {
    let gateway = Setup::new().start().await;
    let portal = Caller::of(&gateway).await;
    let denied = portal.denied(authorize("shop", "a", &DB)).await;
    assert_eq!(denied.reason(), DenialReason::NoProfile);

    let first = apply(&portal, document("shop"), "").await.unwrap();
    assert_eq!(first.etag.len(), 16);
    assert_eq!(first.source.as_ref().unwrap().kind(), SourceKind::Api);
    assert_eq!(get(&portal, "shop").await.unwrap(), first);
    let granted = portal.granted(authorize("shop", "a", &DB)).await;
    assert_eq!(granted.origin(), GrantOrigin::Fresh);

    // Wider, under the etag that was read.
    let wider = Profile {
        allow: vec![rule("db", "db.shop.svc", 3306), rule("mq", "mq.shop.svc", 9092)],
        ..first.clone()
    };
    let second = apply(&portal, wider, &first.etag).await.unwrap();
    assert_ne!(second.etag, first.etag);
    portal.granted(authorize("shop", "a", &[("mq.shop.svc", 9092)])).await;

    // Whoever read the first one is too late.
    let stale = apply(&portal, document("shop"), &first.etag).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert!(stale.message().contains(&second.etag), "{}", stale.message());
    assert_eq!(get(&portal, "shop").await.unwrap(), second);
    let stale = delete(&portal, "shop", &first.etag).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);

    delete(&portal, "shop", &second.etag).await.unwrap();
    let denied = portal.denied(authorize("shop", "a", &DB)).await;
    assert_eq!(denied.reason(), DenialReason::NoProfile);
    // Living grants end with their lease.
    assert_eq!(portal.check("127.0.0.1", "mq.shop.svc", 9092).await.verdict(), Verdict::Allowed);

    for gone in [get(&portal, "shop").await.unwrap_err(), delete(&portal, "shop", "").await.unwrap_err()] {
        assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "NOT_FOUND"));
    }
    // An etag of something that is not there.
    assert_eq!(apply(&portal, document("new"), &first.etag).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn common_ports_are_applied_changed_and_deleted_and_obeyed_at_once() {
    let gateway = Setup::new().start().await;
    let portal = Caller::of(&gateway).await;
    let dns = authorize("nobody", "a", &[("dns.corp", 53)]);
    portal.denied(dns.clone()).await;

    let first = apply_common(&portal, common("everywhere", "dns.corp"), "").await.unwrap();
    assert_eq!(portal.granted(dns.clone()).await.origin(), GrantOrigin::Common);
    assert_eq!(portal.check("10.1.2.3", "dns.corp", 53).await.verdict(), Verdict::Common);

    let second = apply_common(&portal, common("everywhere", "dns2.corp"), &first.etag).await.unwrap();
    portal.denied(dns.clone()).await;
    let stale = apply_common(&portal, common("everywhere", "dns.corp"), &first.etag).await.unwrap_err();
    assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    let request = CommonPortsServiceGetRequest { name: "everywhere".into() };
    let got = portal.common_ports().get(request).await.unwrap().into_inner();
    assert_eq!(got.common_ports, Some(second));

    assert_eq!(delete_common(&portal, "everywhere", &first.etag).await.unwrap_err().code(), Code::Aborted);
    delete_common(&portal, "everywhere", "").await.unwrap();
    portal.denied(authorize("nobody", "a", &[("dns2.corp", 53)])).await;
    assert_eq!(delete_common(&portal, "everywhere", "").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn lists_come_in_pages_by_name_and_prefix() {
    let gateway =
        Setup::new().with_file("file.yaml", yaml::profile("shop-file", "db.shop.svc", "")).start().await;
    let portal = Caller::of(&gateway).await;
    for name in ["shop-c", "hotel", "shop-a", "shop-b"] {
        apply(&portal, document(name), "").await.unwrap();
        apply_common(&portal, common(name, "dns.corp"), "").await.unwrap();
    }
    let mut request =
        ProfileServiceListRequest { page_size: 2, name_prefix: "shop-".into(), ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = portal.profiles().list(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.total_size, 4);
        pages.push(page.profiles.into_iter().map(|profile| profile.name).collect::<Vec<_>>());
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(pages, [["shop-a", "shop-b"], ["shop-c", "shop-file"]]);

    let page = portal.profiles().list(ProfileServiceListRequest::default()).await.unwrap().into_inner();
    assert_eq!((page.profiles.len(), page.total_size, page.next_page_token.as_str()), (5, 5, ""));

    let request = CommonPortsServiceListRequest { page_size: 3, ..Default::default() };
    let first = portal.common_ports().list(request).await.unwrap().into_inner();
    assert_eq!((first.common_ports.len(), first.total_size), (3, 4));
    let request = CommonPortsServiceListRequest { page_token: first.next_page_token, ..Default::default() };
    let last = portal.common_ports().list(request).await.unwrap().into_inner();
    assert_eq!(last.common_ports[0].name, "shop-c");
    assert_eq!(last.next_page_token, "");

    for (request, field) in [
        (ProfileServiceListRequest { page_size: -1, ..Default::default() }, "page_size"),
        (ProfileServiceListRequest { page_token: "No Token".into(), ..Default::default() }, "page_token"),
    ] {
        let refused = portal.profiles().list(request).await.unwrap_err();
        assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test]
async fn what_is_only_validated_changes_nothing() {
    let gateway = Setup::new().start().await;
    let portal = Caller::of(&gateway).await;
    let validate = |profile| ProfileServiceApplyRequest {
        profile: Some(profile),
        validate_only: true,
        ..ProfileServiceApplyRequest::default()
    };
    let would_be =
        portal.profiles().apply(validate(document("shop"))).await.unwrap().into_inner().profile.unwrap();
    assert_eq!(get(&portal, "shop").await.unwrap_err().code(), Code::NotFound);
    portal.denied(authorize("shop", "a", &DB)).await;
    let applied = apply(&portal, document("shop"), "").await.unwrap();
    assert_eq!(applied.etag, would_be.etag);

    // Faults and stale etags are found without effect, too.
    let refused = portal
        .profiles()
        .apply(validate(Profile { name: "No".into(), ..document("shop") }))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let stale = ProfileServiceApplyRequest { etag: "0123456789abcdef".into(), ..validate(document("shop")) };
    assert_eq!(portal.profiles().apply(stale).await.unwrap_err().code(), Code::Aborted);

    let request = CommonPortsServiceApplyRequest {
        common_ports: Some(common("everywhere", "dns.corp")),
        validate_only: true,
        ..CommonPortsServiceApplyRequest::default()
    };
    portal.common_ports().apply(request).await.unwrap();
    portal.denied(authorize("nobody", "a", &[("dns.corp", 53)])).await;
}

#[tokio::test]
async fn what_comes_from_a_file_is_read_only() {
    let gateway = Setup::new()
        .with_file("shop.yaml", yaml::profile("shop", "db.shop.svc", ""))
        .with_file("common.yaml", yaml::common_ports("everywhere", "dns.corp"))
        .start()
        .await;
    let portal = Caller::of(&gateway).await;
    let source = get(&portal, "shop").await.unwrap().source.unwrap();
    assert_eq!(source.kind(), SourceKind::File);
    assert!(source.path.ends_with("shop.yaml"), "{source:?}");
    for refused in [
        apply(&portal, document("shop"), "").await.unwrap_err(),
        delete(&portal, "shop", "").await.unwrap_err(),
        apply_common(&portal, common("everywhere", "dns2.corp"), "").await.unwrap_err(),
        delete_common(&portal, "everywhere", "").await.unwrap_err(),
    ] {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "READ_ONLY_FILE"));
        assert!(refused.message().contains(".yaml"), "{}", refused.message());
    }
    portal.granted(authorize("shop", "a", &DB)).await;
}

#[tokio::test]
async fn every_fault_of_a_document_is_told_with_its_field() {
    let gateway = Setup::new().start().await;
    let portal = Caller::of(&gateway).await;
    let faulty = Profile {
        name: "Shop".into(),
        subjects: Vec::new(),
        allow: vec![Rule { ports: vec!["0".into(), "80".into()], ..rule("db", "10.9.0.1/24", 1) }],
        limits: Some(v1::Limits { rate: "50/d".into(), ..v1::Limits::default() }),
        lease: Some(v1::LeasePolicy {
            max_age: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..v1::LeasePolicy::default()
        }),
        mode: 9,
        ..document("shop")
    };
    let refused = apply(&portal, faulty, "").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
    let fields_of = fields(&refused);
    for field in [
        "profile.name",
        "profile.subjects",
        "profile.allow[0].hosts[0]",
        "profile.allow[0].ports[0]",
        "profile.limits.rate",
        "profile.lease.max_age",
        "profile.mode",
    ] {
        assert!(fields_of.iter().any(|it| it == field), "{field} is not in {fields_of:?}");
    }
    let refused = apply_common(&portal, common("everywhere", "no host"), "").await.unwrap_err();
    assert_eq!(fields(&refused), ["common_ports.allow[0].hosts[0]"]);
    let refused = portal.profiles().apply(ProfileServiceApplyRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), fields(&refused).len()), (Code::InvalidArgument, 1));
}

#[tokio::test]
async fn applied_documents_survive_a_restart() {
    let gateway = Setup::new().start().await;
    let portal = Caller::of(&gateway).await;
    let applied = apply(&portal, document("shop"), "").await.unwrap();
    apply_common(&portal, common("everywhere", "dns.corp"), "").await.unwrap();
    apply(&portal, document("gone"), "").await.unwrap();
    delete(&portal, "gone", "").await.unwrap();

    let gateway = gateway.kill().await.start().await;
    let portal = Caller::of(&gateway).await;
    assert_eq!(get(&portal, "shop").await.unwrap(), applied);
    assert_eq!(get(&portal, "gone").await.unwrap_err().code(), Code::NotFound);
    portal.granted(authorize("nobody", "a", &[("dns.corp", 53)])).await;
}

async fn grants(portal: &Caller, request: GrantServiceListRequest) -> v1::GrantServiceListResponse {
    portal.grants().list(request).await.unwrap().into_inner()
}

async fn revoke(portal: &Caller, target: Target) -> u32 {
    let request = GrantServiceRevokeRequest { target: Some(target), reason: "a test".into() };
    portal.grants().revoke(request).await.unwrap().into_inner().revoked
}

#[tokio::test]
async fn grants_are_listed_in_pages_and_by_app_and_address() {
    let gateway = Setup::new()
        .with_file("shop.yaml", yaml::profile("shop", "db.shop.svc", ""))
        .with_file("cart.yaml", yaml::profile("cart", "db.cart.svc", ""))
        .start()
        .await;
    let portal = Caller::of(&gateway).await;
    for last in 1..=5 {
        let pod = Caller::from(&gateway, &format!("127.0.1.{last}")).await;
        pod.granted(authorize("shop", &format!("shop-{last}"), &[])).await;
    }
    let pod = Caller::from(&gateway, "127.0.1.6").await;
    pod.granted(authorize("cart", "cart-6", &[])).await;

    let mut request = GrantServiceListRequest { page_size: 4, ..Default::default() };
    let first = grants(&portal, request.clone()).await;
    assert_eq!(first.grants.len(), 4);
    let uids = |page: &v1::GrantServiceListResponse| -> Vec<String> {
        page.grants.iter().map(|grant| grant.pod.as_ref().unwrap().uid.clone()).collect()
    };
    assert_eq!(uids(&first), ["shop-1", "shop-2", "shop-3", "shop-4"]);
    request.page_token = first.next_page_token;
    let last = grants(&portal, request).await;
    assert_eq!((uids(&last), last.next_page_token.as_str()), (vec!["shop-5".into(), "cart-6".into()], ""));

    let by_app = GrantServiceListRequest { app: "cart".into(), ..Default::default() };
    assert_eq!(uids(&grants(&portal, by_app).await), ["cart-6"]);
    let by_address = GrantServiceListRequest { address: "127.0.1.2".into(), ..Default::default() };
    let listed = grants(&portal, by_address).await;
    assert_eq!(uids(&listed), ["shop-2"]);
    let grant = &listed.grants[0];
    assert_eq!((grant.app.as_str(), grant.generation), ("shop", 1));
    assert_eq!(grant.decisions[0].destination.as_ref().unwrap().host, "db.shop.svc");
    assert_eq!((grant.decisions[0].rule.as_str(), grant.decisions[0].document.as_str()), ("db", "shop"));
    assert!(grant.expires_at.unwrap().seconds > grant.created_at.unwrap().seconds);

    let bad =
        GrantServiceListRequest { page_token: "x".into(), address: "nowhere".into(), ..Default::default() };
    let refused = portal.grants().list(bad).await.unwrap_err();
    assert_eq!(fields(&refused), ["page_token", "address"]);
}

#[tokio::test]
async fn a_revoked_grant_is_gone_at_once() {
    let gateway = Setup::new()
        .with_file("shop.yaml", yaml::profile("shop", "db.shop.svc", ""))
        .with_file("cart.yaml", yaml::profile("cart", "db.cart.svc", ""))
        .start()
        .await;
    let portal = Caller::of(&gateway).await;
    let mut ids = Vec::new();
    for last in 1..=4 {
        let pod = Caller::from(&gateway, &format!("127.0.1.{last}")).await;
        let granted = pod.granted(authorize("shop", &format!("shop-{last}"), &[])).await;
        pod.granted(authorize("cart", &format!("shop-{last}"), &[])).await;
        ids.push(granted.lease.unwrap().grant_id);
    }
    let allowed = async |last: u32, app: &str| {
        let check = portal.check(&format!("127.0.1.{last}"), &format!("db.{app}.svc"), 3306).await;
        check.verdict() == Verdict::Allowed
    };
    assert!(allowed(1, "shop").await && allowed(1, "cart").await);

    assert_eq!(revoke(&portal, Target::GrantId(ids[0].clone())).await, 1);
    assert!(!allowed(1, "shop").await && allowed(1, "cart").await);
    assert_eq!(revoke(&portal, Target::GrantId(ids[0].clone())).await, 0);
    let check = portal.check("127.0.1.1", "db.shop.svc", 3306).await;
    assert_eq!(check.reason(), DenialReason::NoGrant);

    assert_eq!(revoke(&portal, Target::Address("127.0.1.2".into())).await, 2);
    assert!(!allowed(2, "shop").await && !allowed(2, "cart").await && allowed(3, "shop").await);

    assert_eq!(revoke(&portal, Target::App("shop".into())).await, 2);
    assert!(!allowed(3, "shop").await && !allowed(4, "shop").await && allowed(4, "cart").await);
    assert_eq!(portal.all_grants().await.len(), 3);

    // A revoked pod asks anew, and gets a new grant.
    let pod = Caller::from(&gateway, "127.0.1.1").await;
    let again = pod.granted(authorize("shop", "shop-1", &[])).await;
    assert_eq!(again.origin(), GrantOrigin::Fresh);
    assert_ne!(again.lease.unwrap().grant_id, ids[0]);

    let request = GrantServiceRevokeRequest { target: None, reason: "x".repeat(1025) };
    let refused = portal.grants().revoke(request).await.unwrap_err();
    assert_eq!(fields(&refused), ["reason", "target"]);
}

#[tokio::test]
async fn a_grant_is_given_back_by_its_holder_alone_and_once() {
    let gateway = Setup::new().with_file("shop.yaml", yaml::profile("shop", "db.shop.svc", "")).start().await;
    let pod = Caller::from(&gateway, "127.0.1.1").await;
    let lease = pod.granted(authorize("shop", "mine", &DB)).await.lease.unwrap();
    let release = async |uid: &str, generation: u64| {
        let request = ReleaseRequest { grant_id: lease.grant_id.clone(), pod_uid: uid.into(), generation };
        pod.authorization().release(request).await.unwrap().into_inner().released
    };
    assert!(!release("another", 0).await);
    // The grant has grown since: whoever knows only an earlier generation leaves it alone.
    let grown = pod.granted(authorize("shop", "mine", &[])).await.lease.unwrap();
    assert_eq!((&grown.grant_id, grown.generation), (&lease.grant_id, lease.generation + 1));
    assert!(!release("mine", lease.generation).await);
    assert_eq!(pod.check("127.0.1.1", "db.shop.svc", 3306).await.verdict(), Verdict::Allowed);
    assert!(release("mine", grown.generation).await);
    assert!(!release("mine", 0).await);
    assert_eq!(pod.check("127.0.1.1", "db.shop.svc", 3306).await.verdict(), Verdict::Denied);
    let request = ReleaseRequest { grant_id: "nonsense".into(), ..ReleaseRequest::default() };
    assert_eq!(fields(&pod.authorization().release(request).await.unwrap_err()), ["grant_id"]);
}

#[tokio::test]
async fn an_address_that_is_reused_never_inherits() {
    let gateway = Setup::new()
        .with_file("shop.yaml", yaml::profile("shop", "db.shop.svc", ""))
        .with_file("cart.yaml", yaml::profile("cart", "db.cart.svc", ""))
        .start()
        .await;
    let here = Caller::from(&gateway, "127.0.1.1").await;
    let old = here.granted(authorize("shop", "old", &DB)).await.lease.unwrap();
    let new = here.granted(authorize("cart", "new", &[])).await.lease.unwrap();
    assert_ne!(old.grant_id, new.grant_id);
    let check = here.check("127.0.1.1", "db.shop.svc", 3306).await;
    assert_eq!(check.verdict(), Verdict::Denied, "the new pod inherited from the old one");
    let listed = here.all_grants().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].pod.as_ref().unwrap().uid, "new");

    // What the old pod's late release names is gone, and its successor is left alone.
    let request = ReleaseRequest { grant_id: old.grant_id, pod_uid: "old".into(), generation: 0 };
    assert!(!here.authorization().release(request).await.unwrap().into_inner().released);
    assert_eq!(here.all_grants().await.len(), 1);
}
