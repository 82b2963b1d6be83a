//! What is sent first on a connection goes in one packet: HTTP/2's preface and settings wait for the first call.
//!
//! h2 writes them in three goes. A gateway under a storm reads few connections at a time (its door), and one that has sent
//! its preface and not yet its call holds up the others.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// Room for the preface, the settings and a usual call; a longer one goes in more than one write.
const GATHERED_BYTES: usize = 2 << 10;
/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// RFC 9113, section 4.1: length (3), type, flags, stream (4).
const FRAME_HEADER_BYTES: usize = 9;

/// A stream of HTTP/2 without TLS, whose first flush waits for the first frame of a call.
#[derive(Debug)]
pub(crate) struct FirstFlight<S> {
    stream: BufWriter<S>,
    has_left: bool,
}

impl<S: AsyncWrite> FirstFlight<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufWriter::with_capacity(GATHERED_BYTES, stream), has_left: false }
    }
}

/// Whether these are a preface and whole frames of the connection itself, so that more is to come before anybody answers.
fn lacks_a_call(written: &[u8]) -> bool {
    let Some(mut frames) = written.strip_prefix(PREFACE) else { return PREFACE.starts_with(written) };
    while let [l1, l2, l3, _, _, s1, s2, s3, s4, ..] = *frames {
        if [s1, s2, s3, s4] != [0; 4] {
            return false;
        }
        let length = FRAME_HEADER_BYTES + u32::from_be_bytes([0, l1, l2, l3]) as usize;
        match frames.get(length..) {
            Some(rest) => frames = rest,
            None => return false,
        }
    }
    frames.is_empty()
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FirstFlight<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstFlight<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_left && lacks_a_call(self.stream.buffer()) {
            return Poll::Ready(Ok(()));
        }
        self.has_left = true;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const SETTINGS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
    const HEADERS: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];

    #[tokio::test]
    async fn nothing_leaves_before_the_first_call_and_everything_after() {
        let mut flight = FirstFlight::new(Vec::new());
        for written in [PREFACE, SETTINGS] {
            flight.write_all(written).await.unwrap();
            flight.flush().await.unwrap();
            assert!(flight.stream.get_ref().is_empty());
        }
        flight.write_all(HEADERS).await.unwrap();
        flight.flush().await.unwrap();
        assert_eq!(*flight.stream.get_ref(), [PREFACE, SETTINGS, HEADERS].concat());
        flight.write_all(SETTINGS).await.unwrap();
        flight.flush().await.unwrap();
        assert_eq!(flight.stream.get_ref().len(), PREFACE.len() + 2 * SETTINGS.len() + HEADERS.len());
    }

    #[tokio::test]
    async fn what_is_no_preface_is_not_held_back() {
        for written in
            [&b"\x16\x03\x01"[..], &[PREFACE, &SETTINGS[..10]].concat(), &[PREFACE, HEADERS].concat()]
        {
            let mut flight = FirstFlight::new(Vec::new());
            flight.write_all(written).await.unwrap();
            flight.flush().await.unwrap();
            assert_eq!(flight.stream.get_ref(), written);
        }
        let mut long = FirstFlight::new(Vec::new());
        let call = vec![0xff; 2 * GATHERED_BYTES];
        long.write_all(&call).await.unwrap();
        assert_eq!(*long.stream.get_ref(), call);
    }
}
