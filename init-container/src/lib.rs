//! The init container of podgate: asks the gateway to let its pod through, waits as long as it may, and ends with a
//! grant or a clear reason; or, as a sidecar, keeps the lease for as long as the pod lives, and gives it back.
//!
//! [`run`] is the whole program, driven from outside: it is given its arguments, its variables, its output and a
//! clock, and touches nothing else of the process.

mod command;
mod flags;
mod settings;

mod arguments;
mod destinations;
mod fault;
mod identity;

mod run;

mod asking;
mod check;
mod end;
mod ready;
mod release;
mod sidecar;

mod grant_file;
mod narration;
mod ready_file;
mod termination;
mod ticket_file;

mod duration;
mod utc;
mod whole_file;

pub mod clock;
pub mod environment;
pub mod exit_code;
pub mod signals;

pub use crate::{
    exit_code::ExitCode,
    run::{Process, run},
    signals::Signal,
};

#[cfg(test)]
#[path = "stage_tests.rs"]
mod stage;
