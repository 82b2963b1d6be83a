//! Peers that mean no good, or are broken: each is sent away, and the others are served.

use std::net::Ipv4Addr;

use bytes::Bytes;
use h2::Reason;
use podgate_tests::{
    caller::Caller,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    page,
    raw::{RawConnection, read_to_end, tcp_from},
    refusal::{reason, retry_after},
    requests::authorize,
    yaml::profile,
};
use tokio::io::AsyncWriteExt as _;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

async fn start(flags: &[(&str, &str)]) -> Gateway {
    let setup = Setup::new().with_file("shop.yaml", profile("shop", "db.shop.svc", ""));
    flags.iter().fold(setup, |setup, (flag, value)| setup.flag(flag, value)).start().await
}

/// That others are served as before.
async fn expect_served(gateway: &Gateway) {
    let caller = Caller::from(gateway, "127.0.9.9").await;
    caller.granted(authorize("shop", "another", &[])).await;
    assert_eq!(gateway.page("/readyz").await.status, 200);
}

/// Waits until no connection is held any more.
async fn until_all_are_gone(gateway: &Gateway) {
    eventually("no connection", async || {
        (gateway.metric("podgate_connections").await == Some(0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_http2_is_sent_away() {
    let gateway = start(&[]).await;
    let noise: Vec<u8> =
        (0..70_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge_frame = [preface.as_slice(), b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat();
    let settings_of_a_stream = [preface.as_slice(), b"\x00\x00\x00\x04\x00\x00\x00\x00\x05"].concat();
    for hostile in [
        noise.as_slice(),
        b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &huge_frame,
        &settings_of_a_stream,
    ] {
        let mut stream = tcp_from(HERE, gateway.grpc()).await.unwrap();
        // It may be cut before all of it is sent.
        let _ = stream.write_all(hostile).await;
        read_to_end(&mut stream).await;
        expect_served(&gateway).await;
    }
    until_all_are_gone(&gateway).await;
}

#[tokio::test]
async fn noise_on_the_http_port_is_answered_or_cut() {
    let gateway = start(&[]).await;
    let long = format!("GET /{}", "x".repeat(1 << 20));
    for hostile in [b"\x00\xff\xfe nonsense\r\n\r\n".as_slice(), long.as_bytes()] {
        let mut stream = tcp_from(HERE, gateway.http()).await.unwrap();
        let _ = stream.write_all(hostile).await;
        read_to_end(&mut stream).await;
        expect_served(&gateway).await;
    }
    assert_eq!(page::get(gateway.http(), "/nothing").await.unwrap().status, 404);
}

#[tokio::test]
async fn who_connects_and_asks_nothing_makes_room() {
    let gateway = start(&[]).await;
    let mut silent = tcp_from(HERE, gateway.grpc()).await.unwrap();
    let mut half_open = tcp_from(HERE, gateway.grpc()).await.unwrap();
    half_open.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let polite = RawConnection::open(gateway.grpc()).await;
    expect_served(&gateway).await;
    read_to_end(&mut silent).await;
    read_to_end(&mut half_open).await;
    within("the end of a polite one's connection", polite.connection).await.unwrap().ok();
    assert_eq!(gateway.metric("podgate_connections_idle_total").await, Some(3.0));
    expect_served(&gateway).await;
}

#[tokio::test]
async fn one_address_holds_no_more_than_its_share_of_connections() {
    let gateway = start(&[("--max-connections-per-address", "256")]).await;
    let mut streams = Vec::new();
    for _ in 0..300 {
        streams.push(tcp_from(HERE, gateway.grpc()).await.unwrap());
    }
    let refused = async || {
        let page = gateway.page("/metrics").await;
        page.metric("podgate_connections_refused_total", "address_full") == Some(44.0)
    };
    eventually("44 connections refused", async || refused().await.then_some(())).await;
    assert_eq!(gateway.metric("podgate_connections").await, Some(256.0));
    read_to_end(streams.last_mut().unwrap()).await;
    expect_served(&gateway).await;
    drop(streams);
    until_all_are_gone(&gateway).await;
    Caller::of(&gateway).await.granted(authorize("shop", "a", &[])).await;
}

#[tokio::test]
async fn all_addresses_together_hold_no_more_than_there_are_places() {
    let gateway = start(&[("--max-connections", "3")]).await;
    let mut streams = Vec::new();
    for last in 1..=3 {
        streams.push(tcp_from(Ipv4Addr::new(127, 0, 3, last), gateway.grpc()).await.unwrap());
    }
    let mut fourth = tcp_from(Ipv4Addr::new(127, 0, 3, 4), gateway.grpc()).await.unwrap();
    assert!(read_to_end(&mut fourth).await.is_empty());
    assert_eq!(gateway.page("/readyz").await.status, 200);
    drop(streams);
    until_all_are_gone(&gateway).await;
    expect_served(&gateway).await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_cost_the_others_nothing() {
    let gateway = start(&[("--max-calls-in-flight", "64")]).await;
    let raw = RawConnection::open(gateway.grpc()).await;
    for _ in 0..20_000 {
        match raw.begin("/podgate.v1.AuthorizationService/Authorize", &[]).await {
            Ok(mut call) => call.body.send_reset(Reason::CANCEL),
            // The gateway has had enough of it.
            Err(_) => break,
        }
    }
    expect_served(&gateway).await;
    drop(raw);
    until_all_are_gone(&gateway).await;
    assert_eq!(gateway.metric("podgate_calls_in_flight").await, Some(0.0));
}

#[tokio::test]
async fn calls_that_never_end_are_bounded() {
    let gateway = start(&[("--max-calls-in-flight", "4")]).await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(raw.begin("/podgate.v1.AuthorizationService/Authorize", &[]).await.unwrap());
    }
    eventually("four calls in flight", async || {
        (gateway.metric("podgate_calls_in_flight").await == Some(4.0)).then_some(())
    })
    .await;
    let caller = Caller::of(&gateway).await;
    let refused = caller.refused(authorize("shop", "a", &[])).await;
    assert_eq!(reason(&refused), "OVERLOADED");
    assert!(retry_after(&refused).is_some());
    // One place is enough for the next call.
    let mut first = open.remove(0);
    first.body.send_data(Bytes::new(), true).unwrap();
    first.ended().await.unwrap();
    caller.granted(authorize("shop", "a", &[])).await;
}

#[tokio::test]
async fn headers_beyond_all_measure_are_refused() {
    let gateway = start(&[]).await;
    let raw = RawConnection::open(gateway.grpc()).await;
    let large = "x".repeat(100_000);
    let path = "/podgate.v1.AuthorizationService/Authorize";
    if let Ok(status) = raw.call(path, &[("authorization", &large)], b"").await {
        assert_ne!(status.code(), tonic::Code::Ok);
    }
    expect_served(&gateway).await;
}
