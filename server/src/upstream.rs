//! An ACL service that stands behind podgate and must know of each grant before its pod may go on: it is told in
//! batches, a few at a time, and however slow it is, it holds up nobody but those who wait for it.
//!
//! In reading order:

pub mod intake;

mod apply_lane;
mod replay;
mod revoke_lane;

mod applies;
mod backend;
mod backoff;
mod breaker;
mod measures;
mod message;

#[cfg(test)]
mod lanes_tests;

use std::{io, sync::Arc, thread::JoinHandle};

use tokio::sync::oneshot;

pub use self::intake::{Intake, UpstreamError};
use crate::{
    config::Upstream as Settings,
    store::Ends,
    upstream::{apply_lane::ApplyLane, backend::Backend, measures::Measures, revoke_lane::RevokeLane},
    vital::Vital,
};

/// The upstream, with a thread of its own on which everything about it runs.
#[derive(Debug)]
pub struct Upstream {
    intake: Arc<Intake>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Upstream {
    /// Starts telling the upstream: at once of every living grant and every end that it has not acknowledged.
    pub fn start(settings: &Settings, ends: Ends) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let intake = Arc::new(Intake::new(settings, Arc::clone(&ends.tombstones)));
        let (stop, stopped) = oneshot::channel();
        let measures = Arc::new(Measures::new());
        // The channel dials from the runtime that it is made in.
        let backend = {
            let _inside = runtime.enter();
            Backend::dial(settings, Arc::clone(&measures)).map_err(io::Error::other)?
        };
        let work = work(Arc::clone(&intake), backend, ends, settings.clone(), measures, stopped);
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let _vital = Vital("upstream");
            runtime.block_on(work);
        })?;
        Ok(Self { intake, stop, thread })
    }

    /// Where grants are handed in.
    pub fn intake(&self) -> &Intake {
        &self.intake
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
    intake: Arc<Intake>,
    backend: Backend,
    ends: Ends,
    settings: Settings,
    measures: Arc<Measures>,
    stopped: oneshot::Receiver<()>,
) {
    let revokes = RevokeLane::new(
        Arc::clone(&intake),
        backend.clone(),
        ends.clone(),
        Arc::clone(&measures),
        settings.batch,
    );
    let applies = ApplyLane::new(intake, backend, ends, &settings, measures);
    tokio::select! {
        () = applies.run() => {}
        () = revokes.run() => {}
        _ = stopped => {}
    }
}
