//! Booking: who is admitted at once, who waits inside its call, who is told when to come, and who is sent away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use podgate_proto::v1::{AuthorizeRequest, DenialReason, GrantOrigin, ProfileServiceListRequest, Verdict};
use podgate_tests::{
    caller::Caller,
    clock,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    raw::RawConnection,
    refusal::{reason, retry_after},
    requests::authorize,
    yaml::{common_ports, profile},
};
use prost::Message as _;
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const HOST: &str = "db.shop.svc";
const DB: [(&str, u32); 1] = [(HOST, 3306)];
const DNS: (&str, u32) = ("dns.corp", 53);
const AUTHORIZE: &str = "/podgate.v1.AuthorizationService/Authorize";

/// A slot each five seconds: nobody's is near, and no test waits for one.
const FAR: &str = "  limits: { rate: 12/m, burst: 1 }\n";
const FAR_INTERVAL: Duration = Duration::from_secs(5);
/// A slot each second: the next one is waited for.
const NEAR: &str = "  limits: { rate: 1/s, burst: 1 }\n";

/// Pods of `shop` may reach many ports of one host, so that one pod has many questions.
fn shop(spec: &str) -> Setup {
    let shop = profile("shop", HOST, spec).replace("[3306]", "[3306-3400]");
    Setup::new().with_file("shop.yaml", shop).with_file("common.yaml", common_ports("everywhere", DNS.0))
}

/// A pod at an address of its own.
async fn pod(gateway: &Gateway, last: u8) -> Caller {
    Caller::from(gateway, &format!("127.0.1.{last}")).await
}

/// Has a first pod take the only token; returns when.
async fn spend(gateway: &Gateway) -> Duration {
    Caller::of(gateway).await.admitted(authorize("shop", "first", &DB)).await
}

fn waiting(budget: Duration, request: AuthorizeRequest) -> AuthorizeRequest {
    AuthorizeRequest { wait_budget: Some(budget.try_into().unwrap()), ..request }
}

/// Asks over bare HTTP/2, where nobody but the gateway looks at the deadline.
async fn ask_within(raw: &RawConnection, deadline: &str, request: &AuthorizeRequest) -> Status {
    raw.call(AUTHORIZE, &[("grpc-timeout", deadline)], &request.encode_to_vec()).await.unwrap()
}

async fn turns(gateway: &Gateway, turn: &str) -> Option<f64> {
    gateway.page("/metrics").await.metric("podgate_turns_total", &format!("turn=\"{turn}\""))
}

#[tokio::test]
async fn a_turn_that_is_near_is_waited_for_inside_the_call() {
    let gateway = shop(NEAR).start().await;
    let slot = spend(&gateway).await + Duration::from_secs(1);
    let second = pod(&gateway, 2).await;
    let admitted_at = second.admitted(authorize("shop", "second", &DB)).await;
    assert!(slot <= admitted_at, "admitted at {admitted_at:?}, before its slot at {slot:?}");
    assert!(admitted_at <= clock::since_boot());
    assert_eq!((turns(&gateway, "now").await, turns(&gateway, "parked").await), (Some(1.0), Some(1.0)));
    // Who has waited holds a grant as any other.
    let again = second.granted(authorize("shop", "second", &DB)).await;
    assert_eq!(again.origin(), GrantOrigin::Repeated);
}

#[tokio::test]
async fn a_later_call_takes_the_place_of_an_earlier_one_and_costs_nothing() {
    let gateway = shop(NEAR).start().await;
    let slot = spend(&gateway).await + Duration::from_secs(1);
    let caller = pod(&gateway, 2).await;
    let earlier = tokio::spawn({
        let caller = caller.clone();
        async move { caller.authorize(authorize("shop", "second", &DB)).await }
    });
    eventually("a parked call", async || (turns(&gateway, "parked").await == Some(1.0)).then_some(())).await;
    let admitted_at = caller.admitted(authorize("shop", "second", &DB)).await;
    assert!(slot <= admitted_at);
    let superseded = within("the earlier call", earlier).await.unwrap().unwrap_err();
    assert_eq!((superseded.code(), reason(&superseded).as_str()), (Code::Aborted, "SUPERSEDED"));
    // One slot was booked for both.
    assert!(caller.next_slot("shop").await.earliest < slot + Duration::from_secs(2));
}

#[tokio::test]
async fn who_breaks_off_and_comes_back_finds_its_place_again() {
    let gateway = shop(NEAR).start().await;
    let slot = spend(&gateway).await + Duration::from_secs(1);
    let caller = pod(&gateway, 2).await;
    let broken = tokio::spawn(async move { caller.authorize(authorize("shop", "second", &DB)).await });
    eventually("a parked call", async || (turns(&gateway, "parked").await == Some(1.0)).then_some(())).await;
    broken.abort();
    eventually("its end", async || (gateway.metric("podgate_parked").await == Some(0.0)).then_some(())).await;
    // Its slot is kept for it, and others come behind.
    let other = pod(&gateway, 3).await;
    assert!(other.next_slot("shop").await.is_at(slot + Duration::from_secs(1)));
    let admitted_at = pod(&gateway, 2).await.admitted(authorize("shop", "second", &DB)).await;
    assert!(
        (slot..slot + Duration::from_secs(1)).contains(&admitted_at),
        "{admitted_at:?} is not at {slot:?}"
    );
}

#[tokio::test]
async fn a_turn_further_away_is_told_with_a_ticket_and_asking_again_costs_nothing() {
    let gateway = shop(FAR).start().await;
    let first_at = spend(&gateway).await;
    let second = pod(&gateway, 2).await;
    let told = second.deferred(authorize("shop", "second", &DB)).await;
    assert!(told.slot.is_at(first_at + FAR_INTERVAL), "{told:?} is not an interval after {first_at:?}");
    assert!(!told.ticket.is_empty() && told.ticket.len() <= 512);
    let third = pod(&gateway, 3).await;
    let other = third.deferred(authorize("shop", "third", &DB)).await;
    assert!(other.slot.is_at(first_at + 2 * FAR_INTERVAL), "{other:?}");

    // On the same connection or another, with the ticket or without: the same instant, and so a shorter delay.
    for caller in [second.clone(), pod(&gateway, 2).await] {
        for ticket in [Vec::new(), told.ticket.clone()] {
            let request = AuthorizeRequest { ticket, ..authorize("shop", "second", &DB) };
            let again = caller.deferred(request).await;
            assert!(again.slot.is_at(first_at + FAR_INTERVAL), "{again:?} is another slot than {told:?}");
        }
        assert!(caller.booked(authorize("shop", "second", &DB)).await.is_at(first_at + FAR_INTERVAL));
    }
    assert!(second.next_slot("shop").await.is_at(first_at + 3 * FAR_INTERVAL));
    assert_eq!(gateway.metric("podgate_bookings_open").await, Some(2.0));
    // A promise is no grant.
    assert_eq!(second.all_grants().await.len(), 1);
    assert_eq!(second.check("127.0.1.2", HOST, 3306).await.verdict(), Verdict::Denied);
}

#[tokio::test]
async fn who_knows_no_appointments_is_told_when_to_come_and_admitted_then() {
    const INTERVAL: Duration = Duration::from_millis(2_400);
    let gateway = shop("  limits: { rate: 25/m, burst: 1 }\n").start().await;
    let first_at = spend(&gateway).await;
    let second = pod(&gateway, 2).await;
    let slot = second.booked(authorize("shop", "second", &DB)).await;
    assert!(slot.is_at(first_at + INTERVAL), "{slot:?} is not an interval after {first_at:?}");
    let later = pod(&gateway, 3).await.booked(authorize("shop", "third", &DB)).await;
    assert!(later.is_at(first_at + 2 * INTERVAL), "{later:?}");
    // It comes a little early, on a connection of its own, without a ticket.
    clock::until(slot.earliest.saturating_sub(Duration::from_secs(1))).await;
    let admitted_at = pod(&gateway, 2).await.admitted(authorize("shop", "second", &DB)).await;
    assert!((slot.earliest..later.earliest).contains(&admitted_at), "{admitted_at:?} is not at {slot:?}");
}

#[tokio::test]
async fn beyond_the_horizon_and_the_budget_nothing_is_booked() {
    let near = profile("near", HOST, "  limits: { rate: 12/m, burst: 1, horizon: 2s }\n");
    let gateway = shop(FAR).with_file("near.yaml", near).start().await;
    let first = Caller::of(&gateway).await;
    let near_at = first.admitted(authorize("near", "first", &DB)).await;
    let first_at = spend(&gateway).await;
    let bounds = |horizon: Duration| (horizon / 2)..=horizon;
    let budgets = [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3)];
    for last in 2..12 {
        let (caller, uid) = (pod(&gateway, last).await, format!("uid-{last}"));
        let (reason, delay) = caller.pushed_back(authorize("near", &uid, &DB)).await;
        assert_eq!(reason, "APP_RATE");
        assert!(bounds(Duration::from_secs(2)).contains(&delay), "{delay:?}");
        let budget = budgets[usize::from(last) % budgets.len()];
        let (reason, delay) = caller.pushed_back(waiting(budget, authorize("shop", &uid, &DB))).await;
        assert_eq!(reason, "APP_RATE");
        assert!(bounds(Duration::from_secs(120)).contains(&delay), "{delay:?}");
    }
    assert_eq!(gateway.metric("podgate_bookings_open").await, Some(0.0));
    assert!(first.next_slot("near").await.is_at(near_at + FAR_INTERVAL));
    // A budget that reaches the slot gets it: the first one, which nobody has booked.
    let request = waiting(Duration::from_secs(30), authorize("shop", "a", &DB));
    assert!(pod(&gateway, 2).await.deferred(request).await.slot.is_at(first_at + FAR_INTERVAL));
}

#[tokio::test]
async fn without_a_budget_it_is_a_plain_bucket() {
    let gateway = shop("  limits: { rate: 30/m, burst: 3 }\n").start().await;
    let at_once = |uid: &str| waiting(Duration::ZERO, authorize("shop", uid, &DB));
    for last in 1..=3 {
        pod(&gateway, last).await.admitted(at_once(&format!("uid-{last}"))).await;
    }
    let fourth = pod(&gateway, 4).await;
    assert_eq!(fourth.pushed_back(at_once("uid-4")).await.0, "APP_RATE");
    let next = fourth.next_slot("shop").await;
    assert_eq!(gateway.metric("podgate_bookings_open").await, Some(0.0));
    clock::until(next.latest).await;
    let admitted_at = fourth.admitted(at_once("uid-4")).await;
    assert!(next.earliest <= admitted_at);
}

#[tokio::test]
async fn a_deadline_that_cannot_be_met_books_nothing_and_one_that_is_short_is_told_a_slot() {
    const INTERVAL: Duration = Duration::from_millis(1_800);
    let gateway = shop("  limits: { rate: 2000/h, burst: 1 }\n").start().await;
    let first_at = spend(&gateway).await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let request = authorize("shop", "second", &DB);
    for deadline in ["0m", "1m", "900u"] {
        let status = ask_within(&raw, deadline, &request).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::DeadlineExceeded, "DEADLINE_TOO_SHORT"));
    }
    assert_eq!(gateway.metric("podgate_bookings_open").await, Some(0.0));
    // Time enough to answer, and not to wait: no call ends in the middle of its wait.
    let status = ask_within(&raw, "900m", &request).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "BOOKED"));
    let delay = retry_after(&status).unwrap();
    let slot = first_at + INTERVAL;
    assert!(slot <= clock::since_boot() + delay && delay < INTERVAL, "{delay:?} before {slot:?}");
}

#[tokio::test]
async fn one_pod_books_four_slots_at_most_however_it_asks() {
    let gateway = shop(FAR).start().await;
    let first_at = spend(&gateway).await;
    let greedy = pod(&gateway, 2).await;
    for number in 1..=4 {
        let turn = greedy.deferred(authorize("shop", "greedy", &[(HOST, 3306 + number)])).await;
        assert!(turn.slot.is_at(first_at + FAR_INTERVAL * number), "{turn:?}");
    }
    // A further question gets one of the four.
    for number in 5..=10 {
        let slot = greedy.deferred(authorize("shop", "greedy", &[(HOST, 3306 + number)])).await.slot;
        let is_own = |number| slot.is_at(first_at + FAR_INTERVAL * number);
        assert!((1..=4).any(is_own), "{slot:?} after {first_at:?}");
    }
    expect_fifth_slot(&gateway, first_at).await;
}

#[tokio::test]
async fn one_address_books_four_slots_at_most_whatever_uids_it_invents() {
    let gateway = shop(FAR).start().await;
    let first_at = spend(&gateway).await;
    let greedy = pod(&gateway, 2).await;
    for number in 1..=4 {
        let turn = greedy.deferred(authorize("shop", &format!("invented-{number}"), &DB)).await;
        assert!(turn.slot.is_at(first_at + FAR_INTERVAL * number), "{turn:?}");
    }
    for number in 5..=10 {
        let refused = greedy.pushed_back(authorize("shop", &format!("invented-{number}"), &DB)).await;
        assert_eq!(refused.0, "ADDRESS_BOOKINGS");
    }
    expect_fifth_slot(&gateway, first_at).await;
    // Those that were told a slot keep it: an address may be that of several pods.
    for number in 1..=4 {
        let again = greedy.deferred(authorize("shop", &format!("invented-{number}"), &DB)).await;
        assert!(again.slot.is_at(first_at + FAR_INTERVAL * number), "{again:?}");
    }
}

/// That the four slots of a greedy caller are all that it has booked.
async fn expect_fifth_slot(gateway: &Gateway, first_at: Duration) {
    assert_eq!(gateway.metric("podgate_bookings_open").await, Some(4.0));
    let other = pod(gateway, 3).await.deferred(authorize("shop", "other", &DB)).await;
    assert!(other.slot.is_at(first_at + 5 * FAR_INTERVAL), "{other:?}");
}

#[tokio::test]
async fn slots_of_those_who_never_come_go_to_those_who_wait() {
    const INTERVAL: Duration = Duration::from_millis(200);
    let gateway = shop("  limits: { rate: 5/s, burst: 1 }\n").start().await;
    let mut connections = Vec::new();
    for last in 101..=106 {
        connections.push(RawConnection::open_from([127, 0, 1, last].into(), gateway.grpc()).await);
    }
    let mut waiting = Vec::new();
    for last in 2..=4 {
        waiting.push(pod(&gateway, last).await);
    }
    let first_at = spend(&gateway).await;
    // No deadline of 200 ms leaves time to wait for a slot: these are told theirs, all at once, and do not come.
    let mut absent = JoinSet::new();
    for (number, raw) in connections.into_iter().enumerate() {
        let request = authorize("shop", &format!("absent-{number}"), &DB);
        absent.spawn(async move { reason(&ask_within(&raw, "200m", &request).await) == "BOOKED" });
    }
    let absent = absent.join_all().await.into_iter().filter(|is_booked| *is_booked).count();
    let own = waiting[0].next_slot("shop").await.earliest;
    assert!(
        absent >= 4 && own > first_at + 4 * INTERVAL,
        "{absent} were told a slot, the last before {own:?}"
    );
    let mut calls = JoinSet::new();
    for (number, caller) in waiting.into_iter().enumerate() {
        calls.spawn(async move { caller.admitted(authorize("shop", &format!("w-{number}"), &DB)).await });
    }
    let mut admitted = calls.join_all().await;
    admitted.sort();
    for (number, admitted_at) in (1..).zip(&admitted) {
        assert!(
            *admitted_at < own,
            "number {number} waited for its own slot: {admitted:?} after {first_at:?}"
        );
        // And still within the rate: nobody came late, and so it is B + R·Δ.
        assert!(first_at + INTERVAL * number <= *admitted_at, "{admitted:?} after {first_at:?}");
    }
    // The last of the others is given up 200 ms after its slot, when somebody asks.
    clock::until(own + INTERVAL).await;
    pod(&gateway, 6).await.admitted(authorize("shop", "last", &DB)).await;
    assert_eq!(gateway.metric("podgate_no_shows").await, Some(absent as f64));
}

#[tokio::test]
async fn what_changed_during_the_wait_is_decided_again() {
    let gateway = shop(NEAR).start().await;
    spend(&gateway).await;
    let caller = pod(&gateway, 2).await;
    let waiting = tokio::spawn(async move { caller.denied(authorize("shop", "second", &DB)).await });
    eventually("a parked call", async || (turns(&gateway, "parked").await == Some(1.0)).then_some(())).await;
    gateway.remove("shop.yaml");
    gateway.until_profiles(0).await;
    let denied = within("the call that waits", waiting).await.unwrap();
    assert_eq!(denied.reason(), DenialReason::NoProfile);
}

#[tokio::test]
async fn a_promise_that_a_lowered_rate_has_broken_is_told_at_once() {
    let gateway = shop(NEAR).start().await;
    let first_at = spend(&gateway).await;
    let mut parked = Vec::new();
    for last in 2..=3 {
        let caller = pod(&gateway, last).await;
        let request =
            AuthorizeRequest { keeps_appointments: true, ..authorize("shop", &format!("uid-{last}"), &DB) };
        parked.push(tokio::spawn(async move { (caller.authorize(request).await, clock::since_boot()) }));
        let count = f64::from(last - 1);
        eventually("a parked call", async || (turns(&gateway, "parked").await == Some(count)).then_some(()))
            .await;
    }
    let lowered = profile("shop", HOST, "  limits: { rate: 1/h, burst: 1 }\n");
    gateway.write("shop.yaml", lowered.replace("[3306]", "[3306-3400]"));
    let newcomer = pod(&gateway, 4).await;
    eventually("the lower rate", async || (newcomer.bucket("shop").await.rate_per_s < 0.5).then_some(()))
        .await;
    assert_eq!(newcomer.pushed_back(authorize("shop", "newcomer", &DB)).await.0, "APP_RATE");
    // There is room for one of the two, by what may exceed the burst; the other learns it at its slot, and does not wait
    // until its deadline.
    let second = within("the second call", parked.pop().unwrap()).await.unwrap();
    let first = within("the first call", parked.pop().unwrap()).await.unwrap();
    assert!(first.0.is_ok(), "{first:?}");
    let refused = second.0.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "APP_RATE"));
    assert!(retry_after(&refused).is_some());
    assert!(second.1 < first_at + Duration::from_secs(6), "{:?} after {first_at:?}", second.1);
}

/// Makes every call that takes no token; each must be answered.
async fn make_free_calls(gateway: &Gateway, holder: &Caller) {
    let newcomer = pod(gateway, 200).await;
    newcomer.granted(authorize("shop", "newcomer", &[DNS])).await;
    newcomer.denied(authorize("shop", "newcomer", &[("else.where", 1)])).await;
    let again = holder.granted(authorize("shop", "first", &DB)).await;
    assert_eq!(again.origin(), GrantOrigin::Repeated);
    assert_eq!(newcomer.check("127.0.0.1", HOST, 3306).await.verdict(), Verdict::Allowed);
    let mut health = HealthClient::new(newcomer.channel());
    let health = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
    assert!(newcomer.profiles().list(ProfileServiceListRequest::default()).await.is_ok());
    assert!(!newcomer.all_grants().await.is_empty());
    newcomer.next_slot("shop").await;
    assert_eq!(gateway.page("/readyz").await.status, 200);
}

#[tokio::test]
async fn what_takes_no_token_is_answered_while_an_app_is_saturated() {
    // Fewer calls at once than are parked: these only wait.
    let setup = shop("  limits: { rate: 5/s, burst: 1, horizon: 2s }\n").flag("--max-calls-in-flight", "4");
    let gateway = setup.start().await;
    spend(&gateway).await;
    let mut parked = JoinSet::new();
    for last in 2..=9 {
        let caller = pod(&gateway, last).await;
        parked.spawn(async move { caller.admitted(authorize("shop", &format!("uid-{last}"), &DB)).await });
        let count = f64::from(last - 1);
        eventually("a parked call", async || (turns(&gateway, "parked").await >= Some(count)).then_some(()))
            .await;
    }
    let holder = Caller::of(&gateway).await;
    make_free_calls(&gateway, &holder).await;
    assert!(gateway.metric("podgate_parked").await > Some(0.0), "the app was not saturated meanwhile");
    parked.join_all().await;
}

#[tokio::test]
async fn what_takes_no_token_is_answered_while_the_whole_capacity_is_booked() {
    let gateway = shop("").flag("--capacity-rate", "1/h").flag("--capacity-burst", "1").start().await;
    spend(&gateway).await;
    let newcomer = pod(&gateway, 2).await;
    assert_eq!(newcomer.pushed_back(authorize("shop", "second", &DB)).await.0, "CAPACITY");
    let holder = Caller::of(&gateway).await;
    timeout(Duration::from_secs(2), make_free_calls(&gateway, &holder)).await.unwrap();
    assert_eq!(newcomer.pushed_back(authorize("shop", "second", &DB)).await.0, "CAPACITY");
}
