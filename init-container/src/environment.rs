//! The only place that reads the process's arguments and variables.

use std::{env, ffi::OsString};

/// The arguments, without the program's name.
pub fn args() -> Vec<OsString> {
    env::args_os().skip(1).collect()
}

/// The variables.
#[expect(clippy::disallowed_methods, reason = "this is the crate's access to the environment")]
pub fn vars() -> Vec<(OsString, OsString)> {
    env::vars_os().collect()
}
