//! `podgate-init sidecar`: asks, says that the pod may start, keeps the lease for as long as the pod lives, and gives it
//! back in the end.
//!
//! It knows nothing of the main containers: a process that is stopped in a debugger keeps its lease. It ends by a signal
//! alone, once it has begun: a gateway that is away, restarted or of another mind is asked again.

use std::{convert::Infallible, pin::pin, time::Duration};

use podgate_client::{
    AuthorizeError, CallError, Duty, Granted, Holding, Lease, News, Renewal, RenewalSchedule, Step, Subject,
};
use tokio::time::{Instant, sleep};

use crate::{
    ExitCode, Signal,
    arguments::Arguments,
    asking,
    duration::spoken,
    end::End,
    fault::Fault,
    narration::{Narrator, without_answer},
    ready_file::Sign,
    release::given_back,
    settings::{self, SidecarSettings},
    termination::Message,
};

/// Time for one round of calls that renew, so that a gateway which stays away is told of now and then.
const RENEWAL_ROUND: Duration = Duration::from_mins(1);

/// Runs until a signal comes, or until it is clear that the pod may not start.
pub(crate) async fn run(
    arguments: &Arguments,
    seed: u64,
    narrator: &mut Narrator<'_>,
    signal: impl Future<Output = Signal>,
) -> End {
    arguments.tell_ignored(narrator);
    let settings = match settings::parse_sidecar(arguments, seed).and_then(without_old_sign) {
        Ok(settings) => settings,
        Err(faults) => return End::misconfigured(arguments.app(), &faults, narrator),
    };
    narrator.opening(&settings.asking, "asks, and keeps what it is given, as app");
    let mut sidecar = Sidecar::new(&settings, narrator);
    let mut signal = pin!(signal);
    let begun = tokio::select! {
        biased;
        signal = &mut signal => return sidecar.end(signal, narrator).await,
        begun = sidecar.begin(narrator) => begun,
    };
    let duty = match begun {
        Ok(duty) => duty,
        Err(end) => return end,
    };
    let signal = tokio::select! {
        biased;
        signal = &mut signal => signal,
        never = sidecar.keep(duty, narrator) => match never {},
    };
    sidecar.end(signal, narrator).await
}

/// Takes back what an earlier start said, which would else be taken for the word of this one.
fn without_old_sign(settings: SidecarSettings) -> Result<SidecarSettings, Vec<Fault>> {
    match settings.ready_file.as_ref().map(|file| (file, file.clear())) {
        Some((file, Err(error))) => {
            let path = file.path().display();
            let what = format!("the old sign in {path} can't be removed: {error}");
            Err(vec![Fault::new("--ready-file", what)])
        }
        Some((_, Ok(()))) | None => Ok(settings),
    }
}

struct Sidecar<'a> {
    settings: &'a SidecarSettings,
    schedule: RenewalSchedule,
    held: Held,
    sign: Option<Sign>,
}

/// What is to be given back.
enum Held {
    Nothing,
    /// A grant that an earlier start of this container wrote down, and that may still live.
    Recorded(Holding),
    /// The grant as it stands.
    Granted(Granted),
}

impl<'a> Sidecar<'a> {
    fn new(settings: &'a SidecarSettings, narrator: &mut Narrator<'_>) -> Self {
        let held = recorded(settings, narrator).map_or(Held::Nothing, Held::Recorded);
        Self { settings, schedule: RenewalSchedule::new(settings.seed), held, sign: None }
    }

    /// Asks until the pod may start.
    async fn begin(&mut self, narrator: &mut Narrator<'_>) -> Result<Duty, End> {
        let asking = &self.settings.asking;
        let news = match asking::ask(asking, narrator).await {
            Ok(granted) => {
                if let Err(reason) = asking::write_down(asking, &granted, narrator) {
                    return Err(self.unusable(reason));
                }
                self.hold(granted)
            }
            Err(error) => {
                if matches!(error, AuthorizeError::Denied(_)) {
                    self.lose(narrator);
                }
                let end = asking::without(&error, asking, narrator);
                if end.code != ExitCode::Granted {
                    return Err(end);
                }
                News::Silence
            }
        };
        self.give_sign(narrator).map_err(|reason| self.unusable(reason))?;
        asking.client.hang_up();
        Ok(self.next_duty(news, narrator))
    }

    /// Does one duty after the other.
    async fn keep(&mut self, mut duty: Duty, narrator: &mut Narrator<'_>) -> Infallible {
        loop {
            narrator.tell_news();
            let news = match duty {
                Duty::Renew { after } => {
                    sleep(after).await;
                    self.renew(narrator).await
                }
                Duty::Authorize { after } => {
                    sleep(after).await;
                    self.ask_again(narrator).await
                }
                Duty::Stop => std::future::pending().await,
            };
            // For minutes there is nothing to say: a connection is worth less than what it costs the gateway.
            self.settings.asking.client.hang_up();
            duty = self.next_duty(news, narrator);
        }
    }

    fn next_duty(&mut self, news: News, narrator: &mut Narrator<'_>) -> Duty {
        let duty = self.schedule.heard(news);
        match (news, duty) {
            (News::Silence, Duty::Renew { after }) => {
                narrator.say(&format!("the grant is not renewed yet; tries again in {}", spoken(after)));
            }
            (News::Silence | News::Denied | News::Unrenewed, Duty::Authorize { after }) => {
                narrator.say(&format!("asks again in {}", spoken(after)));
            }
            (_, Duty::Renew { .. } | Duty::Authorize { .. } | Duty::Stop) => {}
        }
        duty
    }

    async fn renew(&mut self, narrator: &mut Narrator<'_>) -> News {
        let Some(holding) = self.holding() else { return News::Gone };
        let client = &self.settings.asking.client;
        match client.renew(&holding, RENEWAL_ROUND, |step: Step| narrator.step(&step)).await {
            Ok(Renewal::Renewed(lease)) => self.renewed(lease, narrator),
            Ok(Renewal::Gone) => {
                let id = holding.grant_id;
                narrator.say(&format!("grant {id} is over: it ran out or was taken back; asks anew"));
                self.lose(narrator);
                News::Gone
            }
            Ok(Renewal::Superseded) => self.superseded(narrator),
            Err(error) => {
                narrator.say(&without_answer(&error, RENEWAL_ROUND));
                News::Silence
            }
        }
    }

    fn renewed(&mut self, lease: Lease, narrator: &mut Narrator<'_>) -> News {
        narrator.renewed(&lease);
        let news = news_of(Some(&lease));
        if let Held::Granted(granted) = &mut self.held {
            granted.lease = Some(lease);
            let asking = &self.settings.asking;
            if let Some(file) = &asking.grant_file
                && let Err(error) = file.write(&asking.ask, granted, narrator.now())
            {
                narrator.say(&format!("{} can't be written: {error}", file.path().display()));
            }
        }
        news
    }

    async fn ask_again(&mut self, narrator: &mut Narrator<'_>) -> News {
        let asking = &self.settings.asking;
        match asking::ask(asking, narrator).await {
            Ok(granted) => {
                // What can't be written is said; the pod has begun, and the grant holds all the same.
                let _ = asking::write_down(asking, &granted, narrator);
                let news = self.hold(granted);
                if let Err(reason) = self.give_sign(narrator) {
                    narrator.say(&reason);
                }
                news
            }
            Err(AuthorizeError::Denied(_)) => {
                self.lose(narrator);
                self.take_sign_back(narrator);
                News::Denied
            }
            Err(AuthorizeError::Failed(CallError::Superseded(_))) => self.superseded(narrator),
            Err(AuthorizeError::Failed(_)) => News::Silence,
        }
    }

    fn superseded(&mut self, narrator: &mut Narrator<'_>) -> News {
        narrator.say("another pod has this address now: this one asks for nothing more");
        self.lose(narrator);
        self.take_sign_back(narrator);
        News::Superseded
    }

    fn hold(&mut self, granted: Granted) -> News {
        let news = news_of(granted.lease.as_ref());
        self.held = Held::Granted(granted);
        news
    }

    /// Forgets the grant, and its file with it.
    fn lose(&mut self, narrator: &mut Narrator<'_>) {
        self.held = Held::Nothing;
        if let Some(file) = &self.settings.asking.grant_file
            && let Err(error) = file.remove()
        {
            narrator.say(&format!("the old grant in {} can't be removed: {error}", file.path().display()));
        }
    }

    fn holding(&self) -> Option<Holding> {
        match &self.held {
            Held::Nothing => None,
            Held::Recorded(holding) => Some(holding.clone()),
            Held::Granted(granted) => {
                granted.lease.as_ref().map(|lease| Holding::of(lease, &self.settings.asking.ask.subject))
            }
        }
    }

    fn give_sign(&mut self, narrator: &mut Narrator<'_>) -> Result<(), String> {
        let Some(file) = self.settings.ready_file.as_ref().filter(|_| self.sign.is_none()) else {
            return Ok(());
        };
        let path = file.path().display();
        let sign = file.give().map_err(|error| format!("{path} can't be written: {error}"))?;
        self.sign = Some(sign);
        narrator.say(&format!("the pod may start: {path} says so"));
        Ok(())
    }

    fn take_sign_back(&mut self, narrator: &mut Narrator<'_>) {
        let (Some(_), Some(file)) = (self.sign.take(), &self.settings.ready_file) else { return };
        if let Err(error) = file.clear() {
            narrator.say(&format!("{} can't be removed: {error}", file.path().display()));
        }
    }

    /// The end of a start whose files can't be written. Asking again costs nothing: the grant lives.
    fn unusable(&self, reason: String) -> End {
        let message = Message::new("misconfigured", reason, &self.settings.asking.ask.app, 0, Duration::ZERO);
        End { code: ExitCode::Misconfigured, message }
    }

    /// Gives back what is held. That is the good end of a sidecar, whatever comes of it: a lease runs out by itself.
    async fn end(mut self, signal: Signal, narrator: &mut Narrator<'_>) -> End {
        let started = Instant::now();
        narrator.tell_each_step();
        self.take_sign_back(narrator);
        let SidecarSettings { asking, release_wait, .. } = self.settings;
        let (result, reason) = match self.holding() {
            None => {
                let reason = format!("ended by {}, and holds nothing to give back", signal.name());
                narrator.say(&reason);
                ("ended_by_signal", reason)
            }
            Some(holding) => {
                narrator.say(&format!("ended by {}: gives grant {} back", signal.name(), holding.grant_id));
                let observe = |step: Step| narrator.step(&step);
                // Of any generation: what the policy has made of it meanwhile is to end as well.
                let holding = Holding { generation: 0, ..holding };
                match asking.client.release(&holding, *release_wait, observe).await {
                    Ok(release) => {
                        let file = asking.grant_file.as_ref();
                        ("released", given_back(&holding, release, file, narrator))
                    }
                    Err(error) => {
                        let why = without_answer(&error, *release_wait);
                        let reason = format!("grant {} is not given back: {why}", holding.grant_id);
                        narrator.say(&reason);
                        ("not_released", reason)
                    }
                }
            }
        };
        let message = Message::new(result, reason, &asking.ask.app, narrator.calls, started.elapsed());
        End { code: ExitCode::Granted, message }
    }
}

/// The grant that an earlier start of this container wrote down. What is of no use is removed.
fn recorded(settings: &SidecarSettings, narrator: &mut Narrator<'_>) -> Option<Holding> {
    let asking = &settings.asking;
    let file = asking.grant_file.as_ref()?;
    let path = file.path().display();
    let pod_uid = match &asking.ask.subject {
        Subject::Pod(pod) => pod.uid.as_str(),
        Subject::StaticHost(_) => "",
    };
    let why = match file.read() {
        Ok(None) => return None,
        Ok(Some(record)) if record.app == asking.ask.app && record.holding.pod_uid == pod_uid => {
            narrator.say(&format!("an earlier start was given grant {}", record.holding.grant_id));
            return Some(record.holding);
        }
        Ok(Some(_)) => "it is another's".to_owned(),
        Err(why) => why,
    };
    narrator.say(&format!("the grant in {path} is not used: {why}"));
    if let Err(error) = file.remove() {
        narrator.say(&format!("the old grant in {path} can't be removed: {error}"));
    }
    None
}

fn news_of(lease: Option<&Lease>) -> News {
    match lease.and_then(|lease| lease.renew_after) {
        Some(renew_after) => News::Leased { renew_after },
        None => News::Unrenewed,
    }
}

#[cfg(test)]
#[path = "sidecar_tests.rs"]
mod tests;
