//! An ACL service that stands behind podgate and must know of each grant before its pod may go on: it is told in
//! batches, a few at a time, and however slow it is, it holds up nobody but those who wait for it.
//!
//! In reading order:

pub mod desk;

mod apply_lane;
mod replay;
mod revoke_lane;

mod applies;
mod backend;
mod backoff;
mod breaker;
mod message;
mod meter;

#[cfg(test)]
mod lanes_tests;

use std::{io, sync::Arc, thread::JoinHandle};

use tokio::sync::oneshot;

pub use self::desk::{Desk, UpstreamError};
use crate::{
    config::Upstream as Settings,
    store::Ends,
    upstream::{apply_lane::ApplyLane, backend::Backend, meter::Meter, revoke_lane::RevokeLane},
    vital::Vital,
};

/// The upstream, with a thread of its own on which everything about it runs.
#[derive(Debug)]
pub struct Upstream {
    desk: Arc<Desk>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Upstream {
    /// Starts telling the upstream: at once of every living grant and every end that it has not acknowledged.
    pub fn start(settings: &Settings, ends: Ends) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let desk = Arc::new(Desk::new(settings, Arc::clone(&ends.tombstones)));
        let (stop, stopped) = oneshot::channel();
        let meter = Arc::new(Meter::new());
        // The channel dials from the runtime that it is made in.
        let backend = {
            let _inside = runtime.enter();
            Backend::dial(settings, Arc::clone(&meter)).map_err(io::Error::other)?
        };
        let work = work(Arc::clone(&desk), backend, ends, settings.clone(), meter, stopped);
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let _vital = Vital("upstream");
            runtime.block_on(work);
        })?;
        Ok(Self { desk, stop, thread })
    }

    /// Where grants are handed in.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Ends it; calls in flight are cut. What was not acknowledged is told again by the next start.
    pub fn close(self) {
        drop(self.stop);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Tells the upstream until it is stopped.
async fn work(
    desk: Arc<Desk>,
    backend: Backend,
    ends: Ends,
    settings: Settings,
    meter: Arc<Meter>,
    stopped: oneshot::Receiver<()>,
) {
    let revokes =
        RevokeLane::new(Arc::clone(&desk), backend.clone(), ends.clone(), Arc::clone(&meter), settings.batch);
    let applies = ApplyLane::new(desk, backend, ends, &settings, meter);
    tokio::select! {
        () = applies.run() => {}
        () = revokes.run() => {}
        _ = stopped => {}
    }
}
