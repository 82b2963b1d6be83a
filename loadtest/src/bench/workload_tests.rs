//! Messages and what is taken for a right answer.

use http::HeaderMap;
use podgate_proto::v1::{Denied, Granted};
use tonic_types::ErrorDetails;

use super::*;

fn slot() -> Slot {
    Slot {
        address: Ipv4Addr::new(127, 1, 2, 3),
        cluster: "bench-0".to_owned(),
        uid: "u-1".to_owned(),
        seed: 9,
        held: 0,
    }
}

fn decoded(message: &Bytes) -> AuthorizeRequest {
    AuthorizeRequest::decode(message.slice(5..)).unwrap()
}

fn uid(request: &AuthorizeRequest) -> &str {
    match &request.subject {
        Some(Subject::Pod(pod)) => &pod.uid,
        other => panic!("{other:?}"),
    }
}

fn reply(code: Code, message: &impl prost::Message) -> Reply {
    Reply { code: code as i32, metadata: HeaderMap::new(), message: message.encode_to_vec().into() }
}

fn granted_as(origin: GrantOrigin) -> Reply {
    let granted = Granted { origin: origin.into(), ..Granted::default() };
    reply(
        Code::Ok,
        &AuthorizeResponse { outcome: Some(Outcome::Granted(granted)), ..AuthorizeResponse::default() },
    )
}

#[test]
fn fresh_is_another_pod_each_time_and_repeat_is_the_same() {
    let mut fresh = Mode::Fresh.messages(&slot());
    let (first, second) = (fresh.next(), fresh.next());
    assert_ne!(uid(&decoded(&first)), uid(&decoded(&second)));
    assert_eq!(first.len(), second.len());
    let mut repeat = Mode::Repeat.messages(&slot());
    assert_eq!(repeat.next(), repeat.next());
    let (_, preparation) = Mode::Repeat.preparation(&slot()).unwrap();
    assert_eq!(decoded(&preparation), decoded(&repeat.next()));
}

#[test]
fn the_pod_that_empties_the_bucket_is_not_the_one_that_is_measured() {
    let (_, drain) = Mode::Throttled.preparation(&slot()).unwrap();
    let measured = decoded(&Mode::Throttled.messages(&slot()).next());
    assert_eq!(decoded(&drain).app, measured.app);
    assert_ne!(uid(&decoded(&drain)), uid(&measured));
}

fn refused_for(reason: &str) -> Reply {
    let details = ErrorDetails::with_error_info(reason, "podgate.io", [] as [(String, String); 0]);
    let status = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
    let mut metadata = HeaderMap::new();
    status.add_header(&mut metadata).unwrap();
    Reply { code: Code::ResourceExhausted as i32, metadata, message: Bytes::new() }
}

#[test]
fn another_limit_than_the_apps_is_not_what_is_measured() {
    assert_eq!(
        Mode::Throttled.check(&refused_for("PER_IP_CALLS")),
        Err("refused, but for PER_IP_CALLS".to_owned())
    );
}

#[test]
fn each_mode_takes_its_own_answer_only() {
    let denied = reply(
        Code::Ok,
        &AuthorizeResponse {
            outcome: Some(Outcome::Denied(Denied::default())),
            ..AuthorizeResponse::default()
        },
    );
    let refused = refused_for("APP_RATE");
    let allowed =
        reply(Code::Ok, &CheckResponse { verdict: Verdict::Allowed.into(), ..CheckResponse::default() });
    let right = [
        (Mode::Common, granted_as(GrantOrigin::Common)),
        (Mode::Repeat, granted_as(GrantOrigin::Repeated)),
        (Mode::Fresh, granted_as(GrantOrigin::Fresh)),
        (Mode::Check, allowed),
        (Mode::Denied, denied),
        (Mode::Throttled, refused),
    ];
    for mode in Mode::ALL {
        for (other, reply) in &right {
            assert_eq!(mode.check(reply).is_ok(), mode == *other, "{mode} of an answer to {other}");
        }
    }
}

#[test]
fn a_check_among_held_grants_asks_for_another_address_each_time() {
    let mut messages = Mode::Check.messages(&Slot { held: 1_000, ..slot() });
    let mut next = || CheckRequest::decode(messages.next().slice(5..)).unwrap();
    let (first, second) = (next(), next());
    assert_eq!((first.cluster.as_str(), second.cluster.as_str()), (held::CLUSTER, held::CLUSTER));
    assert!(first.address != second.address && first.address.starts_with("10.0."), "{first:?} {second:?}");
}
