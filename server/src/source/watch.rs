//! Tells when a directory may have changed.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tracing::warn;

/// How long changes are gathered before one look at the directory.
const SETTLE: Duration = Duration::from_millis(200);

/// Wakes whoever waits for a change.
#[derive(Clone, Debug)]
pub struct Bell(SyncSender<()>);

impl Bell {
    /// Rings. One ring is remembered; more add nothing.
    pub fn ring(&self) {
        // Full means that it has rung already; disconnected, that nobody listens any more.
        let _ = self.0.try_send(());
    }
}

/// Waits for changes below a directory.
#[derive(Debug)]
pub struct Watch {
    rung: Receiver<()>,
    bell: Bell,
    _watcher: Option<RecommendedWatcher>,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Something may have changed.
    Look,
    /// Nobody can ring any more.
    Over,
}

impl Watch {
    /// Watches `directory` and all below it. Where the system gives no notice, looks are merely less frequent.
    pub fn new(directory: &Path) -> Self {
        let (ring, rung) = sync_channel(1);
        let bell = Bell(ring);
        let on_event = bell.clone();
        let watcher = notify::recommended_watcher(move |_event| on_event.ring()).and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(%error, directory = %directory.display(), "no notice of changes; looking from time to time");
                None
            }
        };
        Self { rung, bell, _watcher: watcher }
    }

    /// A bell that ends the wait.
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits until a look is due, with or without notice.
    pub fn wait(&self, unnoticed_max: Duration) -> Wake {
        match self.rung.recv_timeout(unnoticed_max) {
            Ok(()) => loop {
                match self.rung.recv_timeout(SETTLE) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => return Wake::Look,
                    Err(RecvTimeoutError::Disconnected) => return Wake::Over,
                }
            },
            Err(RecvTimeoutError::Timeout) => Wake::Look,
            Err(RecvTimeoutError::Disconnected) => Wake::Over,
        }
    }
}
