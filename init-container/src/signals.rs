//! The signals that end a wait.

use tokio::signal::unix::{SignalKind, signal};

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: the pod is being deleted.
    Terminate,
    /// SIGINT: somebody pressed Ctrl-C.
    Interrupt,
}

impl Signal {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// Waits for a signal. As process 1 of a container the program would ignore both unless it asked for them; where the
/// system refuses to deliver one, it is waited for in vain.
pub async fn received() -> Signal {
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut stream) => stream.recv().await,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = wait(SignalKind::terminate()) => Signal::Terminate,
        _ = wait(SignalKind::interrupt()) => Signal::Interrupt,
    }
}
