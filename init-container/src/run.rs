//! The program: reads its settings, asks, and leaves word of how it ended.

use std::{ffi::OsString, io::Write, time::SystemTime};

use podgate_client::{Answer, Appointment, AuthorizeError, Granted, Step};
use tokio::time::Instant;

use crate::{
    ExitCode, Signal,
    arguments::{Arguments, Page},
    fault::Fault,
    flags,
    narration::{Narrator, summary, version, without_grant},
    settings::{self, OnUnavailable, Settings},
    termination::{Message, TerminationLog},
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
        None => {
            let log = settings::termination_log(&arguments);
            let end = end_of(&arguments, seed, &mut narrator, signal).await;
            return finish(end, &log, &mut narrator);
        }
    }
    ExitCode::Granted
}

/// How it ended: the code, and the last word.
struct End {
    code: ExitCode,
    message: Message,
}

/// What came of asking.
enum Outcome {
    Decided(Result<Granted, AuthorizeError>),
    Signalled(Signal),
}

async fn end_of(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> End {
    for name in &arguments.ignored {
        narrator.say(&format!("{name} is no variable of podgate-init and means nothing here"));
    }
    let app = arguments.one(flags::APP).map_or("", |given| given.value.as_str());
    let settings = settings::parse(arguments, seed).and_then(|settings| match remove_old_grant(&settings) {
        Ok(()) => Ok(settings),
        Err(fault) => Err(vec![fault]),
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(faults) => return misconfigured(app, &faults, narrator),
    };
    narrator.opening(&settings);
    let appointment = kept_appointment(&settings, narrator);
    let started = Instant::now();
    let observe = |step: Step| {
        narrator.step(&step);
        keep_appointment(&settings, &step, narrator);
    };
    let outcome = tokio::select! {
        biased;
        signal = signal => Outcome::Signalled(signal),
        decided = settings.client.authorize_from(appointment, &settings.ask, observe) => Outcome::Decided(decided),
    };
    match outcome {
        Outcome::Decided(Ok(granted)) => on_grant(&settings, &granted, narrator),
        Outcome::Decided(Err(error)) => on_refusal(&settings, &error, narrator),
        Outcome::Signalled(signal) => {
            let reason = format!("ended by {} before there was a decision", signal.name());
            narrator.say(&reason);
            let code = match signal {
                Signal::Terminate => ExitCode::Terminated,
                Signal::Interrupt => ExitCode::Interrupted,
            };
            End {
                code,
                message: Message::new("ended_by_signal", reason, app, narrator.calls, started.elapsed()),
            }
        }
    }
}

fn remove_old_grant(settings: &Settings) -> Result<(), Fault> {
    let Some(file) = &settings.grant_file else { return Ok(()) };
    file.remove().map_err(|error| {
        let path = file.path().display();
        Fault::new("--grant-file", format!("the old grant in {path} can't be removed: {error}"))
    })
}

/// What an earlier start of this container was booked and did not live to see.
fn kept_appointment(settings: &Settings, narrator: &mut Narrator<'_>) -> Option<Appointment> {
    let file = settings.ticket_file.as_ref()?;
    match file.read(&settings.ask, narrator.now()) {
        Ok(None) => None,
        Ok(Some(appointment)) => {
            narrator.resuming(appointment.due_in);
            Some(appointment)
        }
        Err(why) => {
            narrator.say(&format!("the ticket in {} is not used: {why}", file.path().display()));
            None
        }
    }
}

/// Keeps a turn that is booked for the next start, should this one not live to see it.
fn keep_appointment(settings: &Settings, step: &Step, narrator: &mut Narrator<'_>) {
    let Step::Answered { answer: Answer::Deferred { delay, ticket }, .. } = step else { return };
    let Some(file) = &settings.ticket_file else { return };
    if let Err(error) = file.write(&settings.ask, ticket, *delay, narrator.now()) {
        let path = file.path().display();
        narrator.say(&format!("the ticket can't be kept in {path}: {error}; a restart would lose it"));
    }
}

/// Removes the ticket of a request that is settled: the next start, if there is one, asks anew.
fn forget_appointment(settings: &Settings, narrator: &mut Narrator<'_>) {
    let Some(file) = &settings.ticket_file else { return };
    if let Err(error) = file.remove() {
        narrator.say(&format!("the ticket in {} can't be removed: {error}", file.path().display()));
    }
}

fn misconfigured(app: &str, faults: &[Fault], narrator: &mut Narrator<'_>) -> End {
    narrator.say(&format!(
        "podgate-init {} can't ask; {} to be put right:",
        version(),
        match faults.len() {
            1 => "one setting has".to_owned(),
            many => format!("{many} settings have"),
        }
    ));
    for fault in faults {
        narrator.say(&format!("  {fault}"));
    }
    let reason = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    End {
        code: ExitCode::Misconfigured,
        message: Message::new("misconfigured", reason, app, 0, std::time::Duration::ZERO),
    }
}

fn on_grant(settings: &Settings, granted: &Granted, narrator: &mut Narrator<'_>) -> End {
    narrator.granted(granted);
    forget_appointment(settings, narrator);
    let app = &settings.ask.app;
    let message = |result, reason| Message::new(result, reason, app, granted.calls, granted.elapsed);
    if let Some(file) = &settings.grant_file {
        let path = file.path().display();
        if let Err(error) = file.write(&settings.ask, granted, narrator.now()) {
            // The pod counts on the file. Asking again costs nothing: the grant lives.
            let reason = format!("the grant was given, but {path} can't be written: {error}");
            narrator.say(&reason);
            return End { code: ExitCode::Misconfigured, message: message("misconfigured", reason) };
        }
        narrator.say(&format!("the grant is written to {path}"));
    }
    End { code: ExitCode::Granted, message: message("granted", summary(granted)) }
}

fn on_refusal(settings: &Settings, error: &AuthorizeError, narrator: &mut Narrator<'_>) -> End {
    narrator.refused(error, settings.wait);
    match error {
        // What the gateway does not take is not worth repeating, its ticket included.
        AuthorizeError::Denied(_) | AuthorizeError::Misconfigured(_) => {
            forget_appointment(settings, narrator);
        }
        AuthorizeError::Throttled(_)
        | AuthorizeError::Unavailable(_)
        | AuthorizeError::Unauthenticated(_) => {}
    }
    let (code, result) = match error {
        AuthorizeError::Denied(_) => (ExitCode::Denied, "denied"),
        AuthorizeError::Throttled(_) => (ExitCode::Throttled, "throttled"),
        AuthorizeError::Unavailable(_) => match settings.on_unavailable {
            OnUnavailable::Fail => (ExitCode::Unavailable, "unavailable"),
            OnUnavailable::Continue => {
                narrator.say("WARNING: the pod starts WITHOUT A GRANT, for --on-unavailable is continue;");
                narrator.say("WARNING: what it reaches may refuse it until a grant is given");
                (ExitCode::Granted, "unavailable_continued")
            }
        },
        AuthorizeError::Unauthenticated(_) => (ExitCode::Unauthenticated, "unauthenticated"),
        AuthorizeError::Misconfigured(_) => (ExitCode::Misconfigured, "misconfigured"),
    };
    let reason = without_grant(error, settings.wait);
    let message = Message::new(result, reason, &settings.ask.app, error.calls(), error.elapsed());
    let message = match error {
        AuthorizeError::Denied(denial) => message.with_denied(&denial.decisions),
        AuthorizeError::Throttled(_)
        | AuthorizeError::Unavailable(_)
        | AuthorizeError::Unauthenticated(_)
        | AuthorizeError::Misconfigured(_) => message,
    };
    End { code, message }
}

fn finish(end: End, log: &TerminationLog, narrator: &mut Narrator<'_>) -> ExitCode {
    if let Err(error) = log.write(end.message) {
        narrator
            .say(&format!("the termination message can't be written to {}: {error}", log.path().display()));
    }
    narrator.say(&format!("ends with exit code {}", end.code.code()));
    end.code
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
