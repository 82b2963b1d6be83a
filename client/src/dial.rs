//! Opens a TCP connection, from an address of our own where one is set, and remembers how far it came.
//!
//! tonic's own connector says of a failure only that there was one; here it matters whether the gateway saw us.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

use crate::Endpoint;

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// How far the dial of one connection came. A connection is dialed once: tonic would silently dial again.
#[derive(Debug, Default)]
pub(crate) struct DialTrace {
    dialed: AtomicBool,
    reached: AtomicBool,
    lost: AtomicBool,
}

impl DialTrace {
    /// Claims the one dial; the second to claim it learns that the connection was lost.
    pub(crate) fn claim(&self) -> io::Result<()> {
        if self.dialed.swap(true, Ordering::Relaxed) {
            self.lost.store(true, Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the connection was lost"));
        }
        Ok(())
    }

    pub(crate) fn note_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    /// Whether somebody accepted the connection.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Whether a call found the connection gone, before anything of it was sent.
    pub(crate) fn was_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Connects to the first address of the endpoint that accepts.
pub(crate) async fn dial(endpoint: &Endpoint, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = match endpoint.host().parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, endpoint.port())],
        Err(_) => lookup_host((endpoint.host(), endpoint.port()))
            .await
            .map_err(|error| annotated(&error, &format!("{} can't be resolved", endpoint.host())))?
            .filter(|address| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()))
            .take(ADDRESSES_MAX)
            .collect(),
    };
    let mut last = io::Error::new(
        io::ErrorKind::AddrNotAvailable,
        format!("{} has no address of the right family", endpoint.host()),
    );
    for address in addresses {
        match connect(address, local).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = annotated(&error, &format!("{address} can't be reached")),
        }
    }
    Err(last)
}

async fn connect(address: SocketAddr, local: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// The error under a heading; flat, so that the innermost text is the whole of it.
fn annotated(error: &io::Error, heading: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{heading}: {error}"))
}
