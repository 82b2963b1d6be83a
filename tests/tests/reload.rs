//! Files that change while the gateway serves: in force as a whole, or not at all.

use podgate_proto::v1::{
    DenialReason, ProfileServiceApplyRequest, ProfileServiceGetRequest, SourceKind, Verdict,
};
use podgate_tests::{
    caller::Caller,
    documents,
    eventually::eventually,
    gateway::Setup,
    page,
    refusal::{reason, retry_after},
    requests::{authorize, explain_pod},
    yaml::{common_ports, profile},
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const OLD: [(&str, u32); 1] = [("old.shop.svc", 3306)];
const NEW: [(&str, u32); 1] = [("new.shop.svc", 3306)];

/// A profile with faults in the lines 6, 8 and 9.
const BAD: &str = "\
apiVersion: podgate.io/v1
kind: AppProfile
metadata: { name: bad }
spec:
  subjects:
    - serviceAcount: { namespace: shop, name: shop }
  allow:
    - { name: db, hosts: [db.bad.svc], ports: [70000] }
  mode: shadowy
";

#[tokio::test]
async fn a_changed_file_is_in_force_without_a_restart() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", OLD[0].0, "")).start().await;
    let caller = Caller::of(&gateway).await;
    caller.granted(authorize("shop", "a", &OLD)).await;
    let before = gateway.readiness().await["policy"]["revision"].clone();

    gateway.write("shop.yaml", profile("shop", NEW[0].0, ""));
    gateway.until_readiness("another revision", |detail| detail["policy"]["revision"] != before).await;
    caller.granted(authorize("shop", "b", &NEW)).await;
    assert_eq!(caller.denied(authorize("shop", "c", &OLD)).await.reason(), DenialReason::HostNotAllowed);

    gateway.write("team/cart.yml", profile("cart", "db.cart.svc", ""));
    gateway.write("common.yaml", common_ports("everywhere", "dns.corp"));
    gateway.write(".hidden.yaml", BAD);
    gateway.until_readiness("common ports", |detail| detail["policy"]["common_ports"] == 1).await;
    gateway.until_profiles(2).await;
    caller.granted(authorize("cart", "b", &[])).await;
    caller.granted(authorize("nobody", "a", &[("dns.corp", 53)])).await;

    gateway.remove("shop.yaml");
    gateway.until_profiles(1).await;
    assert_eq!(caller.denied(authorize("shop", "a", &NEW)).await.reason(), DenialReason::NoProfile);
}

#[tokio::test]
async fn what_has_been_spent_stays_spent_through_a_reload() {
    let slow = |host| profile("shop", host, "  limits: { rate: 1/h, burst: 3 }\n");
    let gateway = Setup::new().with_file("shop.yaml", slow(OLD[0].0)).start().await;
    let caller = Caller::of(&gateway).await;
    caller.granted(authorize("shop", "a", &[])).await;
    caller.granted(authorize("shop", "b", &[])).await;
    gateway.write("shop.yaml", slow(NEW[0].0));
    eventually("the new file", async || {
        let explained = caller.explain(explain_pod("shop")).await;
        let host = &explained.decisions.first()?.destination.as_ref()?.host;
        (host == NEW[0].0).then_some(())
    })
    .await;
    assert_eq!(caller.bucket("shop").await.available, 1);
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_set_and_says_so_everywhere() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", OLD[0].0, "")).start().await;
    let caller = Caller::of(&gateway).await;

    // The good change beside the bad one is not put in force either.
    gateway.write("shop.yaml", profile("shop", NEW[0].0, ""));
    gateway.write("bad.yaml", BAD);
    let detail = gateway.until_readiness("faults", |detail| detail["faults_total"] != 0).await;
    let count = detail["faults_total"].as_f64();
    assert_eq!((&detail["ready"], &detail["policy"]["profiles"]), (&true.into(), &1.into()));
    let faults: Vec<&str> =
        detail["faults"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    let log = gateway.log();
    for (place, words) in [
        ("bad.yaml:6:", "spec.subjects[0].serviceAcount: unknown key; did you mean `serviceAccount`?"),
        ("bad.yaml:8:", "spec.allow[0].ports[0]: 70000 is no port"),
        ("bad.yaml:9:", "spec.mode: `shadowy` is no mode; expected enforce, shadow"),
    ] {
        let said = |text: &str| text.contains(place) && text.contains(words);
        assert!(faults.iter().any(|fault| said(fault)), "{place} {words} is not in {faults:#?}");
        assert!(
            log.lines().any(|line| said(line) && line.contains("ERROR")),
            "{place} {words} is not in {log}"
        );
    }
    eventually("the faults in the metric", async || {
        (gateway.metric("podgate_policy_faults").await == count).then_some(())
    })
    .await;
    assert_eq!(gateway.page("/readyz").await.status, 200);

    gateway.write("bad.yaml", profile("mended", "db.bad.svc", ""));
    gateway.until_profiles(2).await;
    assert_eq!(gateway.metric("podgate_policy_faults").await, Some(0.0));
    caller.granted(authorize("shop", "a", &NEW)).await;
    caller.granted(authorize("mended", "a", &[])).await;
}

#[tokio::test]
async fn a_second_profile_of_one_name_is_a_fault() {
    let gateway = Setup::new().with_file("a.yaml", profile("shop", OLD[0].0, "")).start().await;
    gateway.write("b.yaml", profile("shop", NEW[0].0, ""));
    let detail = gateway.until_readiness("a fault", |detail| detail["faults_total"] == 1).await;
    let fault = detail["faults"][0].as_str().unwrap();
    assert!(fault.contains("b.yaml:1:1: metadata.name") && fault.contains("a.yaml:1:1"), "{fault}");
    Caller::of(&gateway).await.granted(authorize("shop", "a", &OLD)).await;
}

#[tokio::test]
async fn without_any_good_set_nothing_is_served_until_it_is_mended() {
    let setup =
        Setup::new().at_own_address().with_file("shop.yaml", profile("shop", OLD[0].0, "").as_bytes());
    let gateway =
        setup.with_file("bad.yaml", [b"kind: ".as_slice(), b"\xff\xfe"].concat()).start_unready().await;
    let detail = gateway.until_readiness("a fault", |detail| detail["faults_total"] == 1).await;
    assert_eq!((&detail["ready"], &detail["policy"]), (&false.into(), &serde_json::Value::Null));
    assert!(detail["faults"][0].as_str().unwrap().contains("is not UTF-8 text (at byte 6)"), "{detail}");
    assert_eq!(gateway.page("/readyz").await.status, 503);
    assert_eq!(page::get(gateway.http(), "/livez").await.unwrap().status, 200);

    let caller = Caller::of(&gateway).await;
    let refused = caller.refused(authorize("shop", "a", &OLD)).await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "NO_POLICY"));
    assert!(retry_after(&refused).is_some());
    let health = async || {
        let answer = HealthClient::new(caller.channel()).check(HealthCheckRequest::default()).await;
        answer.unwrap().into_inner().status()
    };
    assert_eq!(health().await, ServingStatus::NotServing);

    gateway.write("bad.yaml", profile("mended", "db.bad.svc", ""));
    gateway.until_profiles(2).await;
    assert_eq!(gateway.page("/readyz").await.status, 200);
    caller.granted(authorize("shop", "a", &OLD)).await;
    eventually("health", async || (health().await == ServingStatus::Serving).then_some(())).await;
}

#[tokio::test]
async fn a_file_hides_the_apis_profile_of_its_name_and_gives_it_back() {
    let gateway = Setup::new().with_file("other.yaml", profile("other", "db.other.svc", "")).start().await;
    let caller = Caller::of(&gateway).await;
    let get = async || {
        let request = ProfileServiceGetRequest { name: "shop".into() };
        caller.profiles().get(request).await.unwrap().into_inner().profile.unwrap()
    };
    let document = documents::profile("shop", OLD[0].0);
    let request = ProfileServiceApplyRequest { profile: Some(document), ..Default::default() };
    caller.profiles().apply(request).await.unwrap();
    caller.granted(authorize("shop", "a", &OLD)).await;

    gateway.write("shop.yaml", profile("shop", NEW[0].0, ""));
    eventually("the file's profile", async || {
        (get().await.source.unwrap().kind() == SourceKind::File).then_some(())
    })
    .await;
    caller.granted(authorize("shop", "b", &NEW)).await;
    caller.denied(authorize("shop", "c", &OLD)).await;
    assert!(gateway.log().contains("hides the API's of the same name"));
    assert_eq!(caller.check("127.0.0.1", NEW[0].0, 3306).await.verdict(), Verdict::Allowed);

    gateway.remove("shop.yaml");
    eventually("the API's profile", async || {
        (get().await.source.unwrap().kind() == SourceKind::Api).then_some(())
    })
    .await;
    caller.granted(authorize("shop", "d", &OLD)).await;
}

/// A ConfigMap's files are links into a hidden directory, and change when one link is turned over.
#[tokio::test]
async fn a_config_map_that_is_turned_over_is_noticed() {
    use std::os::unix::fs::symlink;
    let setup = Setup::new().with_file("..v1/shop.yaml", profile("shop", OLD[0].0, ""));
    let profiles = setup.home().path("profiles");
    symlink("..v1", profiles.join("..data")).unwrap();
    symlink("..data/shop.yaml", profiles.join("shop.yaml")).unwrap();
    let gateway = setup.start().await;
    let caller = Caller::of(&gateway).await;
    caller.granted(authorize("shop", "a", &OLD)).await;
    let before = gateway.readiness().await["policy"]["revision"].clone();

    gateway.write("..v2/shop.yaml", profile("shop", NEW[0].0, ""));
    symlink("..v2", profiles.join("..data_tmp")).unwrap();
    std::fs::rename(profiles.join("..data_tmp"), profiles.join("..data")).unwrap();
    gateway.until_readiness("another revision", |detail| detail["policy"]["revision"] != before).await;
    caller.granted(authorize("shop", "b", &NEW)).await;
}

#[tokio::test]
async fn a_bad_file_that_is_taken_away_again_leaves_no_fault_behind() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", OLD[0].0, "")).start().await;
    gateway.write("bad.yaml", BAD);
    gateway.until_readiness("faults", |detail| detail["faults_total"] != 0).await;
    gateway.remove("bad.yaml");
    gateway.until_profiles(1).await;
    assert_eq!(gateway.metric("podgate_policy_faults").await, Some(0.0));
}
