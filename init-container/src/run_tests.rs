//! Whole runs against a gateway that answers as scripted, with everything that they print and leave behind.

use std::time::{Duration, UNIX_EPOCH};

use podgate_proto::v1;
use tonic::Code;

use super::*;
use crate::stage::{Stage, decision, deferred, denied, granted, refused, second_to_midnight};

#[tokio::test]
async fn a_grant_is_told_and_written() {
    let stage = Stage::with(Ok(granted())).await;
    let file = stage.path("grant.json");
    std::fs::write(&file, "an old grant").unwrap();
    let ended = stage.run(&["--destination", "mysql:3306", "--grant-file", &file]).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    assert_eq!(
        ended.printed,
        "\
23:59:59Z podgate-init 0.1.0: pod hotel/order-x7k2p, uid u-1, 127.0.0.1 asks as app hotel-order
23:59:59Z it asks for mysql:3306
23:59:59Z it waits until 2027-01-01T00:08:59Z (9m) at most; gateways: http://GATEWAY
23:59:59Z connecting to http://GATEWAY
23:59:59Z call 1: asking http://GATEWAY
23:59:59Z granted (?ms)
23:59:59Z granted after 1 call and ?ms: grant 00000000000000aa for 127.0.0.1, until 2027-01-01T00:59:59Z at the latest
23:59:59Z   mysql:3306 allowed by rule order-db of hotel-order
23:59:59Z the grant is written to DIR/grant.json
23:59:59Z ends with exit code 0
"
    );
    assert_eq!(
        ended.last_word,
        "{\"result\":\"granted\",\"reason\":\"granted after 1 call and ?ms: grant 00000000000000aa for 127.0.0.1, \
         until 2027-01-01T00:59:59Z at the latest\",\"app\":\"hotel-order\",\"calls\":1,\"waited_s\":0.?}"
    );
    assert_eq!(
        stage.masked(&std::fs::read_to_string(&file).unwrap()),
        "\
{
  \"app\": \"hotel-order\",
  \"pod\": {
    \"namespace\": \"hotel\",
    \"name\": \"order-x7k2p\",
    \"uid\": \"u-1\"
  },
  \"origin\": \"fresh\",
  \"shadow\": false,
  \"grant_id\": \"00000000000000aa\",
  \"generation\": 1,
  \"addresses\": [
    \"127.0.0.1\"
  ],
  \"expires_at\": \"2027-01-01T00:59:59Z\",
  \"granted_at\": \"2026-12-31T23:59:59Z\",
  \"policy_revision\": \"5d0c9a1b2e3f4a5b\",
  \"endpoint\": \"http://GATEWAY\",
  \"destinations\": [
    {
      \"host\": \"mysql\",
      \"port\": 3306,
      \"last_port\": 3306,
      \"protocol\": \"tcp\",
      \"verdict\": \"allowed\",
      \"rule\": \"order-db\",
      \"document\": \"hotel-order\"
    }
  ]
}
"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o644);
    let names: Vec<_> =
        std::fs::read_dir(stage.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
    assert_eq!(stage.asked.lock().unwrap()[0].wait_budget.unwrap().seconds, 539);
}

#[tokio::test]
async fn a_denial_names_what_is_denied() {
    let stage = Stage::with(Ok(v1::authorize_response::Outcome::Denied(v1::Denied {
        decisions: vec![
            decision("mysql", 3306, v1::Verdict::Allowed, v1::DenialReason::Unspecified),
            decision("mysql-hr", 3306, v1::Verdict::Denied, v1::DenialReason::HostNotAllowed),
        ],
        reason: v1::DenialReason::HostNotAllowed.into(),
        explanation: "no rule allows mysql-hr:3306".to_owned(),
    })))
    .await;
    let file = stage.path("grant.json");
    std::fs::write(&file, "an old grant").unwrap();
    let ended = stage.run(&["--grant-file", &file]).await;
    assert_eq!(ended.code, 10);
    assert!(
        ended.printed.ends_with(
            "\
23:59:59Z denied (?ms)
23:59:59Z denied: no rule allows mysql-hr:3306
23:59:59Z   mysql:3306 allowed by rule order-db of hotel-order
23:59:59Z   mysql-hr:3306 denied: HOST_NOT_ALLOWED, no rule allows mysql-hr
23:59:59Z ends with exit code 10
"
        ),
        "{}",
        ended.printed
    );
    assert_eq!(
        ended.last_word,
        "{\"result\":\"denied\",\"reason\":\"no rule allows mysql-hr:3306\",\"app\":\"hotel-order\",\"calls\":1,\
         \"waited_s\":0.?,\"denied\":[{\"destination\":\"mysql-hr:3306\",\"reason\":\"HOST_NOT_ALLOWED\"}]}"
    );
    assert!(!std::path::Path::new(&file).exists(), "an old grant outlives no denial");
}

#[tokio::test]
async fn each_other_end_has_its_code() {
    let hour = Some(Duration::from_hours(1));
    for (answer, code, last_word) in [
        (
            refused(Code::ResourceExhausted, "APP_RATE", hour),
            11,
            "{\"result\":\"throttled\",\"reason\":\"throttled after 1 call and ?ms: refused [APP_RATE]; the gateway's \
             turn comes only after the wait of 9m\",",
        ),
        (
            refused(Code::Unavailable, "DRAINING", hour),
            12,
            "{\"result\":\"unavailable\",\"reason\":\"unavailable after 1 call and ?ms: refused [DRAINING]; the \
             gateway's turn comes only after the wait of 9m\",",
        ),
        (
            refused(Code::Unauthenticated, "TOKEN_EXPIRED", None),
            13,
            "{\"result\":\"unauthenticated\",\"reason\":\"not authenticated after 1 call and ?ms: refused \
             [TOKEN_EXPIRED]\",",
        ),
        (
            refused(Code::InvalidArgument, "INVALID_FIELD", None),
            2,
            "{\"result\":\"misconfigured\",\"reason\":\"misconfigured after 1 call and ?ms: refused \
             [INVALID_FIELD]\",",
        ),
    ] {
        let ended = Stage::with(answer).await.run(&[]).await;
        assert_eq!(ended.code, code, "{}", ended.printed);
        let expected = format!("{last_word}\"app\":\"hotel-order\",\"calls\":1,\"waited_s\":0.?}}");
        assert_eq!(ended.last_word, expected);
    }
}

#[tokio::test]
async fn a_booked_turn_outlives_the_program() {
    let stage = Stage::with_each([Ok(deferred(30)), Ok(granted())]).await;
    let (grant, ticket) = (stage.path("grant.json"), stage.path("podgate-ticket.json"));
    let args = ["--destination", "mysql:3306", "--grant-file", &grant, "--wait", "20s"];
    let first = stage.run(&args).await;
    assert_eq!(first.code, 11);
    assert!(first.printed.contains("23:59:59Z a turn is booked in 29."), "{}", first.printed);
    assert!(
        first.printed.ends_with(
            "\
23:59:59Z throttled after 1 call and ?ms: a turn is booked in 30.0 s; the gateway's turn comes only after the wait of 20s
23:59:59Z ends with exit code 11
"
        ),
        "{}",
        first.printed
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&ticket).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o600);
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&ticket).unwrap()).unwrap();
    assert_eq!((&kept["request"]["pod_uid"], &kept["ticket"]), (&"u-1".into(), &"c2VjcmV0".into()));

    let second =
        stage.run_at(second_to_midnight() + Duration::from_secs(30), &args, std::future::pending()).await;
    assert_eq!(second.code, 0, "{}", second.printed);
    assert!(second.printed.contains(
        "\
00:00:29Z an earlier start was booked a turn, which is due
00:00:29Z connecting to http://GATEWAY
00:00:29Z call 1: asking http://GATEWAY
00:00:29Z granted (?ms)
"
    ));
    assert!(!std::path::Path::new(&ticket).exists());
    {
        let asked = stage.asked.lock().unwrap();
        assert!(asked.iter().all(|request| request.keeps_appointments));
        let tickets: Vec<&[u8]> = asked.iter().map(|request| request.ticket.as_slice()).collect();
        assert_eq!(tickets, [&b""[..], b"secret"]);
    }
    for said in [first.printed, first.last_word, second.printed, second.last_word] {
        assert!(!said.contains("secret") && !said.contains("c2VjcmV0"), "{said}");
    }
}

#[tokio::test]
async fn a_settled_request_leaves_no_ticket() {
    for (settled, code) in
        [(Ok(granted()), 0), (Ok(denied()), 10), (refused(Code::InvalidArgument, "INVALID_FIELD", None), 2)]
    {
        let stage = Stage::with_each([Ok(deferred(0)), settled]).await;
        let ticket = stage.path("t");
        let ended = stage.run(&["--ticket-file", &ticket]).await;
        assert_eq!(ended.code, code);
        assert!(ended.printed.contains("a turn is booked in ?ms (?ms)"), "{}", ended.printed);
        assert_eq!(stage.asked.lock().unwrap()[1].ticket, b"secret");
        assert!(!std::path::Path::new(&ticket).exists());
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_turn_is_waited_for() {
    let stage = Stage::without_gateway().await;
    let ticket = stage.path("t");
    let request = r#"{"app": "hotel-order", "pod_uid": "u-1", "destinations": []}"#;
    let kept =
        format!(r#"{{"request": {request}, "ticket": "c2VjcmV0", "due_at": "2027-01-01T00:00:28.900Z"}}"#);
    std::fs::write(&ticket, kept).unwrap();
    let started = Instant::now();
    let after = tokio::time::sleep(Duration::from_secs(25));
    let signal = async move {
        after.await;
        Signal::Terminate
    };
    let ended = stage.run_until(&["--ticket-file", &ticket], signal).await;
    assert_eq!((ended.code, started.elapsed().as_secs()), (143, 25));
    let lines = "23:59:59Z an earlier start was booked a turn, due in 29.9s\n\
         23:59:59Z waiting 29.9s, until 00:00:28Z: comes back for its turn then\n\
         23:59:59Z ended by SIGTERM before there was a decision\n";
    assert!(ended.printed.contains(lines), "{}", ended.printed);
    assert!(std::path::Path::new(&ticket).exists(), "the next start may still keep it");
}

#[tokio::test]
async fn a_ticket_that_is_of_no_use_is_told_and_nothing_fails() {
    let stage = Stage::with_each([Ok(deferred(0)), Ok(granted())]).await;
    let ticket = stage.path("t");
    std::fs::write(&ticket, "{\"request\": {\"app").unwrap();
    let ended = stage.run(&["--ticket-file", &ticket]).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    let line = "the ticket in DIR/t is not used: it is not what this program writes (line 1, column 17)\n";
    assert!(ended.printed.contains(line), "{}", ended.printed);

    let stage = Stage::with_each([Ok(deferred(0)), Ok(granted())]).await;
    let directory = stage.path("d");
    std::fs::create_dir(&directory).unwrap();
    let ended = stage.run(&["--ticket-file", &directory]).await;
    assert_eq!(ended.code, 0, "{}", ended.printed);
    for line in [
        "the ticket in DIR/d is not used: it can't be read: it is no file\n",
        "the ticket can't be kept in DIR/d: Is a directory (os error 21); a restart would lose it\n",
        "the ticket in DIR/d can't be removed: Is a directory (os error 21)\n",
    ] {
        assert!(ended.printed.contains(line), "{}", ended.printed);
    }
    assert_eq!(stage.asked.lock().unwrap()[1].ticket, b"secret", "this start keeps it all the same");
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_gateway_is_waited_for_to_the_end() {
    let stage = Stage::without_gateway().await;
    let started = Instant::now();
    let ended = stage.run(&["--wait", "5m"]).await;
    assert_eq!(ended.code, 12);
    let waited = started.elapsed();
    assert!((Duration::from_secs(270)..=Duration::from_mins(5)).contains(&waited), "{waited:?}");
    assert!(
        ended.printed.contains("not reached: GATEWAY can't be reached: Connection refused (os error 111)")
    );
    assert!(
        ended
            .last_word
            .starts_with("{\"result\":\"unavailable\",\"reason\":\"unavailable after 0 calls and 4m")
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_may_start_without_a_grant_and_says_so() {
    let stage = Stage::without_gateway().await;
    let file = stage.path("grant.json");
    std::fs::write(&file, "an old grant").unwrap();
    let ended = stage.run(&["--wait=1s", "--on-unavailable=continue", "--grant-file", &file]).await;
    assert_eq!(ended.code, 0);
    assert!(ended.printed.ends_with(
        "\
23:59:59Z WARNING: the pod starts WITHOUT A GRANT, for --on-unavailable is continue;
23:59:59Z WARNING: what it reaches may refuse it until a grant is given
23:59:59Z ends with exit code 0
"
    ));
    assert!(ended.last_word.starts_with("{\"result\":\"unavailable_continued\","));
    assert!(!std::path::Path::new(&file).exists());
}

#[tokio::test]
async fn continue_forgives_neither_denial_nor_throttling() {
    let throttled = refused(Code::ResourceExhausted, "APP_RATE", Some(Duration::from_hours(1)));
    assert_eq!(Stage::with(throttled).await.run(&["--on-unavailable=continue"]).await.code, 11);
    assert_eq!(Stage::with(Ok(denied())).await.run(&["--on-unavailable=continue"]).await.code, 10);
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_the_wait_at_once() {
    for (signal, name, code) in [(Signal::Terminate, "SIGTERM", 143), (Signal::Interrupt, "SIGINT", 130)] {
        let stage = Stage::without_gateway().await;
        let started = Instant::now();
        let after = tokio::time::sleep(Duration::from_secs(7));
        let ended = stage
            .run_until(&[], async move {
                after.await;
                signal
            })
            .await;
        assert_eq!((ended.code, started.elapsed().as_secs()), (code, 7));
        let end = format!("{name} before there was a decision\n23:59:59Z ends with exit code {code}\n");
        assert!(ended.printed.ends_with(&end), "{}", ended.printed);
        assert!(ended.last_word.starts_with("{\"result\":\"ended_by_signal\","));
    }
}

#[tokio::test]
async fn wrong_settings_are_told_in_both_places() {
    let stage = Stage::without_gateway().await;
    let ended = stage.run(&["--wiat", "5s", "--call-timeout=x"]).await;
    assert_eq!(ended.code, 2);
    assert_eq!(
        ended.printed,
        "\
23:59:59Z podgate-init 0.1.0 can't ask; 2 settings have to be put right:
23:59:59Z   --wiat: is no flag; did you mean --wait?
23:59:59Z   --call-timeout: \"x\" is not a span; expected such as 90s, 9m, 1h30m or 500?ms
23:59:59Z ends with exit code 2
"
        .replace("500?ms", "?ms")
    );
    assert!(ended.last_word.starts_with(
        "{\"result\":\"misconfigured\",\"reason\":\"--wiat: is no flag; did you mean --wait?; --call-timeout: "
    ));
}

#[tokio::test]
async fn pages_are_shown_without_a_run() {
    for (flag, page) in [("--help", flags::help()), ("-V", format!("podgate-init {}\n", version()))] {
        let mut out = Vec::new();
        let process = Process {
            args: vec![flag.into()],
            vars: Vec::new(),
            out: &mut out,
            now: &|| UNIX_EPOCH,
            seed: 1,
        };
        assert_eq!(run(process, std::future::pending()).await, ExitCode::Granted);
        assert_eq!(String::from_utf8(out).unwrap(), page);
    }
}
