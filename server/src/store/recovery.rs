//! What opening a store had to set right.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{info, warn};

use crate::store::finding::Left;

/// What opening a store had to set right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing: it had been closed in order, and every page is as it was written.
    NotNeeded,
    /// It had not been closed in order; its last commit is whole.
    LastCommitWhole,
    /// It had not been closed in order, and its last commit was not whole. That was never acknowledged.
    LastCommitUndone,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNeeded => "the store had been closed in order; every page is as it was written",
            Self::LastCommitWhole => {
                "the store had not been closed in order (killed, crashed or without power); every page was verified, \
                 and nothing had to be undone"
            }
            Self::LastCommitUndone => {
                "the store had not been closed in order (killed, crashed or without power); every page was verified, \
                 and its last commit, which was cut short before it was acknowledged, was undone"
            }
        })
    }
}

impl Recovery {
    /// Tells whoever reads the log, if there is something to tell.
    pub(crate) fn log(self) {
        match self {
            Self::NotNeeded => {}
            Self::LastCommitWhole => info!("{self}"),
            Self::LastCommitUndone => warn!("{self}"),
        }
    }
}

/// A file so large takes a while, and whoever waits is told how far it is.
const LARGE_BYTES: u64 = 64 << 20;
/// What redb tells after the first of three passes, and only where the last commit turned out not to be whole.
const LAST_COMMIT_BROKEN: f64 = 0.3;

/// Listens to redb while it verifies a file.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    left: Left,
    bytes: u64,
    is_last_commit_broken: Arc<AtomicBool>,
}

impl Listener {
    /// For a file of so many bytes that was left so.
    pub(crate) fn new(left: Left, bytes: u64) -> Self {
        Self { left, bytes, is_last_commit_broken: Arc::default() }
    }

    /// Hears how far it is, from 0 to 1.
    pub(crate) fn hear(&self, progress: f64) {
        if (progress - LAST_COMMIT_BROKEN).abs() < 1e-6 {
            self.is_last_commit_broken.store(true, Ordering::Relaxed);
        }
        if self.bytes >= LARGE_BYTES {
            let percent = (progress * 100.0).round() as u32;
            info!(percent, bytes = self.bytes, "verifying the store");
        }
    }

    /// What came of it.
    pub(crate) fn recovery(&self) -> Recovery {
        match (self.left, self.is_last_commit_broken.load(Ordering::Relaxed)) {
            (_, true) => Recovery::LastCommitUndone,
            (Left::Open, false) => Recovery::LastCommitWhole,
            (Left::Closed, false) => Recovery::NotNeeded,
        }
    }
}
