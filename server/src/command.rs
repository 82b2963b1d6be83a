//! The commands of the `podgate` program.

pub mod arguments;
pub mod explain;
pub mod serve;
pub mod settings;
pub mod validate;

use std::{ffi::OsString, io::Write, process::ExitCode};

/// Exit codes.
pub mod exit_code {
    /// Done; for `explain`: allowed.
    pub const OK: u8 = 0;
    /// It failed while it ran.
    pub const FAILED: u8 = 1;
    /// A flag, a variable, a file or a profile is wrong.
    pub const MISCONFIGURED: u8 = 2;
    /// `explain`: denied.
    pub const DENIED: u8 = 10;
}

/// Runs the program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match arguments::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Where nobody reads the help there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit_code::MISCONFIGURED } else { exit_code::OK });
        }
    };
    let code = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("config", matches)) => settings::run(matches),
        Some(("validate", matches)) => validate::run(matches),
        Some(("explain", matches)) => explain::run(matches),
        Some(_) | None => exit_code::MISCONFIGURED,
    };
    ExitCode::from(code)
}

/// Prints lines for a person; a reader who left is no failure.
pub(crate) fn say(lines: impl IntoIterator<Item = impl std::fmt::Display>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

/// Prints what is wrong to standard error.
pub(crate) fn complain(lines: impl IntoIterator<Item = impl std::fmt::Display>) {
    let mut err = std::io::stderr().lock();
    for line in lines {
        if writeln!(err, "error: {line}").is_err() {
            return;
        }
    }
}
