//! How leases are renewed and given back, and what would be decided: within which bounds, and what the answers mean.

use super::*;
use crate::{DenialReason, Holding, Release, Renewal, Ruling};

/// What a scripted gateway does with one of these calls.
pub(super) enum Turn {
    /// Answers as it should.
    Serve,
    Refuse(Code, &'static str),
    Hang,
}

/// What is done with the next calls, and who asked.
#[derive(Default)]
pub(super) struct Play {
    turns: VecDeque<Turn>,
    asked: Vec<(String, String, u64)>,
}

fn script(turns: impl IntoIterator<Item = Turn>) -> Script {
    let script = Script::new([]);
    script.0.lock().unwrap().lifecycle.turns.extend(turns);
    script
}

async fn served(script: &Script, asked: (String, String, u64)) -> Result<(), Status> {
    let turn = {
        let mut play = script.0.lock().unwrap();
        play.lifecycle.asked.push(asked);
        play.lifecycle.turns.pop_front().expect("a call that the script does not foresee")
    };
    match turn {
        Turn::Serve => Ok(()),
        Turn::Refuse(code, reason) => {
            let details = ErrorDetails::with_error_info(reason, "podgate.io", []);
            Err(Status::with_error_details(code, "refused", details))
        }
        Turn::Hang => std::future::pending().await,
    }
}

pub(super) async fn renew(
    script: &Script,
    request: v1::RenewRequest,
) -> Result<Response<v1::RenewResponse>, Status> {
    let v1::RenewRequest { grant_id, pod_uid, generation } = request;
    served(script, (grant_id.clone(), pod_uid, generation)).await?;
    let renew_after = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    let lease = v1::Lease { grant_id, generation, renew_after, ..v1::Lease::default() };
    Ok(Response::new(v1::RenewResponse { lease: Some(lease) }))
}

pub(super) async fn release(
    script: &Script,
    request: v1::ReleaseRequest,
) -> Result<Response<v1::ReleaseResponse>, Status> {
    let v1::ReleaseRequest { grant_id, pod_uid, generation } = request;
    served(script, (grant_id, pod_uid, generation)).await?;
    let before = script.0.lock().unwrap().lifecycle.asked.len();
    Ok(Response::new(v1::ReleaseResponse { released: before == 1 }))
}

pub(super) async fn explain(
    script: &Script,
    request: v1::ExplainRequest,
) -> Result<Response<v1::ExplainResponse>, Status> {
    served(script, (request.app, String::new(), 0)).await?;
    Ok(Response::new(v1::ExplainResponse {
        allowed: false,
        reason: v1::DenialReason::HostNotAllowed.into(),
        explanation: "no rule allows mysql-hr:3306".to_owned(),
        ..v1::ExplainResponse::default()
    }))
}

fn client(script: &Script) -> Client {
    client_of(vec![script.gateway()], RetryPolicy::default())
}

fn holding() -> Holding {
    Holding { grant_id: "00000000000000aa".to_owned(), pod_uid: "u-1".to_owned(), generation: 3 }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_its_holder_on_the_connection_that_is_there() {
    let script = script([Turn::Serve, Turn::Refuse(Code::Unavailable, "DRAINING"), Turn::Serve]);
    let client = client(&script);
    let Ok(Renewal::Renewed(lease)) = client.renew(&holding(), 60 * SECOND, |_| ()).await else {
        panic!("not renewed")
    };
    assert_eq!((lease.generation, lease.renew_after), (3, Some(300 * SECOND)));
    let mut steps = Vec::new();
    let renewed = client.renew(&holding(), 60 * SECOND, |step| steps.push(word(&step))).await;
    assert!(matches!(renewed, Ok(Renewal::Renewed(_))));
    let refused = "Unavailable: refused [DRAINING]";
    assert_eq!(steps, ["call 1/1", refused, "wait: OwnGuess", "connect", "call 2/2", "Settled"]);
    let asked = ("00000000000000aa".to_owned(), "u-1".to_owned(), 3);
    assert_eq!(script.0.lock().unwrap().lifecycle.asked, vec![asked; 3]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_lease_is_an_answer() {
    for (turn, expected) in [
        (Turn::Refuse(Code::NotFound, "NOT_FOUND"), Renewal::Gone),
        (Turn::Refuse(Code::FailedPrecondition, "NO_LONGER_ALLOWED"), Renewal::Gone),
        (Turn::Refuse(Code::FailedPrecondition, "POD_SUPERSEDED"), Renewal::Superseded),
    ] {
        let script = script([turn]);
        assert_eq!(client(&script).renew(&holding(), 60 * SECOND, |_| ()).await, Ok(expected));
    }
    let script = script([Turn::Refuse(Code::NotFound, "NOT_FOUND")]);
    let released = client(&script).release(&holding(), SECOND, |_| ()).await;
    assert_eq!(released, Ok(Release::NothingHeld));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_not_there_is_dialed_in_patience() {
    let (gone, _) = mpsc::channel(1);
    let client = client_of(vec![Gateway::in_memory(gone)], RetryPolicy::default());
    let mut dials = 0;
    let observe = |step: Step| dials += u32::from(matches!(step, Step::Connecting { .. }));
    let started = Instant::now();
    let Err(CallError::Unavailable(ended)) = client.renew(&holding(), 60 * SECOND, observe).await else {
        panic!("renewed")
    };
    assert_eq!((ended.calls, ended.bound), (0, Some(GiveUp::Budget)));
    assert!(started.elapsed() <= 60 * SECOND);
    // A pod that starts would dial a hundred times in the first half of it.
    assert!(dials < 30, "{dials}");
}

#[tokio::test(start_paused = true)]
async fn giving_back_is_bounded_and_safe_to_repeat() {
    let script = script([Turn::Serve, Turn::Serve]);
    let client = client(&script);
    assert_eq!(client.release(&holding(), SECOND, |_| ()).await, Ok(Release::Ended));
    assert_eq!(client.release(&holding(), SECOND, |_| ()).await, Ok(Release::NothingHeld));

    let script = self::script([Turn::Hang]);
    let started = Instant::now();
    let hung = self::client(&script).release(&holding(), 2 * SECOND, |_| ()).await;
    assert!(matches!(hung, Err(CallError::Unavailable(_))), "{hung:?}");
    assert!(started.elapsed() <= 2 * SECOND + Duration::from_millis(10), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_decision_without_effect_is_an_answer_whatever_it_is() {
    let script = script([Turn::Refuse(Code::Unavailable, "OVERLOADED"), Turn::Serve]);
    let explained = client(&script).explain(&ask(), |_| ()).await.unwrap();
    assert_eq!(explained.ruling, Ruling::Denied(DenialReason::HostNotAllowed));
    assert_eq!(explained.explanation, "no rule allows mysql-hr:3306");
    let malformed = Ask { app: "A".to_owned(), ..ask() };
    let Err(CallError::Misconfigured(ended)) = client(&script).explain(&malformed, |_| ()).await else {
        panic!("sent")
    };
    assert_eq!(ended.calls, 0);
}
