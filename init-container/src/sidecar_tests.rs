//! Whole lives of a sidecar, and what is done beside it, against a gateway that answers as scripted.

use podgate_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::stage::{Stage, decision, denied, granted, refused};

/// A grant that is to be renewed as soon as anything is.
fn leased() -> v1::authorize_response::Outcome {
    let v1::authorize_response::Outcome::Granted(mut granted) = granted() else { panic!("not granted") };
    granted.lease = Some(lease(1));
    v1::authorize_response::Outcome::Granted(granted)
}

fn lease(generation: u64) -> v1::Lease {
    v1::Lease {
        grant_id: "00000000000000aa".to_owned(),
        generation,
        addresses: vec!["127.0.0.1".to_owned()],
        expires_at: Some(prost_types::Timestamp { seconds: 1_798_765_199, nanos: 0 }),
        renew_after: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
    }
}

fn over(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "over", ErrorDetails::with_error_info(reason, "podgate.io", []))
}

/// A sidecar with a grant file.
struct Set {
    stage: Stage,
    grant: String,
    ready: String,
}

impl Set {
    fn of(stage: Stage) -> Self {
        let (grant, ready) = (stage.path("grant.json"), stage.path("podgate-ready"));
        Self { stage, grant, ready }
    }

    async fn with(renewals: impl IntoIterator<Item = Result<v1::Lease, Status>>) -> Self {
        let set = Self::of(Stage::with(Ok(leased())).await);
        set.stage.lifecycle.lock().unwrap().renewals.extend(renewals);
        set
    }

    async fn run_until(&self, words: &'static str) -> crate::stage::Ended {
        self.stage.run_until(&["sidecar", "--grant-file", &self.grant], self.stage.said(words)).await
    }

    fn written(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&self.grant).unwrap()).unwrap()
    }
}

fn has(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

#[tokio::test]
async fn a_life_from_asking_to_giving_back() {
    let set = Set::with([Ok(lease(2))]).await;
    let ended = set.run_until("is renewed").await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert_eq!(
        ended.printed,
        "\
23:59:59Z podgate-init 0.1.0: pod hotel/order-x7k2p, uid u-1, 127.0.0.1 asks, and keeps what it is given, as app hotel-order
23:59:59Z it asks for all that the app's profile allows
23:59:59Z it waits until 2027-01-01T00:08:59Z (9m) at most; gateways: http://GATEWAY
23:59:59Z connecting to http://GATEWAY
23:59:59Z call 1: asking http://GATEWAY
23:59:59Z granted (?ms)
23:59:59Z granted after 1 call and ?ms: grant 00000000000000aa for 127.0.0.1, until 2027-01-01T00:59:59Z at the latest
23:59:59Z   mysql:3306 allowed by rule order-db of hotel-order
23:59:59Z the grant is written to DIR/grant.json
23:59:59Z the pod may start: DIR/podgate-ready says so
23:59:59Z grant 00000000000000aa is renewed, until 2027-01-01T00:59:59Z
23:59:59Z ended by SIGTERM: gives grant 00000000000000aa back
23:59:59Z connecting to http://GATEWAY
23:59:59Z call 1: asking http://GATEWAY
23:59:59Z answered (?ms)
23:59:59Z grant 00000000000000aa is given back
23:59:59Z ends with exit code 0
"
    );
    assert_eq!(
        ended.last_word,
        "{\"result\":\"released\",\"reason\":\"grant 00000000000000aa is given back\",\"app\":\"hotel-order\",\
         \"calls\":1,\"waited_s\":0.?}"
    );
    let lifecycle = set.stage.lifecycle.lock().unwrap();
    assert!(set.stage.asked.lock().unwrap().iter().all(|request| request.renews));
    let [renewed] = &lifecycle.renewed[..] else { panic!("{:?}", lifecycle.renewed) };
    assert_eq!((renewed.pod_uid.as_str(), renewed.generation), ("u-1", 1));
    let [released] = &lifecycle.released[..] else { panic!("{:?}", lifecycle.released) };
    assert_eq!((released.pod_uid.as_str(), released.generation), ("u-1", 0));
    assert!(!has(&set.grant) && !has(&set.ready), "nothing is left that says otherwise");
}

#[tokio::test]
async fn it_is_ready_while_it_lives_and_not_after() {
    let set = Set::with([]).await;
    let ready = ["ready", "--ready-file", &set.ready];
    let other = Stage::without_gateway().await;
    let seen = async {
        let before = other.run(&ready).await;
        set.stage.said("the pod may start").await;
        (before, other.run(&ready).await)
    };
    let (ended, (before, during)) = tokio::join!(set.run_until("tries again in"), seen);
    let after = other.run(&ready).await;
    assert_eq!((before.code, during.code, after.code), (1, 0, 1));
    assert_eq!(during.printed, "ready\n");
    assert!(after.printed.starts_with("not ready: there is no "), "{}", after.printed);
    // A gateway that serves no renewals is told of, and asked again.
    assert!(ended.printed.contains("the grant is not renewed yet; tries again in "), "{}", ended.printed);
    assert_eq!(ended.code, 0);
    let gone = crate::ready_file::ReadyFile::at(set.ready.clone().into()).unwrap();
    drop(gone.give().unwrap());
    let stale = other.run(&ready).await;
    assert_eq!(stale.code, 1);
    assert!(stale.printed.starts_with("not ready: no living sidecar holds "), "{}", stale.printed);
}

#[tokio::test]
async fn a_lease_that_is_over_is_asked_for_anew() {
    let set = Set::with([Err(over(Code::NotFound, "NOT_FOUND")), Ok(lease(1))]).await;
    let ended = set.run_until("is renewed").await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    let anew = "grant 00000000000000aa is over: it ran out or was taken back; asks anew\n\
                23:59:59Z granted after 1 call and ?ms: grant 00000000000000aa";
    assert!(ended.printed.contains(anew), "{}", ended.printed);
    assert_eq!(set.stage.asked.lock().unwrap().len(), 2);
    assert_eq!(set.stage.lifecycle.lock().unwrap().released.len(), 1);
}

#[tokio::test]
async fn a_pod_whose_address_another_has_asks_for_nothing_more_and_gives_nothing_back() {
    let set = Set::with([Err(over(Code::FailedPrecondition, "POD_SUPERSEDED"))]).await;
    let ended = set.run_until("asks for nothing more").await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(ended.last_word.starts_with("{\"result\":\"ended_by_signal\","), "{}", ended.last_word);
    assert_eq!(set.stage.asked.lock().unwrap().len(), 1);
    assert!(set.stage.lifecycle.lock().unwrap().released.is_empty());
    assert!(!has(&set.grant) && !has(&set.ready));
}

#[tokio::test]
async fn a_pod_that_is_denied_later_loses_its_files_and_asks_again() {
    let set = Set::of(Stage::with_each([Ok(leased()), Ok(denied())]).await);
    set.stage.lifecycle.lock().unwrap().renewals.push_back(Err(over(Code::NotFound, "NOT_FOUND")));
    let ended = set.run_until("asks again in").await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(set.stage.lifecycle.lock().unwrap().released.is_empty());
    assert!(!has(&set.grant) && !has(&set.ready));
}

#[tokio::test]
async fn a_pod_that_may_not_start_ends_as_an_init_container_does() {
    for (answer, code) in [
        (Ok(denied()), 10),
        (refused(Code::ResourceExhausted, "APP_RATE", Some(Duration::from_hours(1))), 11),
        (refused(Code::Unauthenticated, "TOKEN_EXPIRED", None), 13),
        (refused(Code::FailedPrecondition, "POD_SUPERSEDED", None), 14),
    ] {
        let set = Set::of(Stage::with(answer).await);
        let ended = set.stage.run(&["sidecar", "--grant-file", &set.grant]).await;
        assert_eq!(ended.code, code, "{}", ended.printed);
        assert!(!has(&set.ready));
    }
}

#[tokio::test]
async fn a_pod_may_start_without_a_grant_and_its_sidecar_goes_on_asking() {
    let set = Set::of(Stage::without_gateway().await);
    let args = ["sidecar", "--grant-file", &set.grant, "--wait=200ms", "--on-unavailable=continue"];
    let ended = set.stage.run_until(&args, set.stage.said("asks again in")).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    let lines = "WARNING: what it reaches may refuse it until a grant is given\n\
                 23:59:59Z the pod may start: DIR/podgate-ready says so\n\
                 23:59:59Z asks again in ?ms\n";
    assert!(ended.printed.contains(lines), "{}", ended.printed);
    assert!(ended.last_word.starts_with("{\"result\":\"ended_by_signal\","), "{}", ended.last_word);
}

#[tokio::test]
async fn a_restart_knows_what_the_earlier_start_was_given() {
    let set = Set::with([]).await;
    let record =
        r#"{"app": "hotel-order", "pod": {"uid": "u-1"}, "grant_id": "00000000000000bb", "generation": 7}"#;
    std::fs::write(&set.grant, record).unwrap();
    // Told to end before it could ask.
    let at_once = async { Signal::Terminate };
    let ended = set.stage.run_until(&["sidecar", "--grant-file", &set.grant], at_once).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(
        ended.printed.contains("an earlier start was given grant 00000000000000bb\n"),
        "{}",
        ended.printed
    );
    {
        let lifecycle = set.stage.lifecycle.lock().unwrap();
        let [released] = &lifecycle.released[..] else { panic!("{:?}", lifecycle.released) };
        assert_eq!((released.grant_id.as_str(), released.generation), ("00000000000000bb", 0));
    }

    std::fs::write(&set.grant, record.replace("u-1", "u-2")).unwrap();
    let ended = set.run_until("the pod may start").await;
    assert!(ended.printed.contains("the grant in DIR/grant.json is not used: it is another's\n"));
    assert_eq!(set.stage.lifecycle.lock().unwrap().released[1].grant_id, "00000000000000aa");
}

#[tokio::test]
async fn a_gateway_that_is_away_in_the_end_is_tried_for_so_long_and_no_longer() {
    let set = Set::of(Stage::without_gateway().await);
    let record =
        r#"{"app": "hotel-order", "pod": {"uid": "u-1"}, "grant_id": "00000000000000bb", "generation": 7}"#;
    std::fs::write(&set.grant, record).unwrap();
    let started = Instant::now();
    let args = ["sidecar", "--grant-file", &set.grant, "--release-wait", "300ms"];
    let ended = set.stage.run_until(&args, async { Signal::Interrupt }).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(ended.last_word.starts_with("{\"result\":\"not_released\","), "{}", ended.last_word);
    assert_eq!(set.written()["grant_id"], "00000000000000bb", "the next start may still give it back");
}

#[tokio::test]
async fn a_grant_is_given_back_once_and_again() {
    let set = Set::with([]).await;
    assert_eq!(set.stage.run(&["--grant-file", &set.grant]).await.code, 0);
    let copy = std::fs::read(&set.grant).unwrap();
    let ended = set.stage.run(&["release", "--grant-file", &set.grant]).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(ended.printed.contains("grant 00000000000000aa is given back\n"), "{}", ended.printed);
    assert!(!has(&set.grant));
    let ended = set.stage.run(&["release", "--grant-file", &set.grant]).await;
    assert!(
        ended.printed.starts_with("23:59:59Z DIR/grant.json holds no grant: there is nothing to give back\n")
    );
    assert_eq!(ended.code, 0);
    std::fs::write(&set.grant, copy).unwrap();
    let ended = set.stage.run(&["release", "--grant-file", &set.grant]).await;
    assert!(ended.printed.contains("grant 00000000000000aa was over before\n"), "{}", ended.printed);
    assert_eq!(ended.code, 0);

    std::fs::write(&set.grant, "{").unwrap();
    let ended = set.stage.run(&["release", "--grant-file", &set.grant]).await;
    assert_eq!(ended.code, 2);
    let away = Set::of(Stage::without_gateway().await);
    std::fs::write(&away.grant, r#"{"app": "a", "grant_id": "aa", "generation": 1}"#).unwrap();
    let args = ["release", "--grant-file", &away.grant, "--release-wait=200ms"];
    let ended = away.stage.run(&args).await;
    assert_eq!(ended.code, 12, "{}", ended.printed);
    assert!(has(&away.grant));
}

#[tokio::test]
async fn what_would_be_decided_is_told_for_each_destination() {
    let stage = Stage::with(Ok(granted())).await;
    let allowed = decision("mysql", 3306, v1::Verdict::Allowed, v1::DenialReason::Unspecified);
    let denied = decision("mysql-hr", 3306, v1::Verdict::Denied, v1::DenialReason::HostNotAllowed);
    let explained = |allowed, decisions| v1::ExplainResponse {
        allowed,
        decisions,
        reason: v1::DenialReason::HostNotAllowed.into(),
        explanation: "because".to_owned(),
        ..v1::ExplainResponse::default()
    };
    stage.lifecycle.lock().unwrap().explained = Some(explained(true, vec![allowed.clone()]));
    let ended = stage.run(&["check"]).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert!(
        ended.printed.ends_with(
            "\
23:59:59Z answered (?ms)
23:59:59Z would be allowed: because
23:59:59Z   mysql:3306 allowed by rule order-db of hotel-order
23:59:59Z ends with exit code 0
"
        ),
        "{}",
        ended.printed
    );
    assert!(ended.last_word.starts_with("{\"result\":\"would_be_allowed\","), "{}", ended.last_word);

    stage.lifecycle.lock().unwrap().explained = Some(explained(false, vec![allowed, denied]));
    let ended = stage.run(&["check"]).await;
    assert_eq!(ended.code, 10, "{}", ended.printed);
    assert!(ended.printed.contains("would be denied: because, HOST_NOT_ALLOWED\n"), "{}", ended.printed);
    assert!(
        ended.last_word.contains("\"denied\":[{\"destination\":\"mysql-hr:3306\""),
        "{}",
        ended.last_word
    );

    stage.lifecycle.lock().unwrap().explained = None;
    assert_eq!(stage.run(&["check"]).await.code, 2);
    assert!(stage.asked.lock().unwrap().is_empty(), "nothing was asked for");
}
