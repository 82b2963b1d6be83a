//! The only module of the gateway that reads the environment.

use std::ffi::OsString;

/// The variables of the process.
#[expect(clippy::disallowed_methods, reason = "this is the environment's module")]
pub fn variables() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}
