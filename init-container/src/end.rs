//! How a run ends: its code, and its last word.

use std::time::Duration;

use podgate_client::CallError;

use crate::{
    ExitCode, Signal,
    fault::Fault,
    narration::{Narrator, version},
    termination::{Message, TerminationLog},
};

/// How it ended: the code, and the last word.
pub(crate) struct End {
    pub(crate) code: ExitCode,
    pub(crate) message: Message,
}

impl End {
    /// Nothing was asked, for settings are wrong.
    pub(crate) fn misconfigured(app: &str, faults: &[Fault], narrator: &mut Narrator<'_>) -> Self {
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
        Self {
            code: ExitCode::Misconfigured,
            message: Message::new("misconfigured", reason, app, 0, Duration::ZERO),
        }
    }

    /// A signal came before there was a decision.
    pub(crate) fn signalled(
        signal: Signal,
        app: &str,
        waited: Duration,
        narrator: &mut Narrator<'_>,
    ) -> Self {
        let reason = format!("ended by {} before there was a decision", signal.name());
        narrator.say(&reason);
        let message = Message::new("ended_by_signal", reason, app, narrator.calls, waited);
        Self { code: ExitCode::signalled(signal), message }
    }

    /// Leaves the last word where the kubelet looks for it.
    pub(crate) fn written_to(self, log: &TerminationLog, narrator: &mut Narrator<'_>) -> ExitCode {
        if let Err(error) = log.write(self.message) {
            narrator.say(&format!(
                "the termination message can't be written to {}: {error}",
                log.path().display()
            ));
        }
        self.code
    }
}

/// The word for a call that had no answer.
pub(crate) fn result_of(error: &CallError) -> &'static str {
    match error {
        CallError::Throttled(_) => "throttled",
        CallError::Unavailable(_) => "unavailable",
        CallError::Unauthenticated(_) => "unauthenticated",
        CallError::Superseded(_) => "superseded",
        CallError::Misconfigured(_) => "misconfigured",
    }
}
