//! The program: reads what it is told to do, does it, and leaves word of how it ended.

use std::{ffi::OsString, io::Write, time::SystemTime};

use podgate_client::Granted;
use tokio::time::Instant;

use crate::{
    ExitCode, Signal,
    arguments::{Arguments, Page},
    asking, check,
    command::Command,
    end::End,
    fault::Fault,
    flags,
    narration::{Narrator, summary, version},
    ready, release,
    settings::{self, Settings},
    sidecar,
    termination::Message,
};

/// All that the program touches of its process.
pub struct Process<'a> {
    /// Arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Variables.
    pub vars: Vec<(OsString, OsString)>,
    /// Where each step is told.
    pub out: &'a mut dyn Write,
    /// The time of day.
    pub now: &'a dyn Fn() -> SystemTime,
    /// Draws the delays and the first gateway; different in each pod.
    pub seed: u64,
}

/// Runs the program until it ends or `signal` resolves, and tells how it ended: in the output, in the termination
/// log and by its exit code. Needs a tokio runtime with time and I/O.
pub async fn run(process: Process<'_>, signal: impl Future<Output = Signal>) -> ExitCode {
    let Process { args, vars, out, now, seed } = process;
    let mut narrator = Narrator::new(out, now);
    let arguments = Arguments::collect(args, vars);
    match arguments.page {
        Some(Page::Help) => narrator.print(&flags::help()),
        Some(Page::Version) => narrator.print(&format!("podgate-init {}\n", version())),
        None => return obey(&arguments, seed, &mut narrator, signal).await,
    }
    ExitCode::Granted
}

async fn obey(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> ExitCode {
    let end = match arguments.command {
        // Asked every second, and not a container of its own.
        Command::Ready => return ready::run(arguments, narrator),
        Command::Init => init(arguments, seed, narrator, signal).await,
        Command::Sidecar => sidecar::run(arguments, seed, narrator, signal).await,
        Command::Check => check::run(arguments, seed, narrator, signal).await,
        Command::Release => release::run(arguments, seed, narrator, signal).await,
    };
    let code = match arguments.command {
        // It runs in the container of another process, whose last word is not its to write.
        Command::Release => end.code,
        Command::Init | Command::Sidecar | Command::Check | Command::Ready => {
            end.written_to(&settings::termination_log(arguments), narrator)
        }
    };
    narrator.say(&format!("ends with exit code {}", code.code()));
    code
}

/// Asks, and ends with the decision.
async fn init(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> End {
    arguments.tell_ignored(narrator);
    let settings = settings::parse(arguments, seed).and_then(|settings| match remove_old_grant(&settings) {
        Ok(()) => Ok(settings),
        Err(fault) => Err(vec![fault]),
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => return End::misconfigured(arguments.app(), &faults, narrator),
    };
    narrator.opening(&settings, "asks as app");
    let started = Instant::now();
    let decided = tokio::select! {
        biased;
        signal = signal => Err(signal),
        decided = asking::ask(&settings, narrator) => Ok(decided),
    };
    match decided {
        Ok(Ok(granted)) => on_grant(&settings, &granted, narrator),
        Ok(Err(error)) => asking::without(&error, &settings, narrator),
        Err(signal) => End::signalled(signal, arguments.app(), started.elapsed(), narrator),
    }
}

fn remove_old_grant(settings: &Settings) -> Result<(), Fault> {
    let Some(file) = &settings.grant_file else { return Ok(()) };
    file.remove().map_err(|error| {
        let path = file.path().display();
        Fault::new("--grant-file", format!("the old grant in {path} can't be removed: {error}"))
    })
}

fn on_grant(settings: &Settings, granted: &Granted, narrator: &mut Narrator<'_>) -> End {
    let app = &settings.ask.app;
    let message = |result, reason| Message::new(result, reason, app, granted.calls, granted.elapsed);
    match asking::write_down(settings, granted, narrator) {
        Ok(()) => End { code: ExitCode::Granted, message: message("granted", summary(granted)) },
        // The pod counts on the file. Asking again costs nothing: the grant lives.
        Err(reason) => End { code: ExitCode::Misconfigured, message: message("misconfigured", reason) },
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
