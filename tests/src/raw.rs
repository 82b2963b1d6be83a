//! Connections below the generated clients: bytes over TCP, and calls over bare HTTP/2, where no client's timeout or
//! good manners stand between the test and the gateway.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{SendStream, client, client::ResponseFuture, client::SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};
use tonic::Status;

use crate::eventually::within;

/// Opens a TCP connection from an address of loopback.
pub async fn tcp_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    within("a TCP connection", socket.connect(to)).await
}

/// Waits until the other side has closed, and returns what it sent before.
pub async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // A reset says as well as an end that nothing more comes.
    let _ = within("the end of a connection", stream.read_to_end(&mut received)).await;
    received
}

/// A bare HTTP/2 connection.
#[derive(Debug)]
pub struct RawConnection {
    /// What begins requests.
    pub requests: SendRequest<Bytes>,
    /// Works until the connection has ended.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call under way.
#[derive(Debug)]
pub struct RawCall {
    /// What its body is sent on.
    pub body: SendStream<Bytes>,
    answer: ResponseFuture,
}

impl RawConnection {
    /// Connects from 127.0.0.1.
    ///
    /// # Panics
    ///
    /// Panics if there is no connection.
    pub async fn open(to: SocketAddr) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST, to).await
    }

    /// Connects from another address of loopback.
    ///
    /// # Panics
    ///
    /// Panics if there is no connection.
    pub async fn open_from(from: Ipv4Addr, to: SocketAddr) -> Self {
        let stream = tcp_from(from, to).await;
        let stream = stream.unwrap_or_else(|error| panic!("no connection to {to}: {error}"));
        match within("an HTTP/2 handshake", client::handshake(stream)).await {
            Ok((requests, connection)) => Self { requests, connection: tokio::spawn(connection) },
            Err(error) => panic!("no HTTP/2 with {to}: {error}"),
        }
    }

    /// Begins a call, without its body.
    ///
    /// # Panics
    ///
    /// Panics if path or headers cannot be sent.
    pub async fn begin(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<RawCall, h2::Error> {
        let mut request = Request::post(format!("http://gateway{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap_or_else(|error| panic!("{path} is no request: {error}"));
        let mut ready = within("room for a stream", self.requests.clone().ready()).await?;
        let (answer, body) = ready.send_request(request, false)?;
        Ok(RawCall { body, answer })
    }

    /// Makes a call with these bytes as its message, and returns how it ended.
    pub async fn call(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        message: &[u8],
    ) -> Result<Status, h2::Error> {
        let mut call = self.begin(path, headers).await?;
        call.body.send_data(framed(message), true)?;
        call.ended().await
    }
}

impl RawCall {
    /// Waits for the end of the call.
    pub async fn ended(self) -> Result<Status, h2::Error> {
        within("the end of a call", self.read()).await
    }

    async fn read(self) -> Result<Status, h2::Error> {
        let (head, mut body) = self.answer.await?.into_parts();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok(status_of(&trailers)
            .or_else(|| status_of(&head.headers))
            .unwrap_or_else(|| Status::unknown(format!("HTTP {} without a gRPC status", head.status))))
    }
}

fn status_of(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// A message's bytes, framed.
pub fn framed_message(message: &impl Message) -> Bytes {
    framed(&message.encode_to_vec())
}
