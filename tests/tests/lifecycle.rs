//! A grant through the life of its pod: a sidecar that keeps it, hooks that give it back, and questions without effect.

use std::time::Duration;

use podgate_proto::v1::{GrantServiceRevokeRequest, Verdict, grant_service_revoke_request::Target};
use podgate_tests::{
    caller::Caller,
    clock,
    eventually::eventually,
    gateway::{Gateway, Setup},
    init::Init,
    stopped::Stopped,
    yaml::profile,
};
use rustix::process::Signal;

const DATABASE: (&str, u32) = ("db.shop.svc", 3306);

fn setup(spec: &str) -> Setup {
    Setup::new().with_file("shop.yaml", profile("shop", DATABASE.0, spec))
}

/// What the gateway tells an enforcer of the pod.
async fn verdict(gateway: &Gateway) -> Verdict {
    Caller::of(gateway).await.check("127.0.0.1", DATABASE.0, DATABASE.1).await.verdict()
}

#[tokio::test]
async fn a_sidecar_lets_its_pod_start_and_gives_the_grant_back_on_term() {
    let gateway = setup("").start().await;
    for signal in [Signal::TERM, Signal::INT] {
        let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
        sidecar.until_said("the pod may start").await;
        assert_eq!(sidecar.beside(&["ready"]).await.code, Some(0));
        assert_eq!(verdict(&gateway).await, Verdict::Allowed);
        assert_eq!(sidecar.grant().unwrap()["pod"]["uid"], "0d1c-7");

        sidecar.signal(signal);
        let ended = sidecar.finished().await;
        assert_eq!(ended.code, Some(0), "{}", ended.out());
        assert_eq!(ended.termination()["result"], "released");
        assert_eq!(verdict(&gateway).await, Verdict::Denied);
        assert_eq!(ended.beside(&["ready"]).await.code, Some(1));
        assert!(ended.grant().is_none());
    }
}

#[tokio::test]
async fn a_sidecar_that_is_denied_lets_nothing_start() {
    let gateway = setup("").start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).argument("--destination", "else.where:1");
    let ended = sidecar.run().await;
    assert_eq!(ended.code, Some(10), "{}", ended.out());
    assert_eq!(ended.beside(&["ready"]).await.code, Some(1));
}

#[tokio::test]
async fn a_sidecar_that_is_killed_finds_its_grant_again() {
    let gateway = setup("").start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let grant = sidecar.grant().unwrap();
    let left = sidecar.kill().await;
    assert_eq!(verdict(&gateway).await, Verdict::Allowed);

    let again = left.start();
    again.until_said("the pod may start").await;
    let found = again.grant().unwrap();
    assert_eq!((&found["grant_id"], &found["origin"]), (&grant["grant_id"], &"repeated".into()));
    again.signal(Signal::TERM);
    assert_eq!(again.finished().await.code, Some(0));
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
}

#[tokio::test]
async fn the_sign_of_a_killed_sidecar_says_nothing() {
    let gateway = setup("").start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let left = sidecar.kill().await;
    let ended = left.beside(&["ready"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.out);
    assert!(ended.out.starts_with("not ready: no living sidecar holds "), "{}", ended.out);
}

#[tokio::test]
async fn a_hook_gives_back_what_an_init_container_was_given_once_and_again() {
    let gateway = setup("").start().await;
    let init = Init::for_app("shop", &gateway.endpoint()).run().await;
    assert_eq!((init.code, verdict(&gateway).await), (Some(0), Verdict::Allowed));
    let grant = init.grant().unwrap();
    let endpoint = gateway.endpoint();
    let release = ["release", "--endpoint", &endpoint];

    let ended = init.beside(&release).await;
    assert_eq!(ended.code, Some(0), "{}", ended.out);
    assert!(ended.out.contains("is given back"), "{}", ended.out);
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
    assert_eq!(init.beside(&release).await.code, Some(0), "no file is no fault");

    init.put_grant_back(&grant);
    let ended = init.beside(&release).await;
    assert_eq!(ended.code, Some(0), "{}", ended.out);
    assert!(ended.out.contains("was over before"), "{}", ended.out);
}

#[tokio::test]
async fn a_late_release_leaves_the_successors_grant_alone() {
    let gateway = setup("").start().await;
    let first = Init::for_app("shop", &gateway.endpoint()).run().await;
    let second = Init::for_app("shop", &gateway.endpoint()).variable("POD_UID", "successor").run().await;
    assert_eq!((first.code, second.code), (Some(0), Some(0)));
    let ended = first.beside(&["release", "--endpoint", &gateway.endpoint()]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.out);
    assert_eq!(verdict(&gateway).await, Verdict::Allowed);
}

#[tokio::test]
async fn a_question_without_effect_has_none() {
    let gateway = setup("  limits: { rate: 1/h, burst: 1 }\n").start().await;
    for (destination, code, result) in
        [("db.shop.svc:3306", 0, "would_be_allowed"), ("db.shop.svc:3307", 10, "would_be_denied")]
    {
        for _ in 0..3 {
            let ended = Init::for_app("shop", &gateway.endpoint())
                .command("check")
                .argument("--destination", destination)
                .run()
                .await;
            assert_eq!(ended.code, Some(code), "{}", ended.out());
            assert_eq!(ended.termination()["result"], result);
            assert!(ended.out().contains(destination) && ended.grant().is_none(), "{}", ended.out());
        }
    }
    let caller = Caller::of(&gateway).await;
    assert!(caller.all_grants().await.is_empty());
    assert_eq!(caller.bucket("shop").await.available, 1);
}

/// The shortest lease that there is.
const SHORT: &str = "  lease: { ttl: 10s }\n";

#[tokio::test]
async fn a_stopped_main_process_keeps_its_lease_beyond_its_end() {
    let gateway = setup(SHORT).start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let main = Stopped::start();
    let first = sidecar.grant().unwrap();
    sidecar.until_said_times("is renewed", 3).await;
    let renewed = sidecar.grant().unwrap();
    assert_eq!(renewed["grant_id"], first["grant_id"]);
    // RFC 3339 in UTC sorts as text.
    assert!(renewed["expires_at"].as_str() > first["expires_at"].as_str(), "{renewed}");
    assert_eq!(verdict(&gateway).await, Verdict::Allowed);
    assert!(main.is_stopped());
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.finished().await.code, Some(0));
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
}

#[tokio::test]
async fn a_sidecar_outlives_its_gateway_and_the_end_of_its_lease() {
    let gateway = setup(SHORT).at_own_address().start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let held = Caller::of(&gateway).await.check("127.0.0.1", DATABASE.0, DATABASE.1).await;
    let ends_at = Duration::from_secs(held.expires_at.unwrap().seconds.unsigned_abs() + 1);
    let gateway = gateway.kill().await;
    // Down for the whole of the lease, and so for twice the time until its renewal.
    sidecar.until_said("not reached").await;
    eventually("the end of the lease", async || (clock::since_1970() > ends_at).then_some(())).await;
    assert_eq!(sidecar.beside(&["ready"]).await.code, Some(0), "the pod goes on");

    let gateway = gateway.start().await;
    eventually("a lease again", async || (verdict(&gateway).await == Verdict::Allowed).then_some(())).await;
    sidecar.signal(Signal::TERM);
    let ended = sidecar.finished().await;
    assert_eq!(ended.termination()["result"], "released", "{}", ended.out());
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
}

#[tokio::test]
async fn a_lease_that_is_taken_back_is_asked_for_anew() {
    let gateway = setup(SHORT).start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let first = sidecar.grant().unwrap();
    let caller = Caller::of(&gateway).await;
    let revoke = GrantServiceRevokeRequest {
        target: Some(Target::GrantId(first["grant_id"].as_str().unwrap().to_owned())),
        ..GrantServiceRevokeRequest::default()
    };
    caller.grants().revoke(revoke).await.unwrap();
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
    sidecar.until_said("asks anew").await;
    eventually("a lease again", async || (verdict(&gateway).await == Verdict::Allowed).then_some(())).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_pod_whose_profile_leaves_it_nothing_is_no_longer_ready_and_asks_again() {
    let gateway = setup(SHORT).start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).argument("--destination", "db.shop.svc:3306");
    let sidecar = sidecar.start();
    sidecar.until_said("the pod may start").await;
    gateway.write("shop.yaml", profile("shop", "else.where.svc", SHORT));
    sidecar.until_said("asks again in").await;
    assert!(sidecar.out().contains("denied: "), "{}", sidecar.out());
    assert_eq!(verdict(&gateway).await, Verdict::Denied);
    assert_eq!(sidecar.beside(&["ready"]).await.code, Some(1));
    assert!(sidecar.grant().is_none());
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.finished().await.code, Some(0));
}

#[tokio::test]
async fn a_superseded_pod_asks_for_nothing_more_and_leaves_its_successor_alone() {
    let gateway = setup(SHORT).start().await;
    let sidecar = Init::sidecar("shop", &gateway.endpoint()).start();
    sidecar.until_said("the pod may start").await;
    let successor = Init::for_app("shop", &gateway.endpoint()).variable("POD_UID", "successor").run().await;
    assert_eq!(successor.code, Some(0), "{}", successor.out());
    sidecar.until_said("asks for nothing more").await;
    assert_eq!(sidecar.beside(&["ready"]).await.code, Some(1));
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.finished().await.code, Some(0));
    let grants = Caller::of(&gateway).await.all_grants().await;
    let [held] = &grants[..] else { panic!("{grants:?}") };
    assert_eq!(held.pod.as_ref().unwrap().uid, "successor");
}
