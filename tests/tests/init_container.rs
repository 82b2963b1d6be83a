//! The init container against a real gateway: each way to end, with its code, its file and its last word.

use podgate_tests::{
    caller::Caller,
    gateway::Setup,
    init::Init,
    yaml::{common_ports, profile},
};
use rustix::process::Signal;

/// Nobody listens on port 1 of loopback.
const NOBODY: &str = "http://127.0.0.1:1";

#[tokio::test]
async fn granted() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", "")).start().await;
    let ended =
        Init::for_app("shop", &gateway.endpoint()).argument("--destination", "db.shop.svc:3306").run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());

    let grants = Caller::of(&gateway).await.all_grants().await;
    let [held] = &grants[..] else { panic!("{grants:?}") };
    assert_eq!((held.app.as_str(), held.address.as_str()), ("shop", "127.0.0.1"));
    assert_eq!(held.pod.as_ref().unwrap().uid, "0d1c-7");

    let grant = ended.grant().expect("no grant file");
    assert_eq!(grant["grant_id"], held.grant_id.as_str());
    assert_eq!((&grant["app"], &grant["origin"]), (&"shop".into(), &"fresh".into()));
    assert_eq!(grant["pod"]["uid"], "0d1c-7");
    assert_eq!(grant["addresses"][0], "127.0.0.1");
    let destination = &grant["destinations"][0];
    assert_eq!((&destination["host"], &destination["port"]), (&"db.shop.svc".into(), &3306.into()));
    assert_eq!((&destination["verdict"], &destination["rule"]), (&"allowed".into(), &"db".into()));

    let last_word = ended.termination();
    assert_eq!((&last_word["result"], &last_word["calls"]), (&"granted".into(), &1.into()));
    assert!(ended.out().contains("ends with exit code 0"), "{}", ended.out());
}

#[tokio::test]
async fn all_that_the_profile_allows_and_common_ports_alone() {
    let gateway = Setup::new()
        .with_file("shop.yaml", profile("shop", "db.shop.svc", ""))
        .with_file("common.yaml", common_ports("everywhere", "dns.corp"))
        .start()
        .await;
    let ended = Init::for_app("shop", &gateway.endpoint()).run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    assert_eq!(ended.grant().unwrap()["destinations"][0]["host"], "db.shop.svc");

    let ended = Init::for_app("shop", &gateway.endpoint())
        .variable("PODGATE_DESTINATIONS", "dns.corp:53")
        .run()
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    let grant = ended.grant().unwrap();
    assert_eq!((&grant["origin"], grant.get("grant_id")), (&"common".into(), None));
}

#[tokio::test]
async fn denied_with_the_destination_and_the_nearest_rule() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", "")).start().await;
    let ended = Init::for_app("shop", &gateway.endpoint())
        .argument("--destination", "db.shop.svc:3306,db.shop.svc:3307")
        .run()
        .await;
    assert_eq!(ended.code, Some(10), "{}", ended.out());
    assert!(ended.grant().is_none());
    let last_word = ended.termination();
    assert_eq!(last_word["result"], "denied");
    let denied = last_word["denied"].as_array().unwrap();
    assert_eq!(denied.len(), 1, "{last_word}");
    assert!(denied[0]["destination"].as_str().unwrap().starts_with("db.shop.svc:3307"), "{last_word}");
    for text in [last_word["reason"].as_str().unwrap(), &ended.out()] {
        assert!(text.contains("rule `db` of `shop`") && text.contains("3307"), "{text}");
    }
}

#[tokio::test]
async fn an_app_without_a_profile_is_denied() {
    let gateway = Setup::new().start().await;
    let ended = Init::for_app("nobody", &gateway.endpoint()).argument("--destination", "db:1").run().await;
    assert_eq!(ended.code, Some(10), "{}", ended.out());
    assert!(ended.termination()["reason"].as_str().unwrap().contains("no profile `nobody`"));
}

#[tokio::test]
async fn throttled_to_the_end() {
    let slow = profile("shop", "db.shop.svc", "  limits: { rate: 1/h, burst: 1 }\n");
    let gateway = Setup::new().with_file("shop.yaml", slow).start().await;
    let first = Init::for_app("shop", &gateway.endpoint()).run().await;
    assert_eq!(first.code, Some(0), "{}", first.out());
    let second = Init::for_app("shop", &gateway.endpoint())
        .variable("POD_UID", "other")
        .argument("--wait", "30s")
        .run()
        .await;
    assert_eq!(second.code, Some(11), "{}", second.out());
    assert!(second.grant().is_none());
    let last_word = second.termination();
    assert_eq!(last_word["result"], "throttled");
    assert!(last_word["reason"].as_str().unwrap().contains("APP_RATE"), "{last_word}");
    // The pushback is at least half the horizon, a minute: it ends at once, not after half a minute of calls.
    assert_eq!(last_word["calls"], 1);
}

#[tokio::test]
async fn unavailable_to_the_end() {
    let ended = Init::for_app("shop", NOBODY).argument("--wait", "300ms").run().await;
    assert_eq!(ended.code, Some(12), "{}", ended.out());
    assert!(ended.grant().is_none());
    assert_eq!(ended.termination()["result"], "unavailable");
    assert!(ended.out().contains("not reached"), "{}", ended.out());
}

#[tokio::test]
async fn unavailable_and_told_to_continue() {
    let ended = Init::for_app("shop", NOBODY)
        .argument("--wait", "300ms")
        .argument("--on-unavailable", "continue")
        .run()
        .await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    assert!(ended.grant().is_none());
    assert_eq!(ended.termination()["result"], "unavailable_continued");
    assert!(ended.out().contains("WITHOUT A GRANT"), "{}", ended.out());
}

#[tokio::test]
async fn continue_is_no_way_around_a_denial() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", "")).start().await;
    let init = Init::for_app("shop", &gateway.endpoint()).argument("--on-unavailable", "continue");
    let ended = init.argument("--destination", "else.where:1").run().await;
    assert_eq!(ended.code, Some(10), "{}", ended.out());
}

#[tokio::test]
async fn misconfigured_with_every_fault_at_once() {
    let ended = Init::bare()
        .argument("--wiat", "9m")
        .argument("--endpoint", "ftp://gateway:1")
        .argument("--wait", "soon")
        .argument("--destination", "db:70000")
        .variable("PODGATE_ON_UNAVAILABLE", "perhaps")
        .variable("POD_IP", "10.0.0.x")
        .run()
        .await;
    assert_eq!(ended.code, Some(2), "{}", ended.out());
    let out = ended.out();
    for fault in [
        "--wiat: is no flag; did you mean --wait?",
        "--endpoint: ",
        "--wait: ",
        "--destination: ",
        "--app: is missing",
        "PODGATE_ON_UNAVAILABLE: ",
        "POD_IP: \"10.0.0.x\" is no address",
        "POD_UID: is not set",
        "POD_NAMESPACE: is not set",
        "POD_SERVICE_ACCOUNT: is not set",
    ] {
        assert!(out.contains(fault), "{fault:?} is not in:\n{out}");
    }
    let last_word = ended.termination();
    assert_eq!((&last_word["result"], &last_word["calls"]), (&"misconfigured".into(), &0.into()));
}

#[tokio::test]
async fn an_address_that_is_not_the_pods_is_a_misconfiguration() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", "")).start().await;
    let ended = Init::for_app("shop", &gateway.endpoint()).variable("POD_IP", "10.8.3.17").run().await;
    assert_eq!(ended.code, Some(2), "{}", ended.out());
    assert!(ended.termination()["reason"].as_str().unwrap().contains("ADDRESS_NOT_PROVEN"));
}

#[tokio::test]
async fn ended_by_term_while_it_waits() {
    let running = Init::for_app("shop", NOBODY).argument("--wait", "1h").start();
    running.until_said("waiting").await;
    running.signal(Signal::TERM);
    let ended = running.finished().await;
    assert_eq!(ended.code, Some(143), "{}", ended.out());
    assert_eq!(ended.termination()["result"], "ended_by_signal");
    assert!(ended.grant().is_none());
}

#[tokio::test]
async fn waits_for_a_gateway_that_comes_later() {
    let setup = Setup::new().at_own_address().with_file("shop.yaml", profile("shop", "db.shop.svc", ""));
    let endpoint = format!("http://{}", setup.grpc());
    let running = Init::for_app("shop", &endpoint).start();
    running.until_said("waiting").await;
    let _gateway = setup.start().await;
    let ended = running.finished().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
    assert!(ended.grant().is_some());
}

#[tokio::test]
async fn asks_the_next_gateway_where_one_is_away() {
    let gateway = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", "")).start().await;
    let ended = Init::for_app("shop", &format!("{NOBODY},{}", gateway.endpoint())).run().await;
    assert_eq!(ended.code, Some(0), "{}", ended.out());
}
