//! The door: who connects and is slow or silent holds up itself, and nobody else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::Ipv4Addr, time::Duration};

use podgate_proto::v1::AuthorizeRequest;
use podgate_tests::{
    caller::Caller,
    clock,
    eventually::eventually,
    gateway::{Gateway, Setup},
    raw::{RawConnection, read_to_end, tcp_from},
    refusal::reason,
    requests::authorize,
    turn::Turn,
    yaml::profile,
};
use prost::Message as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

const DB: [(&str, u32); 1] = [("db.shop.svc", 3306)];
const AUTHORIZE: &str = "/podgate.v1.AuthorizationService/Authorize";
const HALF_A_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// Shorter than a permit lasts: nobody who waits behind a permit that must lapse first is answered within it.
const PROMPTLY: Duration = Duration::from_millis(1_500);

fn shop(spec: &str) -> Setup {
    Setup::new().with_file("shop.yaml", profile("shop", DB[0].0, spec))
}

/// Connects so many times from each of these addresses, and sends this on each connection.
async fn connect(
    gateway: &Gateway,
    from: impl IntoIterator<Item = Ipv4Addr>,
    times: usize,
    sent: &[u8],
) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for from in from {
        for _ in 0..times {
            let mut stream = tcp_from(from, gateway.grpc()).await.unwrap();
            stream.write_all(sent).await.unwrap();
            streams.push(stream);
        }
    }
    let held = |connections: Option<f64>| connections >= Some(streams.len() as f64);
    eventually("all connections", async || held(gateway.metric("podgate_connections").await).then_some(()))
        .await;
    streams
}

/// Connects from an address and asks; expects an answer that nobody's slowness has delayed.
async fn expect_prompt(gateway: &Gateway, from: &str) {
    let asking = async {
        let caller = Caller::from(gateway, from).await;
        caller.granted(authorize("shop", from, &DB)).await
    };
    let answered = timeout(PROMPTLY, asking).await;
    assert!(answered.is_ok(), "{from} was not answered within {PROMPTLY:?}");
}

/// How many permits have lapsed.
async fn lapsed(gateway: &Gateway) -> u64 {
    gateway.metric("podgate_permits_lapsed_total").await.unwrap_or_default() as u64
}

#[tokio::test]
async fn an_address_that_is_slow_on_many_connections_delays_no_other() {
    let gateway = shop("").start().await;
    let slow = connect(&gateway, [Ipv4Addr::new(127, 0, 4, 1)], 200, HALF_A_PREFACE).await;
    expect_prompt(&gateway, "127.0.4.2").await;
    expect_prompt(&gateway, "127.0.4.3").await;
    // Its permits lapse, a few at a time.
    eventually("a permit that has lapsed", async || (lapsed(&gateway).await >= 4).then_some(())).await;
    expect_prompt(&gateway, "127.0.4.4").await;
    eventually("its own connections only", async || {
        (gateway.metric("podgate_connections").await == Some(slow.len() as f64)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_sends_nothing_holds_no_permit() {
    let gateway = shop("").start().await;
    // More than there are permits, and no more from one address than it may hold.
    let addresses = (1..=100).map(|last| Ipv4Addr::new(127, 0, 5, last));
    let silent = connect(&gateway, addresses, 4, b"").await;
    for last in 101..=105 {
        expect_prompt(&gateway, &format!("127.0.5.{last}")).await;
    }
    // Neither does the address of a silent one wait for its own.
    expect_prompt(&gateway, "127.0.5.1").await;
    assert_eq!(lapsed(&gateway).await, 0);
    drop(silent);
}

#[tokio::test]
async fn who_was_told_to_come_passes_by_a_crowd_of_slow_newcomers() {
    let gateway = shop("  limits: { rate: 24/m, burst: 1 }\n").start().await;
    let told = Caller::from(&gateway, "127.0.6.200").await;
    told.granted(authorize("shop", "first", &DB)).await;
    let Turn { slot, ticket } = told.deferred(authorize("shop", "told", &DB)).await;
    drop(told);
    // As many as there are permits: newcomers wait until these lapse.
    let addresses = (1..=16).map(|last| Ipv4Addr::new(127, 0, 6, last));
    clock::until(slot.earliest.saturating_sub(Duration::from_millis(900))).await;
    let crowd = connect(&gateway, addresses, 8, HALF_A_PREFACE).await;
    let newcomer = RawConnection::open_from(Ipv4Addr::new(127, 0, 6, 201), gateway.grpc()).await;
    let newcomer = tokio::spawn(async move { newcomer.call(AUTHORIZE, &[], b"").await });
    let caller = Caller::from(&gateway, "127.0.6.200").await;
    let request = AuthorizeRequest { ticket, ..authorize("shop", "told", &DB) };
    let admitted_at = caller.admitted(request).await;
    assert!(slot.earliest <= admitted_at);
    assert!(!newcomer.is_finished(), "the crowd did not hold up newcomers");
    assert_eq!(lapsed(&gateway).await, 0, "it waited until the crowd's permits lapsed");
    // And newcomers wait no longer than for that.
    newcomer.await.unwrap().unwrap();
    drop(crowd);
}

#[tokio::test]
async fn time_between_connecting_and_asking_is_no_time_of_the_call() {
    let gateway = shop("  limits: { rate: 6/m, burst: 1 }\n").start().await;
    let early = Caller::from(&gateway, "127.0.8.2").await;
    let raw = RawConnection::open_from(Ipv4Addr::new(127, 0, 8, 3), gateway.grpc()).await;
    let first_at = Caller::of(&gateway).await.admitted(authorize("shop", "first", &DB)).await;
    clock::until(first_at + Duration::from_millis(1_200)).await;
    // Neither is it added to the delay: who counts it comes late.
    let told = early.deferred(authorize("shop", "early", &DB)).await;
    assert!(told.slot.is_at(first_at + Duration::from_secs(10)), "{told:?} after {first_at:?}");
    let message = authorize("shop", "raw", &DB).encode_to_vec();
    let status = raw.call(AUTHORIZE, &[("grpc-timeout", "1S")], &message).await.unwrap();
    assert_eq!(reason(&status), "BOOKED");
}

#[tokio::test]
async fn connections_beyond_an_addresss_own_are_closed_and_counted() {
    let gateway = shop("").flag("--max-connections-per-address", "8").start().await;
    let from = Ipv4Addr::new(127, 0, 7, 1);
    let held = connect(&gateway, [from], 8, HALF_A_PREFACE).await;
    for _ in 0..5 {
        let mut refused = tcp_from(from, gateway.grpc()).await.unwrap();
        assert!(read_to_end(&mut refused).await.is_empty());
    }
    let page = gateway.page("/metrics").await;
    assert_eq!(page.metric("podgate_connections_refused_total", "reason=\"address_full\""), Some(5.0));
    expect_prompt(&gateway, "127.0.7.2").await;
    // A place that is given up can be taken again.
    drop(held);
    eventually("room", async || (gateway.metric("podgate_connections").await <= Some(1.0)).then_some(()))
        .await;
    expect_prompt(&gateway, "127.0.7.1").await;
}
