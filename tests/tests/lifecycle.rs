//! A grant through the life of its pod: a sidecar that keeps it, hooks that give it back, and questions without effect.

use podgate_proto::v1::Verdict;
use podgate_tests::{
    caller::Caller,
    gateway::{Gateway, Setup},
    init::Init,
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
