//! The listener: accepts at once, bounds connections, and hands them to the workers when their turn at the door has come.
//!
//! What waits at the door costs a worker nothing: it is busy with those who have been let in.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    sync::Arc,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SocketFlags, acceptfrom_with},
};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, error, warn};

use crate::{
    authn::Caller,
    grpc::service::Services,
    serve::{
        door::{Door, Turn, Visitor},
        places::{Full, Place, Places},
    },
};

/// Connections that the kernel holds until they are accepted: a whole storm's first second.
const BACKLOG: i32 = 4_096;
/// How long to wait after a round of accepting, in a storm.
const ROUND_EVERY: Duration = Duration::from_millis(1);
/// How long to wait when no descriptor is left; without a wait the loop would spin.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(50);

/// A peer that does not answer the kernel's probes is gone. HTTP/2 pings would do the same for a clock and a lock on each
/// frame of each call.
const PROBES: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// One line in the log for so many failures, which is one in about ten seconds.
const FAILURES_PER_LINE: u32 = 200;

/// Who connects speaks within this, or makes room for those who do.
pub(crate) const SPEAKS_WITHIN: Duration = Duration::from_secs(10);

/// A connection that has its turn.
#[derive(Debug)]
pub struct Accepted {
    pub(crate) stream: StdStream,
    pub(crate) caller: Caller,
    /// Its place among the connections held; given up when dropped.
    pub(crate) place: Place,
    pub(crate) turn: Turn,
}

/// Binds an address for listening. Connections inherit the socket's options, which saves each of them five system calls.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&PROBES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts for as long as it is polled. Dropped, it closes what waits at the door.
pub async fn accept(
    listener: StdListener,
    places: Arc<Places>,
    services: Services,
    workers: Vec<mpsc::Sender<Accepted>>,
) -> io::Result<()> {
    // A connection is known to its worker's runtime alone; tokio's listener would make it known to this one as well.
    #[expect(
        deprecated,
        reason = "what takes its place is unsafe, for sources that are not one descriptor; this one is"
    )]
    let socket = AsyncFd::with_interest(listener, Interest::READABLE)?;
    let mut listener = Listener { socket, places, round: 0, failures: 0 };
    let door = Arc::new(Door::new());
    let mut waiting = JoinSet::new();
    for worker in workers.iter().cycle() {
        let held = listener.next().await;
        while let Some(ended) = waiting.try_join_next() {
            if let Err(error) = ended {
                error!(%error, "the task of a connection that waits failed");
            }
        }
        waiting.spawn(hand_over(held, services.clone(), Arc::clone(&door), worker.clone()));
    }
    Ok(())
}

/// A connection that was accepted.
struct Held {
    stream: StdStream,
    caller: Caller,
    place: Place,
}

struct Listener {
    socket: AsyncFd<StdListener>,
    places: Arc<Places>,
    /// Connections that were accepted one after the other.
    round: u32,
    failures: u32,
}

impl Listener {
    /// The next connection for which there is a place.
    async fn next(&mut self) -> Held {
        let refused =
            |why| metrics::counter!("podgate_connections_refused_total", "reason" => why).increment(1);
        loop {
            match self.accept().await {
                Ok((stream, caller)) => match self.places.take(caller.address) {
                    Ok(place) => return Held { stream, caller, place },
                    Err(full) => {
                        let why = match full {
                            Full::Gateway => "gateway_full",
                            Full::Address => "address_full",
                        };
                        refused(why);
                        debug!(peer = %caller.address, why, "a connection was refused");
                    }
                },
                Err(error) => {
                    refused("accept_failed");
                    if self.failures.is_multiple_of(FAILURES_PER_LINE) {
                        warn!(%error, "connections cannot be accepted; raise the limit on open files?");
                    }
                    self.failures = self.failures.wrapping_add(1);
                    // Any other failure is that of one connection, and over with it.
                    if matches!(
                        error.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                    ) {
                        tokio::time::sleep(EXHAUSTED_WAIT).await;
                    }
                }
            }
        }
    }

    /// Many that come together are accepted together, and most of them have spoken by then: to wake for each would take a
    /// fifth of a core from those who are served. However many they are, others get their turn on this thread.
    async fn accept(&mut self) -> io::Result<(StdStream, Caller)> {
        tokio::task::coop::consume_budget().await;
        loop {
            if let Ok(accepted) = self.socket.readable().await?.try_io(|socket| accept_one(socket.get_ref()))
            {
                self.round += 1;
                return accepted;
            }
            if std::mem::take(&mut self.round) > 1 {
                tokio::time::sleep(ROUND_EVERY).await;
            }
        }
    }
}

fn accept_one(listener: &StdListener) -> io::Result<(StdStream, Caller)> {
    let (stream, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let stream = StdStream::from(stream);
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.ok_or_else(|| io::Error::other("a peer without an address"))?;
    let caller = Caller::new(peer.ip(), stream.local_addr()?.ip());
    Ok((stream, caller))
}

/// Waits until a connection has something to say and its turn has come, and hands it to its worker.
async fn hand_over(held: Held, services: Services, door: Arc<Door>, worker: mpsc::Sender<Accepted>) {
    let Held { stream, caller, place } = held;
    let Some(stream) = once_it_speaks(stream, caller).await else {
        return;
    };
    let visitor = if services.expects(caller) { Visitor::Expected } else { Visitor::Newcomer };
    drop(services);
    if let Some(turn) = door.turn(caller.address, visitor).await {
        // Nobody takes it any more where the gateway is ending, and a worker that fails ends the process.
        drop(worker.send(Accepted { stream, caller, place, turn }).await);
    }
}

/// In a storm most have spoken before they are accepted; who has not, is watched.
async fn once_it_speaks(stream: StdStream, caller: Caller) -> Option<StdStream> {
    let is_silent =
        |peeked: io::Result<usize>| peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    if !is_silent(stream.peek(&mut [0])) {
        return Some(stream);
    }
    let spoken = async {
        let stream = TcpStream::from_std(stream)?;
        stream.readable().await?;
        stream.into_std()
    };
    match timeout(SPEAKS_WITHIN, spoken).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            debug!(peer = %caller.address, %error, "a connection broke before it was served");
            None
        }
        Err(_) => {
            metrics::counter!("podgate_connections_idle_total").increment(1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    #[test]
    fn connections_inherit_what_is_set_on_the_listening_socket() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, caller) = accept_one(&listener).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert!(caller.address.is_loopback() && accept_one(&listener).is_err());
    }
}
