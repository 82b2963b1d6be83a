//! Asking for a grant: with the ticket that an earlier start was given, and with a word for each way to end without.

use podgate_client::{Answer, Appointment, AuthorizeError, CallError, Granted, Step};

use crate::{
    ExitCode,
    end::{End, result_of},
    narration::{Narrator, without_grant},
    settings::{OnUnavailable, Settings},
    termination::Message,
};

/// Asks until there is a decision or the wait is over, and says so.
pub(crate) async fn ask(settings: &Settings, narrator: &mut Narrator<'_>) -> Result<Granted, AuthorizeError> {
    let appointment = kept_appointment(settings, narrator);
    let observe = |step: Step| {
        narrator.step(&step);
        keep_appointment(settings, &step, narrator);
    };
    let decided = settings.client.authorize_from(appointment, &settings.ask, observe).await;
    match &decided {
        Ok(granted) => narrator.granted(granted),
        Err(error) => narrator.refused(error, settings.wait),
    }
    match &decided {
        // What the gateway does not take is not worth repeating, its ticket included.
        Ok(_)
        | Err(
            AuthorizeError::Denied(_)
            | AuthorizeError::Failed(CallError::Superseded(_) | CallError::Misconfigured(_)),
        ) => {
            forget_appointment(settings, narrator);
        }
        Err(AuthorizeError::Failed(
            CallError::Throttled(_) | CallError::Unavailable(_) | CallError::Unauthenticated(_),
        )) => {}
    }
    decided
}

/// Writes the grant down where a file is named; an error says why it could not be.
pub(crate) fn write_down(
    settings: &Settings,
    granted: &Granted,
    narrator: &mut Narrator<'_>,
) -> Result<(), String> {
    let Some(file) = &settings.grant_file else { return Ok(()) };
    let path = file.path().display();
    file.write(&settings.ask, granted, narrator.now()).map_err(|error| {
        let reason = format!("the grant was given, but {path} can't be written: {error}");
        narrator.say(&reason);
        reason
    })?;
    narrator.say(&format!("the grant is written to {path}"));
    Ok(())
}

/// How a run ends that got no grant.
pub(crate) fn without(error: &AuthorizeError, settings: &Settings, narrator: &mut Narrator<'_>) -> End {
    let (code, result) = match error {
        AuthorizeError::Denied(_) => (ExitCode::Denied, "denied"),
        AuthorizeError::Failed(error) => match (error, settings.on_unavailable) {
            (CallError::Unavailable(_), OnUnavailable::Continue) => {
                narrator.say("WARNING: the pod starts WITHOUT A GRANT, for --on-unavailable is continue;");
                narrator.say("WARNING: what it reaches may refuse it until a grant is given");
                (ExitCode::Granted, "unavailable_continued")
            }
            (error, OnUnavailable::Fail | OnUnavailable::Continue) => {
                (ExitCode::without_answer(error), result_of(error))
            }
        },
    };
    let reason = without_grant(error, settings.wait);
    let message = Message::new(result, reason, &settings.ask.app, error.calls(), error.elapsed());
    let message = match error {
        AuthorizeError::Denied(denial) => message.with_denied(&denial.decisions),
        AuthorizeError::Failed(_) => message,
    };
    End { code, message }
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
