//! `podgate-init check`: what would be decided, for a release that is validated before it has traffic.

use podgate_client::{Explained, Ruling, Step};
use tokio::time::Instant;

use crate::{
    ExitCode, Signal,
    arguments::Arguments,
    end::{End, result_of},
    narration::{Narrator, without_answer},
    settings::{self, Settings},
    termination::Message,
};

/// Asks, and ends with what would be decided.
pub(crate) async fn run(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> End {
    arguments.tell_ignored(narrator);
    let settings = match settings::parse(arguments, seed) {
        Ok(settings) => settings,
        Err(faults) => return End::misconfigured(arguments.app(), &faults, narrator),
    };
    narrator.opening(&settings, "asks, without effect, what would be decided for app");
    let started = Instant::now();
    let explained = tokio::select! {
        biased;
        signal = signal => return End::signalled(signal, arguments.app(), started.elapsed(), narrator),
        explained = settings.client.explain(&settings.ask, |step: Step| narrator.step(&step)) => explained,
    };
    match explained {
        Ok(explained) => decided(&settings, explained, started, narrator),
        Err(error) => {
            let reason = without_answer(&error, settings.wait);
            narrator.say(&reason);
            let ended = error.ended();
            let app = &settings.ask.app;
            let message = Message::new(result_of(&error), reason, app, ended.calls, ended.elapsed);
            End { code: ExitCode::without_answer(&error), message }
        }
    }
}

fn decided(settings: &Settings, explained: Explained, started: Instant, narrator: &mut Narrator<'_>) -> End {
    narrator.explained(&explained);
    let (code, result) = match explained.ruling {
        Ruling::Allowed => (ExitCode::Granted, "would_be_allowed"),
        Ruling::Denied(_) => (ExitCode::Denied, "would_be_denied"),
    };
    let Explained { explanation, decisions, .. } = explained;
    let message = Message::new(result, explanation, &settings.ask.app, narrator.calls, started.elapsed());
    let message = match code {
        ExitCode::Denied => message.with_denied(&decisions),
        _ => message,
    };
    End { code, message }
}
