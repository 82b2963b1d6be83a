//! The program's exit codes: a contract, documented in `docs/init-container.md`.

use podgate_client::CallError;

use crate::Signal;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The grant is given. Also: no gateway was reached and `--on-unavailable continue` was set; help was shown; a
    /// sidecar was told to end, a sidecar is ready, a grant is given back, a check found everything allowed.
    Granted = 0,
    /// There is no sidecar that says that the pod may start.
    NotReady = 1,
    /// A flag, a variable or a file is wrong, or the gateway refuses the request as such.
    Misconfigured = 2,
    /// The gateway decided against it.
    Denied = 10,
    /// A limit was spent to the end of the wait.
    Throttled = 11,
    /// No gateway decided before the end of the wait.
    Unavailable = 12,
    /// The gateway does not know who calls.
    Unauthenticated = 13,
    /// Another pod has the address now.
    Superseded = 14,
    /// SIGINT came first: 128 + 2, as shells have it.
    Interrupted = 130,
    /// SIGTERM came first: 128 + 15, as shells have it.
    Terminated = 143,
}

impl ExitCode {
    /// That of a call that had no answer.
    pub(crate) fn without_answer(error: &CallError) -> Self {
        match error {
            CallError::Throttled(_) => Self::Throttled,
            CallError::Unavailable(_) => Self::Unavailable,
            CallError::Unauthenticated(_) => Self::Unauthenticated,
            CallError::Superseded(_) => Self::Superseded,
            CallError::Misconfigured(_) => Self::Misconfigured,
        }
    }

    /// That of a run that a signal ended before it was done.
    pub(crate) fn signalled(signal: Signal) -> Self {
        match signal {
            Signal::Terminate => Self::Terminated,
            Signal::Interrupt => Self::Interrupted,
        }
    }

    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode::{
        Denied, Granted, Interrupted, Misconfigured, NotReady, Superseded, Terminated, Throttled,
        Unauthenticated, Unavailable,
    };

    #[test]
    fn the_codes_are_those_of_the_documentation() {
        let page = include_str!("../../docs/init-container.md");
        for (code, number) in [
            (Granted, 0),
            (NotReady, 1),
            (Misconfigured, 2),
            (Denied, 10),
            (Throttled, 11),
            (Unavailable, 12),
            (Unauthenticated, 13),
            (Superseded, 14),
            (Interrupted, 130),
            (Terminated, 143),
        ] {
            assert_eq!(code.code(), number);
            assert!(page.contains(&format!("| {number} |")), "{code:?} is not documented");
        }
    }
}
