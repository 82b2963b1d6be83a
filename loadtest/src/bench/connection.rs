//! One HTTP/2 connection that makes unary gRPC calls, and does nothing else.
//!
//! The generator shares two cores with the server that it measures, and tonic's `Channel` costs it more a call than
//! the server spends: with it the generator, not the server, would be measured. So frames are written by h2 directly;
//! on the wire they are those of a tonic client.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use prost::Message;
use tokio::net::TcpSocket;

/// Room for answers, so that flow control never holds one up.
const WINDOW: u32 = 1 << 20;
/// Time to connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The deadline that every call tells, as the client library's calls do.
const GRPC_TIMEOUT: &str = "10S";
/// Compression flag and length.
const PREFIX: usize = 5;

/// A message behind its gRPC prefix, ready to be sent.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(PREFIX + length);
    buffer.put_u8(0);
    // Messages of the generator are a few hundred bytes.
    buffer.put_u32(length as u32);
    buffer.put_slice(&message.encode_to_vec());
    buffer.freeze()
}

/// A call that broke below gRPC.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The socket.
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    /// HTTP/2.
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The URI of a call.
    #[error("{0}")]
    Uri(#[from] http::Error),
    /// No connection in time.
    #[error("no connection within {} s", CONNECT_MAX.as_secs())]
    ConnectTimeout,
    /// Not gRPC.
    #[error("the answer is not gRPC: {0}")]
    NotGrpc(String),
}

/// How a call was answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// `grpc-status`.
    pub(crate) code: i32,
    /// The headers, and the trailers where the status came in those.
    pub(crate) metadata: HeaderMap,
    /// The message, without its prefix; empty where there is none.
    pub(crate) message: Bytes,
}

/// An open connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    server: SocketAddr,
}

impl Connection {
    /// Connects from `source`, for so many calls at once.
    pub(crate) async fn open(
        server: SocketAddr,
        source: Ipv4Addr,
        in_flight: u32,
    ) -> Result<Self, CallError> {
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((source, 0)))?;
            let stream = socket.connect(server).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::Builder::new()
                .initial_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .initial_max_send_streams(in_flight as usize)
                .enable_push(false)
                .handshake(stream)
                .await?;
            // Its calls report how it ends.
            tokio::spawn(async move { drop(connection.await) });
            Ok(Self { sender, server })
        };
        tokio::time::timeout(CONNECT_MAX, connecting).await.unwrap_or(Err(CallError::ConnectTimeout))
    }

    /// Makes one call.
    pub(crate) async fn call(&self, path: &'static str, message: Bytes) -> Result<Reply, CallError> {
        self.prepared(path)?.call(message).await
    }

    /// What is the same for all calls of a slot, made once.
    pub(crate) fn prepared(&self, path: &'static str) -> Result<PreparedCall, CallError> {
        let uri =
            Uri::builder().scheme("http").authority(self.server.to_string()).path_and_query(path).build()?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("podgate-loadtest"));
        headers.insert("grpc-timeout", HeaderValue::from_static(GRPC_TIMEOUT));
        Ok(PreparedCall { sender: self.sender.clone(), request })
    }
}

/// A call that is made again and again.
#[derive(Debug)]
pub(crate) struct PreparedCall {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl PreparedCall {
    /// Makes it, with this framed message.
    pub(crate) async fn call(&mut self, message: Bytes) -> Result<Reply, CallError> {
        std::future::poll_fn(|context| self.sender.poll_ready(context)).await?;
        let (response, mut body) = self.sender.send_request(self.request.clone(), false)?;
        body.send_data(message, true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(CallError::NotGrpc(format!("HTTP status {}", head.status)));
        }
        let mut metadata = head.headers;
        let mut message = Bytes::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            message = if message.is_empty() { data } else { Bytes::from([message, data].concat()) };
        }
        if let Some(trailers) = body.trailers().await? {
            metadata.extend(trailers);
        }
        let code = status_code(&metadata)?;
        Ok(Reply { code, metadata, message: unframed(message)? })
    }
}

fn status_code(metadata: &HeaderMap) -> Result<i32, CallError> {
    metadata
        .get("grpc-status")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or_else(|| CallError::NotGrpc("no grpc-status".to_owned()))
}

/// The one message of a unary answer, without its prefix.
fn unframed(mut body: Bytes) -> Result<Bytes, CallError> {
    if body.is_empty() {
        return Ok(body);
    }
    let wrong = || CallError::NotGrpc("the body is not one uncompressed message".to_owned());
    let (prefix, _) = body.split_first_chunk::<PREFIX>().ok_or_else(wrong)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != body.len() - PREFIX {
        return Err(wrong());
    }
    Ok(body.split_off(PREFIX))
}

#[cfg(test)]
mod tests {
    use podgate_proto::v1::CheckRequest;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_undone() {
        let request = CheckRequest { address: "10.0.0.1".to_owned(), ..CheckRequest::default() };
        let message = unframed(framed(&request)).unwrap();
        assert_eq!(CheckRequest::decode(message).unwrap(), request);
        assert!(unframed(Bytes::from_static(&[1, 0, 0, 0, 0])).is_err());
        assert!(unframed(Bytes::from_static(&[0, 0, 0, 0, 9, 1])).is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = unframed(Bytes::from(body));
        }
    }
}
