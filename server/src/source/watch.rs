//! Tells when a directory may have changed.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tracing::warn;

/// How long changes are gathered before one look at the directory.
const SETTLE: Duration = Duration::from_millis(200);

/// How often new changes postpone that look: writes that never cease must not put it off for ever.
const RINGS_GATHERED_MAX: u32 = 10;

/// Whether something was only opened or read, as each look of ours does.
fn is_mere_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

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
        let on_event = move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_mere_reading(event.kind)) {
                return;
            }
            on_event.ring();
        };
        let watcher = notify::recommended_watcher(on_event).and_then(|mut watcher| {
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
            Ok(()) => {
                for _ in 0..RINGS_GATHERED_MAX {
                    match self.rung.recv_timeout(SETTLE) {
                        Ok(()) => {}
                        Err(RecvTimeoutError::Timeout) => return Wake::Look,
                        Err(RecvTimeoutError::Disconnected) => return Wake::Over,
                    }
                }
                Wake::Look
            }
            Err(RecvTimeoutError::Timeout) => Wake::Look,
            Err(RecvTimeoutError::Disconnected) => Wake::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, ModifyKind};

    use super::*;

    #[test]
    fn our_own_looks_do_not_ring() {
        for mode in [AccessMode::Any, AccessMode::Read, AccessMode::Other] {
            assert!(is_mere_reading(EventKind::Access(AccessKind::Open(mode))));
            assert!(is_mere_reading(EventKind::Access(AccessKind::Close(mode))));
        }
        assert!(!is_mere_reading(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(!is_mere_reading(EventKind::Create(CreateKind::File)));
        assert!(!is_mere_reading(EventKind::Modify(ModifyKind::Any)));
    }
}
