//! Points at which a test has the gateway die, as a kill would have it there. Only builds with debug assertions have
//! them; what ships passes by.

/// Where a group of writes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is gathered; nothing of it is written.
    Gathered,
    /// It is written, and its commit has not begun.
    Written,
    /// It is committed, and not in force.
    Committed,
    /// It is in force, and nobody has been answered.
    Published,
    /// All have been answered.
    Answered,
}

#[cfg(debug_assertions)]
pub use self::armed::arm;
#[cfg(debug_assertions)]
pub(crate) use self::armed::pass;

/// Goes by.
#[cfg(not(debug_assertions))]
pub(crate) fn pass(_: Stage) {}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        ffi::OsString,
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Stage;

    const VARIABLE: &str = "FAULT_POINT";

    static ARMED: OnceLock<(Stage, AtomicU32)> = OnceLock::new();

    /// Has the process die at the stage and in the group that `FAULT_POINT=committed:17` names: in the 17th that gets
    /// there. Anything else is left alone.
    pub fn arm(variables: &[(OsString, OsString)]) {
        let wanted =
            variables.iter().find(|(name, _)| name == VARIABLE).and_then(|(_, value)| value.to_str());
        let Some((stage, group)) = wanted.and_then(|value| value.split_once(':')) else {
            return;
        };
        let stage = match stage {
            "gathered" => Stage::Gathered,
            "written" => Stage::Written,
            "committed" => Stage::Committed,
            "published" => Stage::Published,
            "answered" => Stage::Answered,
            _ => return,
        };
        if let Ok(group) = group.parse() {
            // A second call in one process changes nothing.
            let _ = ARMED.set((stage, AtomicU32::new(group)));
        }
    }

    /// Dies here, if that is wanted.
    pub(crate) fn pass(stage: Stage) {
        if let Some((wanted, left)) = ARMED.get()
            && *wanted == stage
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal comes at once; until then nothing goes on here.
            loop {
                std::thread::park();
            }
        }
    }
}
