//! One connection: HTTP/2 with every limit set by hand, since the defaults have none.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use podgate_engine::time::Moment;
use tokio::{net::TcpStream, sync::watch};
use tracing::debug;

use crate::{
    clock,
    grpc::service::Services,
    serve::{
        door::{PERMIT_LASTS, Permit, Turn},
        listener::{Accepted, SPEAKS_WITHIN},
        workers::Shutdown,
    },
};

/// Calls at once on one connection.
const STREAMS_MAX: u32 = 256;
/// Streams that may be reset before they are accepted (CVE-2023-44487, rapid reset).
const RESETS_PENDING_MAX: usize = 64;
/// Streams that we may reset for the peer's errors before the connection ends (RUSTSEC-2024-0003).
const RESETS_LOCAL_MAX: usize = 1_024;
/// Largest header list, in bytes: room for a service-account token.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// What is buffered for a peer that does not read, a stream.
const SEND_BUFFER_MAX: usize = 64 << 10;
/// A connection that has asked nothing for so long is told to end: its place is for those who ask.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Who speaks asks soon, or makes room for those who do.
const FIRST_CALL_WITHIN: Duration = SPEAKS_WITHIN;
/// A call that was there before its connection was read is read within this.
const READ_WITHIN: Duration = Duration::from_millis(20);

/// What a connection is looked at for, in turn.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Whether it has asked while it had a permit.
    Permitted,
    /// Whether it has asked at all.
    Waiting,
    /// Whether it still asks; from then on.
    Calling,
}

impl Phase {
    fn lasts(self) -> Duration {
        match self {
            Self::Permitted => PERMIT_LASTS,
            Self::Waiting => FIRST_CALL_WITHIN.saturating_sub(PERMIT_LASTS),
            Self::Calling => IDLE_MAX,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Permitted => Self::Waiting,
            Self::Waiting | Self::Calling => Self::Calling,
        }
    }
}

/// How a connection's first request is waited for.
#[derive(Debug)]
struct Entry {
    has_called: AtomicBool,
    permit: Mutex<Option<Permit>>,
    /// When it was read first, and how long after its first bytes.
    entered_at: Moment,
    waited: Duration,
    /// Whether there has been a call since somebody last looked.
    is_used: AtomicBool,
}

impl Entry {
    /// To be made just before the connection is read: the way from the door to the worker is part of the wait.
    fn new(turn: Turn) -> Self {
        let entered_at = clock::now();
        Self {
            has_called: AtomicBool::new(false),
            permit: Mutex::new(Some(turn.permit)),
            entered_at,
            waited: entered_at.since(turn.came_at),
            is_used: AtomicBool::new(true),
        }
    }

    /// Notes a call; returns how long it has waited for the connection to be read.
    ///
    /// A call that was there when its connection's turn came has waited as the connection has. Of one that came later that
    /// is not known; its caller may have connected long before it asked, and time that it did not wait must not be
    /// added to its delay: who comes early is parked, and who comes late has lost its turn.
    fn note_call(&self) -> Duration {
        self.is_used.store(true, Ordering::Relaxed);
        if self.has_called.swap(true, Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.give_back();
        let was_there = clock::now().since(self.entered_at) < READ_WITHIN;
        if was_there { self.waited } else { Duration::ZERO }
    }

    fn has_called(&self) -> bool {
        self.has_called.load(Ordering::Relaxed)
    }

    fn give_back(&self) {
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Serves a connection until either side ends it.
pub async fn serve(accepted: Accepted, services: Services, mut shutdown: watch::Receiver<Shutdown>) {
    let Accepted { stream, caller, place, turn } = accepted;
    let peer = caller.address;
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return debug!(%peer, %error, "a connection broke before it was served"),
    };
    let entry = Arc::new(Entry::new(turn));
    let services = services.serve(caller);
    let service = service_fn({
        let entry = Arc::clone(&entry);
        move |request| {
            let waited = entry.note_call();
            services.call(request, waited)
        }
    });
    let mut connection = pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(RESETS_LOCAL_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(SEND_BUFFER_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut phase = Phase::Permitted;
    let mut look = pin!(tokio::time::sleep(phase.lasts()));
    let mut is_draining = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = look.as_mut(), if !is_draining => {
                match (phase, entry.has_called()) {
                    (Phase::Permitted, false) => {
                        metrics::counter!("podgate_permits_lapsed_total").increment(1);
                        entry.give_back();
                    }
                    (Phase::Waiting, false) => {
                        metrics::counter!("podgate_connections_idle_total").increment(1);
                        break Ok(());
                    }
                    // Streams that are open go on until they end.
                    (Phase::Calling, _) if !entry.is_used.swap(false, Ordering::Relaxed) => {
                        is_draining = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    (Phase::Permitted | Phase::Waiting, true) | (Phase::Calling, _) => {}
                }
                phase = phase.next();
                look.set(tokio::time::sleep(phase.lasts()));
            }
            changed = shutdown.changed(), if !is_draining => {
                is_draining = true;
                if changed.is_ok() {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection ended");
    }
    drop(place);
}
