//! The commands of the `podgate` program.

pub mod arguments;
pub mod explain;
pub mod serve;
pub mod settings;
pub mod store;
pub mod validate;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::error::{ContextKind, ContextValue, ErrorKind};

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
    /// `store check`: the store cannot be served as it is.
    pub const UNSOUND: u8 = 11;
}

/// Runs the program.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = match arguments::command().try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => return refuse(args, &error),
    };
    let code = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("config", matches)) => settings::run(matches),
        Some(("validate", matches)) => validate::run(matches),
        Some(("explain", matches)) => explain::run(matches),
        Some(("store", matches)) => store::run(matches),
        Some(_) | None => exit_code::MISCONFIGURED,
    };
    ExitCode::from(code)
}

/// Most unknown flags told at once.
const UNKNOWN_FLAGS_MAX: usize = 16;

/// Tells what is wrong with a command line: clap stops at the first unknown flag, so each is taken out in turn, and
/// then the settings are looked at as well.
fn refuse(mut args: Vec<OsString>, first: &clap::Error) -> ExitCode {
    // Where nobody reads it there is nobody to tell.
    let _ = first.print();
    if !first.use_stderr() {
        return ExitCode::from(exit_code::OK);
    }
    let mut unknown = unknown_flag(first);
    for _ in 0..UNKNOWN_FLAGS_MAX {
        let Some(flag) = unknown.take() else {
            break;
        };
        let is_it = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.split('=').next() == Some(&flag));
        let Some(at) = args.iter().position(is_it) else {
            break;
        };
        args.remove(at);
        let is_value = |arg: &OsString| !arg.as_encoded_bytes().starts_with(b"-");
        if args.get(at).is_some_and(is_value) {
            args.remove(at);
        }
        match arguments::command().try_get_matches_from(&args) {
            Ok(matches) => {
                if let Some(("serve" | "config", matches)) = matches.subcommand()
                    && let (_, Err(faults)) = settings::read(matches)
                {
                    complain(faults);
                }
            }
            Err(error) => {
                let _ = error.print();
                unknown = unknown_flag(&error);
            }
        }
    }
    ExitCode::from(exit_code::MISCONFIGURED)
}

fn unknown_flag(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) if flag.starts_with('-') => {
            Some(flag.clone())
        }
        _ => None,
    }
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
