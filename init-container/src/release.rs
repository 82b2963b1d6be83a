//! `podgate-init release`: gives back the grant that is written in the grant file.

use podgate_client::{Holding, Release, Step};
use tokio::time::Instant;

use crate::{
    ExitCode, Signal,
    arguments::Arguments,
    end::{End, result_of},
    grant_file::{GrantFile, Record},
    narration::{Narrator, without_answer},
    settings::{self, ReleaseSettings},
    termination::Message,
};

/// Gives it back. Safe to repeat: where nothing is held any more, that is the same good end.
pub(crate) async fn run(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> End {
    let settings = match settings::parse_release(arguments, seed) {
        Ok(settings) => settings,
        Err(faults) => return End::misconfigured("", &faults, narrator),
    };
    let path = settings.grant_file.path().display();
    let started = Instant::now();
    let end = |code, result, reason| {
        let message = Message::new(result, reason, "", 0, started.elapsed());
        End { code, message }
    };
    let holding = match settings.grant_file.read() {
        // Of any generation: the file may be older than what the policy has made of it.
        Ok(Some(Record { holding, .. })) => Holding { generation: 0, ..holding },
        Ok(None) => {
            let reason = format!("{path} holds no grant: there is nothing to give back");
            narrator.say(&reason);
            return end(ExitCode::Granted, "released", reason);
        }
        Err(why) => {
            let reason = format!("the grant in {path} can't be given back: {why}");
            narrator.say(&reason);
            return end(ExitCode::Misconfigured, "misconfigured", reason);
        }
    };
    let ReleaseSettings { client, grant_file, release_wait } = &settings;
    let released = tokio::select! {
        biased;
        signal = signal => return End::signalled(signal, "", started.elapsed(), narrator),
        released = client.release(&holding, *release_wait, |step: Step| narrator.step(&step)) => released,
    };
    match released {
        Ok(release) => {
            let reason = given_back(&holding, release, Some(grant_file), narrator);
            end(ExitCode::Granted, "released", reason)
        }
        Err(error) => {
            let reason = without_answer(&error, *release_wait);
            narrator.say(&reason);
            end(ExitCode::without_answer(&error), result_of(&error), reason)
        }
    }
}

/// Says that a grant is no more, and removes its file.
pub(crate) fn given_back(
    holding: &Holding,
    release: Release,
    file: Option<&GrantFile>,
    narrator: &mut Narrator<'_>,
) -> String {
    let reason = match release {
        Release::Ended => format!("grant {} is given back", holding.grant_id),
        Release::NothingHeld => format!("grant {} was over before", holding.grant_id),
    };
    narrator.say(&reason);
    if let Some(file) = file
        && let Err(error) = file.remove()
    {
        // A container that mounts it to read alone can't; nobody is the worse for it.
        narrator.say(&format!("{} can't be removed: {error}", file.path().display()));
    }
    reason
}
