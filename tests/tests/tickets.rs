//! Tickets: the proof of a booked turn, on time, again, forged, in other hands, late, and across a restart.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, time::Duration};

use podgate_proto::v1::{AuthorizeRequest, GrantOrigin, ReleaseRequest};
use podgate_tests::{
    caller::Caller,
    clock,
    gateway::{Gateway, Setup},
    refusal::{fields, reason},
    requests::{authorize, authorize_host},
    turn::Turn,
    yaml::{profile, profile_for},
};
use tonic::{Code, metadata::BinaryMetadataValue};

const HOST: &str = "db.shop.svc";
const DB: [(&str, u32); 1] = [(HOST, 3306)];
/// Bytes of a ticket, and where its code begins (docs/api.md calls it opaque; a forger does not).
const TICKET_BYTES: usize = 74;
const MAC_AT: usize = 42;

/// A slot each ten seconds: no test waits for one.
const FAR: &str = "  limits: { rate: 6/m, burst: 1, horizon: 10m }\n";
const FAR_INTERVAL: Duration = Duration::from_secs(10);

/// Two apps for the same pods; a pod may ask for each of many ports.
fn shop(spec: &str) -> Setup {
    let app = |name: &str| profile(name, HOST, spec).replace("[3306]", "[3306-3400]");
    Setup::new().with_file("shop.yaml", app("shop")).with_file("mail.yaml", app("mail"))
}

async fn pod(gateway: &Gateway, last: u8) -> Caller {
    Caller::from(gateway, &format!("127.0.1.{last}")).await
}

async fn spend(gateway: &Gateway, app: &str) -> Duration {
    Caller::of(gateway).await.admitted(authorize(app, "first", &DB)).await
}

fn bearing(ticket: &[u8], request: AuthorizeRequest) -> AuthorizeRequest {
    AuthorizeRequest { ticket: ticket.to_vec(), keeps_appointments: true, ..request }
}

/// How many tickets came to this result.
async fn count(gateway: &Gateway, result: &str) -> u64 {
    let page = gateway.page("/metrics").await;
    page.metric("podgate_tickets_total", &format!("result=\"{result}\"")).unwrap_or_default() as u64
}

/// How many tickets came at all.
async fn count_all(gateway: &Gateway) -> u64 {
    gateway.metric("podgate_tickets_total").await.unwrap_or_default() as u64
}

/// How many tickets had been redeemed, or were late.
async fn count_worthless(gateway: &Gateway) -> u64 {
    count(gateway, "spent").await + count(gateway, "late").await
}

#[tokio::test]
async fn who_comes_on_time_is_granted_and_a_replay_changes_nothing() {
    // Nobody may wait inside a call, and so each is told its slot.
    let setup = shop("  limits: { rate: 1/s, burst: 1 }\n").flag("--max-parked-calls", "0");
    let gateway = setup.start().await;
    // Where the machine was too slow to come within 200 ms of a slot, the next pod tries.
    for last in 2..12 {
        spend_again(&gateway, last).await;
        let (caller, uid) = (pod(&gateway, last).await, format!("uid-{last}"));
        let request = || authorize("shop", &uid, &DB);
        let Turn { slot, ticket } = caller.deferred(request()).await;
        clock::until(slot.latest).await;
        let before = count(&gateway, "on_time").await;
        let granted = caller.granted(bearing(&ticket, request())).await;
        if clock::since_boot() > slot.earliest + Duration::from_millis(200) {
            continue;
        }
        let used = count(&gateway, "on_time").await - before;
        assert_eq!((used, granted.origin()), (1, GrantOrigin::Fresh));
        let admitted_at = Duration::try_from(granted.admitted_at.unwrap()).unwrap();
        assert!(slot.earliest <= admitted_at, "admitted at {admitted_at:?}, before {slot:?}");
        let next = caller.next_slot("shop").await;

        let (worthless, all) = (count_worthless(&gateway).await, count_all(&gateway).await);
        for caller in [caller.clone(), pod(&gateway, last).await] {
            let again = caller.granted(bearing(&ticket, request())).await;
            assert_eq!((again.origin(), &again.lease), (GrantOrigin::Repeated, &granted.lease));
            assert_eq!(again.admitted_at, granted.admitted_at);
        }
        // Nothing was spent, and no slot moved; the ticket was not even looked at.
        assert_eq!(count_all(&gateway).await, all);
        let after = caller.next_slot("shop").await;
        assert!(after.earliest <= next.latest.max(clock::since_boot()), "{next:?} has become {after:?}");

        // Without the grant, the ticket is worth nothing more: it has been redeemed, and may be late by now.
        let release =
            ReleaseRequest { grant_id: granted.lease.unwrap().grant_id, pod_uid: uid.clone(), generation: 0 };
        assert!(caller.authorization().release(release).await.unwrap().into_inner().released);
        let walk_in = caller.deferred(bearing(&ticket, request())).await;
        assert!(walk_in.slot.is(after), "{walk_in:?} is not the newcomer's {after:?}");
        assert_eq!((count_worthless(&gateway).await, count_all(&gateway).await), (worthless + 1, all + 1));
        return;
    }
    panic!("ten times no call came within 200 ms");
}

/// Has another pod take the token, if it is there.
async fn spend_again(gateway: &Gateway, last: u8) {
    let request = authorize("shop", &format!("before-{last}"), &DB);
    let request = AuthorizeRequest { wait_budget: Some(prost_types::Duration::default()), ..request };
    let outcome = Caller::from(gateway, &format!("127.0.2.{last}")).await.authorize(request).await;
    assert!(outcome.is_ok() || reason(&outcome.unwrap_err()) == "APP_RATE");
}

#[tokio::test]
async fn who_comes_a_little_early_waits_inside_the_call_and_keeps_its_slot() {
    const INTERVAL: Duration = Duration::from_millis(2_400);
    let gateway = shop("  limits: { rate: 25/m, burst: 1 }\n").start().await;
    let first_at = spend(&gateway, "shop").await;
    let caller = pod(&gateway, 2).await;
    let Turn { slot, ticket } = caller.deferred(authorize("shop", "second", &DB)).await;
    clock::until(slot.earliest.saturating_sub(Duration::from_secs(1))).await;
    let admitted_at = caller.admitted(bearing(&ticket, authorize("shop", "second", &DB))).await;
    assert!((first_at + INTERVAL..first_at + 2 * INTERVAL).contains(&admitted_at), "{admitted_at:?}");
    assert_eq!((count(&gateway, "early").await, count_all(&gateway).await), (1, 1));
}

/// Presents a ticket as another pod; expects that it is booked behind all others, and that the ticket is counted.
async fn expect_walk_in(gateway: &Gateway, last: u8, ticket: &[u8], result: &str) {
    let before = (count(gateway, result).await, count_all(gateway).await);
    let caller = pod(gateway, last).await;
    let next = caller.next_slot("shop").await;
    let turn = caller.deferred(bearing(ticket, authorize("shop", &format!("walk-in-{last}"), &DB))).await;
    assert!(turn.slot.is(next), "{result}: {:?} is not the newcomer's {next:?}", turn.slot);
    let after = (count(gateway, result).await, count_all(gateway).await);
    assert_eq!(after, (before.0 + 1, before.1 + 1), "{result} is not what it was counted as");
}

#[tokio::test]
async fn a_forged_ticket_is_worth_nothing_and_does_no_harm() {
    let gateway = shop(FAR).start().await;
    let first_at = spend(&gateway, "shop").await;
    let holder = pod(&gateway, 2).await;
    let genuine = holder.deferred(authorize("shop", "holder", &DB)).await;
    assert_eq!(genuine.ticket.len(), TICKET_BYTES);
    let with = |at: usize, bits: u8| {
        let mut ticket = genuine.ticket.clone();
        ticket[at] ^= bits;
        ticket
    };
    let noise: Vec<u8> =
        (0..512u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8 | 2).collect();
    let longer = [genuine.ticket.as_slice(), b"\0"].concat();
    let forged = [
        (noise[..TICKET_BYTES].to_vec(), "malformed"),
        (noise, "malformed"),
        (vec![0], "malformed"),
        (genuine.ticket[..TICKET_BYTES - 1].to_vec(), "malformed"),
        (longer, "malformed"),
        (with(0, 1), "malformed"),
        (with(1, 1), "unknown_key"),
        (with(2, 1), "bad_mac"),
        // Another slot: the one thing that it would pay to forge.
        (with(12, 1), "bad_mac"),
        (with(MAC_AT - 1, 0x80), "bad_mac"),
        (with(MAC_AT, 1), "bad_mac"),
        (with(TICKET_BYTES - 1, 0x80), "bad_mac"),
    ];
    for (last, (ticket, result)) in (10..).zip(&forged) {
        expect_walk_in(&gateway, last, ticket, result).await;
    }
    // What is no ticket by its length alone is a fault of the request, and books nothing.
    let next = holder.next_slot("shop").await;
    let refused = holder.refused(bearing(&[0; 513], authorize("shop", "holder", &DB))).await;
    assert_eq!((refused.code(), fields(&refused)), (Code::InvalidArgument, vec!["ticket".to_owned()]));
    assert!(holder.next_slot("shop").await.is(next));
    // The holder has what it was told, with a forged ticket in hand as well.
    for ticket in [&genuine.ticket, &forged[7].0] {
        let again = holder.deferred(bearing(ticket, authorize("shop", "holder", &DB))).await;
        assert!(again.slot.is_at(first_at + FAR_INTERVAL), "{again:?} is another slot than {genuine:?}");
    }
    assert_eq!(holder.all_grants().await.len(), 1);
}

#[tokio::test]
async fn a_ticket_in_other_hands_is_worth_nothing() {
    let gateway = shop(FAR).start().await;
    spend(&gateway, "shop").await;
    let mail_at = spend(&gateway, "mail").await;
    let holder = pod(&gateway, 2).await;
    let Turn { slot, ticket } = holder.deferred(authorize("shop", "holder", &DB)).await;
    expect_walk_in(&gateway, 3, &ticket, "foreign_uid").await;
    // The same pod, with another question, and for another app.
    let next = holder.next_slot("shop").await;
    let other = holder.deferred(bearing(&ticket, authorize("shop", "holder", &[(HOST, 3307)]))).await;
    assert!(other.slot.is(next), "{other:?} is not the newcomer's {next:?}");
    assert_eq!(count(&gateway, "foreign_request").await, 1);
    let other = holder.deferred(bearing(&ticket, authorize("mail", "holder", &DB))).await;
    assert!(other.slot.is_at(mail_at + FAR_INTERVAL), "{other:?} is not the first of mail");
    assert_eq!(count(&gateway, "foreign_app").await, 1);
    // Of another gateway, with a store and so a key of its own.
    let elsewhere = shop(FAR).start().await;
    spend(&elsewhere, "shop").await;
    let foreign = pod(&elsewhere, 4).await.deferred(authorize("shop", "walk-in-4", &DB)).await;
    expect_walk_in(&gateway, 4, &foreign.ticket, "bad_mac").await;

    assert!(holder.deferred(bearing(&ticket, authorize("shop", "holder", &DB))).await.slot.is(slot));
    assert_eq!((count(&gateway, "early").await, count_all(&gateway).await), (1, 5));
}

#[tokio::test]
async fn a_machines_ticket_is_worth_nothing_at_another_address() {
    let spec = "  limits: { rate: 6/m, burst: 1 }\n";
    let machines = profile_for("hosts: { cidrs: [127.9.0.0/16] }", "shop", HOST, spec);
    let gateway = Setup::new().with_file("shop.yaml", machines).start().await;
    let machine = async |last: u8| Caller::from(&gateway, &format!("127.9.0.{last}")).await;
    let first_at = machine(1).await.admitted(authorize_host("shop", &DB)).await;
    let told = machine(2).await.deferred(authorize_host("shop", &DB)).await;
    let stolen = machine(3).await.deferred(bearing(&told.ticket, authorize_host("shop", &DB))).await;
    assert!(stolen.slot.is_at(first_at + 2 * FAR_INTERVAL), "{stolen:?} is not a slot of its own");
    assert_eq!(count(&gateway, "foreign_uid").await, 1);
    let kept = machine(2).await.deferred(bearing(&told.ticket, authorize_host("shop", &DB))).await;
    assert!(kept.slot.is_at(first_at + FAR_INTERVAL), "{kept:?} is not what it was told: {told:?}");
}

#[tokio::test]
async fn who_comes_late_is_a_walk_in() {
    let setup = shop("  limits: { rate: 200/m, burst: 1 }\n").flag("--max-parked-calls", "0");
    let gateway = setup.start().await;
    spend(&gateway, "shop").await;
    let late = pod(&gateway, 2).await;
    let Turn { slot, ticket } = late.deferred(authorize("shop", "late", &DB)).await;
    clock::until(slot.latest + Duration::from_millis(210)).await;
    // Others have come meanwhile, and have what is there.
    let mut booked = 0;
    for last in 3..8 {
        let request =
            AuthorizeRequest { keeps_appointments: true, ..authorize("shop", &format!("uid-{last}"), &DB) };
        booked += usize::from(pod(&gateway, last).await.authorize(request).await.is_ok());
    }
    assert_eq!(booked, 5);
    let next = late.next_slot("shop").await;
    let turn = late.deferred(bearing(&ticket, authorize("shop", "late", &DB))).await;
    assert!(turn.slot.is(next), "{turn:?} is not the newcomer's {next:?}");
    assert_eq!((count(&gateway, "late").await, count_all(&gateway).await), (1, 1));
}

#[tokio::test]
async fn a_ticket_is_honoured_after_a_kill_and_newcomers_come_behind_it() {
    const INTERVAL: Duration = Duration::from_secs(4);
    let gateway = shop("  limits: { rate: 15/m, burst: 1 }\n").start().await;
    let first_at = spend(&gateway, "shop").await;
    let Turn { ticket, .. } = pod(&gateway, 2).await.deferred(authorize("shop", "holder", &DB)).await;
    let slot = first_at + INTERVAL;

    // And after another, though nothing was told in between.
    let gateway = gateway.kill().await.start().await.kill().await.start().await;
    let newcomer = pod(&gateway, 3).await.deferred(authorize("shop", "newcomer", &DB)).await;
    assert!(newcomer.slot.earliest > slot + Duration::from_secs(1), "{newcomer:?} may collide with {slot:?}");
    let holder = pod(&gateway, 2).await;
    clock::until(slot.saturating_sub(Duration::from_secs(1))).await;
    let admitted_at = holder.admitted(bearing(&ticket, authorize("shop", "holder", &DB))).await;
    assert!((slot..slot + INTERVAL).contains(&admitted_at), "{admitted_at:?} is not at {slot:?}");
    assert_eq!((count(&gateway, "early").await, count_all(&gateway).await), (1, 1));
    let again = holder.granted(bearing(&ticket, authorize("shop", "holder", &DB))).await;
    assert_eq!(again.origin(), GrantOrigin::Repeated);
    // The newcomer's turn did not move.
    let kept = pod(&gateway, 3).await.deferred(authorize("shop", "newcomer", &DB)).await;
    assert!(kept.slot.is(newcomer.slot));
}

#[tokio::test]
async fn a_lost_store_makes_tickets_worthless() {
    let gateway = shop(FAR).start().await;
    spend(&gateway, "shop").await;
    let turn = pod(&gateway, 2).await.deferred(authorize("shop", "walk-in-2", &DB)).await;
    let setup = gateway.kill().await;
    fs::remove_dir_all(setup.home().path("store")).unwrap();
    let gateway = setup.start().await;
    spend(&gateway, "shop").await;
    expect_walk_in(&gateway, 2, &turn.ticket, "bad_mac").await;
}

/// Bytes as a log could show them.
fn shown(bytes: &[u8]) -> [String; 4] {
    let hex = |format: fn(&u8) -> String| bytes.iter().map(format).collect::<String>();
    let base64 = BinaryMetadataValue::from_bytes(bytes);
    let base64 = String::from_utf8(base64.as_encoded_bytes().to_vec()).unwrap();
    let debug = format!("{bytes:?}");
    let debug = debug.trim_matches(['[', ']']).to_owned();
    [hex(|byte| format!("{byte:02x}")), hex(|byte| format!("{byte:02X}")), base64, debug]
}

#[tokio::test]
async fn no_ticket_reaches_the_log() {
    let gateway = shop(FAR).flag("--log-level", "podgate=trace,debug").start().await;
    spend(&gateway, "shop").await;
    let holder = pod(&gateway, 2).await;
    let Turn { ticket, .. } = holder.deferred(authorize("shop", "holder", &DB)).await;
    holder.deferred(bearing(&ticket, authorize("shop", "holder", &DB))).await;
    let thief = pod(&gateway, 3).await;
    thief.deferred(bearing(&ticket, authorize("shop", "thief", &DB))).await;
    thief.deferred(bearing(&ticket[..50], authorize("shop", "thief", &DB))).await;
    thief.refused(bearing(&ticket.repeat(7), authorize("shop", "thief", &DB))).await;
    let setup = gateway.terminate().await;
    let log = setup.home().read("gateway.log").unwrap();
    // It does log each decision, and by whom.
    assert!(log.contains("\"uid\":\"thief\""), "{log}");
    // A whole ticket is found as it stands, and of its code any nine bytes, which are as base64 shows them.
    let parts = ticket[MAC_AT..].windows(9).flat_map(shown);
    for part in parts.chain(shown(&ticket)) {
        assert!(!log.contains(&part), "{part} of a ticket is in the log");
    }
}
