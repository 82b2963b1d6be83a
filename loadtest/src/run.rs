//! Runs a command and turns its end into an exit code.

use std::{ffi::OsString, fmt::Display, future::Future, io, path::Path, process::ExitCode};

use clap::Parser as _;
use serde::Serialize;
use tokio::runtime::{self, LocalOptions};

use crate::{
    bench, child,
    cli::{Cli, Command, SimulateArgs},
    console, exit_code, generate, incident, json_file, page, simulate, storm, watch, whole_file,
};

/// Runs the program; `args[0]` is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Fails only where the terminal is gone, and then nobody reads it.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(exit_code::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Storm(args) => interruptible(async move {
            let storm::Storm { report, timeline } =
                storm::run(&args).await.map_err(|error| error.to_string())?;
            write_page(args.html.as_deref(), || page::storm(&report, &timeline))?;
            conclude(&report, &report.render(), report.broken().is_empty(), args.json.as_deref())
        }),
        Command::Incident(args) => interruptible(async move {
            let report = incident::run(&args).await.map_err(|error| error.to_string())?;
            write_page(args.html.as_deref(), || page::incident(&report))?;
            conclude(&report, &report.render(), report.broken().is_empty(), args.json.as_deref())
        }),
        Command::Simulate(args) => simulated(&args).unwrap_or_else(|error| not_run(&error)),
        Command::Bench(args) => interruptible(async move {
            let report = bench::run(&args).await.map_err(|error| error.to_string())?;
            conclude(&report, &report.render(), report.is_right(), args.json.as_deref())
        }),
        Command::Watch(args) => interruptible(async move {
            let report = watch::run(&args).await.map_err(|error| error.to_string())?;
            conclude(&report, &report.render(), report.is_whole(), args.json.as_deref())
        }),
        Command::Generate(args) => match generate::run(&args) {
            Ok(summary) => {
                console::result(&summary);
                ExitCode::from(exit_code::HELD)
            }
            Err(error) => not_run(&error),
        },
        Command::Gateway(args) => match child::die_with(args.parent) {
            Ok(()) => podgate::main(std::iter::once(OsString::from("podgate")).chain(args.arguments)),
            Err(error) => not_run(&error),
        },
        Command::Echo(args) => serve(args.parent, || bench::echo::serve(&args)),
        Command::Backend(args) => serve(args.parent, || incident::backend::serve(&args)),
        Command::PlainAcl(args) => serve(args.parent, || incident::plain_acl::serve(&args)),
    }
}

/// Is a server that dies with its parent.
fn serve(parent: u32, server: impl FnOnce() -> io::Result<()>) -> ExitCode {
    match child::die_with(parent).and_then(|()| server()) {
        Ok(()) => ExitCode::from(exit_code::HELD),
        Err(error) => not_run(&error),
    }
}

/// Runs on one thread, this one: the other core is the server's, and children live as long as the thread that
/// started them. Pods and their connections wait in one queue: in a `LocalSet`, pods would go on dialing at the expense of
/// what they have to send. Ctrl-C drops the run, and with it the children.
fn interruptible(work: impl Future<Output = Result<ExitCode, String>>) -> ExitCode {
    let runtime =
        match runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return not_run(&error),
        };
    runtime.block_on(async {
        tokio::select! {
            ended = work => ended.unwrap_or_else(|error| not_run(&error)),
            _ = tokio::signal::ctrl_c() => {
                console::remark("interrupted");
                ExitCode::from(exit_code::INTERRUPTED)
            }
        }
    })
}

/// Nothing of it waits, so Ctrl-C ends the process by itself.
fn simulated(args: &SimulateArgs) -> Result<ExitCode, String> {
    let json = args.json.as_deref();
    match args.seeds {
        Some(seeds) => {
            let report = simulate::run_seeds(args, seeds).map_err(|error| error.to_string())?;
            conclude(&report, &report.render(), report.holds(), json)
        }
        None => {
            let simulate::Simulated { report, timeline } =
                simulate::run(args).map_err(|error| error.to_string())?;
            write_page(args.html.as_deref(), || page::simulation(&report, &timeline))?;
            conclude(&report, &report.render(), report.holds(), json)
        }
    }
}

/// Prints the report, writes it, and says by the exit code whether what it shows is as promised.
fn conclude(
    report: &impl Serialize,
    text: &str,
    held: bool,
    json: Option<&Path>,
) -> Result<ExitCode, String> {
    console::result(text);
    if let Some(path) = json {
        json_file::write(path, report)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(ExitCode::from(if held { exit_code::HELD } else { exit_code::BROKEN }))
}

fn write_page(path: Option<&Path>, render: impl FnOnce() -> String) -> Result<(), String> {
    path.map_or(Ok(()), |path| {
        whole_file::write(path, render().as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    })
}

fn not_run(error: &impl Display) -> ExitCode {
    console::remark(&format!("podgate-loadtest: {error}"));
    ExitCode::from(exit_code::NOT_RUN)
}
