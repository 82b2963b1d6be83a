//! How turns are kept: when the client comes back, on what connection, and with which ticket.

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

/// How far the paused clock goes beyond a timer, and a call through the pipes with it.
const SLACK: Duration = Duration::from_millis(3);

fn client(script: &Script) -> Client {
    client_of(vec![script.gateway()], RetryPolicy::default())
}

fn ignoring(script: &Script) -> Client {
    let retry = RetryPolicy { appointments: Appointments::Ignore, ..RetryPolicy::default() };
    client_of(vec![script.gateway()], retry)
}

fn appointment(ticket: &str, due_in: Duration) -> Appointment {
    Appointment { ticket: Ticket::new(ticket.into()).unwrap(), due_in }
}

/// As `authorize`, with an appointment of an earlier life.
async fn authorize_from(
    client: &Client,
    appointment: Appointment,
) -> (Result<Granted, AuthorizeError>, Vec<String>) {
    let mut steps = Vec::new();
    let outcome = client.authorize_from(Some(appointment), &ask(), |step| steps.push(word(&step))).await;
    (outcome, steps)
}

fn tickets(script: &Script) -> Vec<String> {
    script.0.lock().unwrap().seen.iter().map(|seen| seen.ticket.clone()).collect()
}

#[track_caller]
fn assert_on_time(at: Duration, due: Duration) {
    assert!(at >= due && at <= due + SLACK, "{at:?}, and {due:?} was due");
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_kept_to_the_millisecond_with_its_ticket() {
    let script = Script::new([Deed::Defer(3 * SECOND, "t1"), Deed::Grant]);
    let client = client(&script);
    let started = Instant::now();
    let (granted, steps) = authorize(&client).await;
    let granted = granted.unwrap();
    assert_eq!((granted.calls, granted.attempts), (2, 1));
    assert_eq!(steps, ["connect", "call 1/1", "booked t1 in 3s", "wait 3s as booked", "call 2/1", "Granted"]);
    assert_on_time(script.calls_at(started)[1], 3 * SECOND);
    assert_eq!(tickets(&script), ["", "t1"]);
    let play = script.0.lock().unwrap();
    assert!(play.seen.iter().all(|seen| seen.keeps_appointments));
    assert_eq!(play.seen[0].wait_budget, 540 * SECOND);
    assert!(play.seen[1].wait_budget <= 537 * SECOND && play.seen[1].wait_budget > 536 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_delay_counts_from_when_the_call_was_sent() {
    let slow = |deed| Deed::After(2 * SECOND, Box::new(deed));
    let script = Script::new([slow(Deed::Defer(3 * SECOND, "t1")), Deed::Grant]);
    let client = client(&script);
    let started = Instant::now();
    assert!(authorize(&client).await.0.is_ok());
    assert_on_time(script.calls_at(started)[1], 3 * SECOND);

    // A turn that is past when the answer comes is taken at once, and not looked for in the past.
    let script = Script::new([slow(Deed::Defer(SECOND, "t1")), Deed::Grant]);
    let client = self::client(&script);
    let started = Instant::now();
    assert!(authorize(&client).await.0.is_ok());
    assert_on_time(script.calls_at(started)[1], 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_the_observer_does_makes_nobody_late() {
    let script = Script::new([Deed::Defer(3 * SECOND, "t1"), Deed::Grant]);
    let client = client(&script);
    let started = Instant::now();
    let observe = |step: Step| {
        if matches!(step, Step::Answered { answer: Answer::Deferred { .. }, .. } | Step::Waiting { .. }) {
            // A paused clock stands still for whoever blocks, so this moves it by hand.
            let mut moved = std::pin::pin!(tokio::time::advance(SECOND));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = moved.as_mut().poll(&mut context);
        }
    };
    assert!(client.authorize(&ask(), observe).await.is_ok());
    assert!(started.elapsed() < 4 * SECOND, "{:?}", started.elapsed());
    assert_on_time(script.calls_at(started)[1], 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_through_five_seconds_and_not_longer() {
    for (delay, connections) in [(5 * SECOND, 1), (5 * SECOND + 10 * MILLISECOND, 2)] {
        let script = Script::new([Deed::Defer(delay, "t1"), Deed::Grant]);
        let client = client(&script);
        let started = Instant::now();
        assert!(authorize(&client).await.0.is_ok());
        assert_eq!(script.connections(), connections);
        assert_on_time(script.calls_at(started)[1], delay);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_ticket_goes_with_every_call_until_another_replaces_it() {
    let script = Script::new([
        told(SECOND),
        Deed::Defer(SECOND, "t1"),
        told(SECOND),
        Deed::Refuse(Code::Unavailable, None),
        Deed::Hang,
        Deed::Defer(6 * SECOND, "t2"),
        Deed::Grant,
        Deed::Grant,
    ]);
    let client = client(&script);
    let granted = authorize(&client).await.0.unwrap();
    // The first call, and those after the unavailable and the hanging gateway.
    assert_eq!((granted.calls, granted.attempts), (7, 3));
    assert_eq!(tickets(&script), ["", "", "t1", "t1", "t1", "t1", "t2"]);
    assert!(authorize(&client).await.0.is_ok());
    assert_eq!(tickets(&script)[7], "", "another request has no ticket of this one");
}

#[tokio::test(start_paused = true)]
async fn a_ticket_outlives_the_connection_and_the_gateway() {
    let script = Script::new([Deed::Defer(SECOND, "t1"), Deed::Grant]);
    let (gone, _) = mpsc::channel(1);
    let mut client = client_of(vec![script.gateway(), Gateway::in_memory(gone)], RetryPolicy::default());
    let mut steps = Vec::new();
    let observe = |step: Step| {
        if matches!(step, Step::Waiting { .. }) {
            script.cut_all();
        }
        steps.push(word(&step));
    };
    assert_eq!(client.authorize(&ask(), observe).await.unwrap().calls, 2);
    assert_eq!(steps[3..], ["wait 1s as booked", "call 2/1", "connect", "call 2/1", "Granted"]);
    assert_eq!(tickets(&script), ["", "t1"]);

    let first = Script::new([Deed::Defer(SECOND, "t1"), Deed::Refuse(Code::Unavailable, None)]);
    let second = Script::new([Deed::Grant]);
    let (gone, _) = mpsc::channel(1);
    client =
        client_of(vec![first.gateway(), Gateway::in_memory(gone), second.gateway()], RetryPolicy::default());
    let granted = authorize(&client).await.0.unwrap();
    assert_eq!((granted.calls, granted.attempts), (3, 2), "a dial that reached nobody is no call");
    assert_eq!(tickets(&second), ["t1"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_beyond_the_budget_is_given_up_at_once() {
    let centuries = Duration::from_secs(300 * 365 * 86_400);
    for (delay, reason) in [
        (540 * SECOND, "throttled: a turn is booked in 540.0 s (calls: 1)"),
        (centuries, "throttled: a turn is booked in 9460800000.0 s (calls: 1)"),
    ] {
        let script = Script::new([Deed::Defer(delay, "t1")]);
        let client = client(&script);
        let started = Instant::now();
        let error = authorize(&client).await.0.unwrap_err();
        assert_eq!(error.to_string(), reason);
        let AuthorizeError::Failed(CallError::Throttled(ended)) = error else { panic!("not throttled") };
        assert_eq!(ended.bound, Some(GiveUp::TurnBeyondBudget));
        assert!(started.elapsed() < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_always_defers_is_called_sixteen_times() {
    let script = Script::new((0..16).map(|_| Deed::Defer(Duration::ZERO, "t1")));
    let client = client(&script);
    let AuthorizeError::Failed(CallError::Throttled(ended)) = authorize(&client).await.0.unwrap_err() else {
        panic!("not throttled")
    };
    assert_eq!((ended.calls, ended.bound), (16, Some(GiveUp::Calls)));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_no_turn() {
    const LONG: &str = match std::str::from_utf8(&[b'x'; 513]) {
        Ok(long) => long,
        Err(_) => "",
    };
    for (ticket, words) in [("", "0 bytes"), (LONG, "513 bytes")] {
        let script = Script::new([Deed::Defer(3 * SECOND, ticket), Deed::Grant]);
        let client = client(&script);
        let (granted, steps) = authorize(&client).await;
        assert_eq!(granted.unwrap().attempts, 2);
        assert_eq!(
            steps[2],
            format!("Unavailable: the gateway's answer makes no sense: it defers with a ticket of {words}")
        );
        assert_eq!(tickets(&script), ["", ""]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_ignores_appointments_comes_when_it_likes() {
    let script = Script::new([
        told(3600 * SECOND),
        Deed::Refuse(Code::Unavailable, Some(3600 * SECOND)),
        Deed::Defer(3600 * SECOND, "t1"),
        Deed::Grant,
    ]);
    let client = ignoring(&script);
    let started = Instant::now();
    let (granted, steps) = authorize_from(&client, appointment("t0", 100 * SECOND)).await;
    let granted = granted.unwrap();
    assert_eq!((granted.calls, granted.attempts), (4, 4));
    assert!(started.elapsed() <= 7 * SECOND + SLACK, "{:?}", started.elapsed());
    assert_eq!(steps.iter().filter(|step| *step == "wait: OwnGuess").count(), 3);
    let play = script.0.lock().unwrap();
    assert!(play.seen.iter().all(|seen| !seen.keeps_appointments && seen.ticket.is_empty()));
    assert!(play.seen.iter().all(|seen| seen.wait_budget.is_zero()));
}

#[tokio::test(start_paused = true)]
async fn an_appointment_of_an_earlier_life_is_kept() {
    let script = Script::new([Deed::Grant]);
    let client = client(&script);
    let started = Instant::now();
    let (granted, steps) = authorize_from(&client, appointment("t0", 30 * SECOND)).await;
    let granted = granted.unwrap();
    assert_eq!((granted.calls, granted.attempts), (1, 0));
    assert_eq!(steps, ["wait 30s as booked", "connect", "call 1/0", "Granted"]);
    assert_on_time(script.calls_at(started)[0], 30 * SECOND);
    let play = script.0.lock().unwrap();
    assert_eq!(play.seen[0].ticket, "t0");
    assert!(play.seen[0].wait_budget <= 510 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_appointment_that_is_past_or_too_far_is_asked_about_at_once() {
    for due_in in [Duration::ZERO, 540 * SECOND, Duration::MAX] {
        let script = Script::new([Deed::Defer(SECOND, "t1"), Deed::Grant]);
        let client = client(&script);
        let started = Instant::now();
        let (granted, steps) = authorize_from(&client, appointment("t0", due_in)).await;
        assert!(granted.is_ok());
        assert_eq!(steps[0], "connect");
        assert_on_time(script.calls_at(started)[0], Duration::ZERO);
        assert_eq!(tickets(&script), ["t0", "t1"]);
    }
}
