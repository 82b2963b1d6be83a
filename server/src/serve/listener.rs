//! The listener: accepts at once, bounds connections, and hands them to the workers in turn.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustc_hash::FxHashMap;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{debug, warn};

use crate::config::values::Connections;

/// Connections that the kernel holds until they are accepted: a whole storm's first second.
const BACKLOG: i32 = 4_096;
/// How long to wait when no descriptor is left; without a wait the loop would spin.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(50);

/// One line in the log for so many failures, which is one in about ten seconds.
const FAILURES_PER_LINE: u32 = 200;

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its place among the connections held; given up when dropped.
    pub place: Place,
}

/// Counts the connections held, in all and from each address.
#[derive(Debug)]
pub struct Places {
    held: AtomicUsize,
    by_address: Mutex<FxHashMap<IpAddr, usize>>,
    limits: Connections,
}

/// A place among the connections held.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

/// Why a connection got no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many are held.
    Gateway,
    /// Too many are held from this address.
    Address,
}

impl Places {
    /// Places within these limits.
    pub fn new(limits: Connections) -> Self {
        Self { held: AtomicUsize::new(0), by_address: Mutex::default(), limits }
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes a place, if there is one.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        if self.held() >= self.limits.max {
            return Err(Full::Gateway);
        }
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_default();
        if *count >= self.limits.per_address {
            return Err(Full::Address);
        }
        *count += 1;
        self.held.fetch_add(1, Ordering::Relaxed);
        Ok(Place { places: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.places.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Binds an address for listening.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the workers are gone.
pub async fn accept(
    listener: StdListener,
    places: Arc<Places>,
    workers: Vec<mpsc::Sender<Accepted>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let refused = |why| metrics::counter!("podgate_connections_refused_total", "reason" => why);
    let mut failures = 0u32;
    for worker in workers.iter().cycle() {
        let (stream, peer) = loop {
            match listener.accept().await {
                Ok((stream, peer)) => match places.take(peer.ip().to_canonical()) {
                    Ok(place) => break (stream, (peer, place)),
                    Err(full) => {
                        let why = match full {
                            Full::Gateway => "gateway_full",
                            Full::Address => "address_full",
                        };
                        refused(why).increment(1);
                        debug!(%peer, why, "a connection was refused");
                    }
                },
                Err(error) => {
                    refused("accept_failed").increment(1);
                    if failures.is_multiple_of(FAILURES_PER_LINE) {
                        warn!(%error, "connections cannot be accepted; raise the limit on open files?");
                    }
                    failures += 1;
                    // Any other failure is that of one connection, and over with it.
                    if matches!(
                        error.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                    ) {
                        tokio::time::sleep(EXHAUSTED_WAIT).await;
                    }
                }
            }
        };
        let (peer, place) = peer;
        // A connection that broke meanwhile says so to its worker as well.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let accepted = Accepted { stream: stream.into_std()?, peer, place };
        if worker.send(accepted).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let limits = Connections { max: 3, per_address: 2, calls_in_flight: 1, message_bytes: 1 };
        let places = Arc::new(Places::new(limits));
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = places.take(here).unwrap();
        let _second = places.take(here).unwrap();
        assert_eq!(places.take(here).unwrap_err(), Full::Address);
        let _third = places.take(there).unwrap();
        assert_eq!(places.take(there).unwrap_err(), Full::Gateway);
        drop(first);
        assert!(places.take(there).is_ok());
        assert_eq!(places.held(), 2);
    }
}
