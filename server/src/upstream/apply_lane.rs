//! The lane of applies: what callers asked for goes first, then the replay, then a sign of life.

use std::{sync::Arc, time::Duration};

use podgate_engine::grant::{Grant, GrantId};
use rand::RngExt as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tower::retry::budget::{Budget as _, TpsBudget};
use tracing::{debug, info, warn};

use crate::{
    clock,
    config::Upstream as Settings,
    store::Ends,
    upstream::{
        Intake, UpstreamError,
        applies::{Applies, Settled},
        backend::{Answer, Backend, Fault},
        backoff::Backoff,
        breaker::{Breaker, Phase},
        measures::Measures,
        replay::Replay,
    },
};

/// How long the upstream may hear nothing before it is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Most times that a grant is sent again before it is left to the replay.
const ATTEMPTS_MAX: u32 = 5;
const BACKOFF: Backoff = Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(2) };
/// Retries: one call in five over ten seconds, and one a second on top.
const RETRIES_OVER: Duration = Duration::from_secs(10);
const RETRIES_SHARE: f32 = 0.2;
const RETRIES_PER_SECOND: u32 = 1;

/// The lane.
#[derive(Debug)]
pub(crate) struct ApplyLane {
    intake: Arc<Intake>,
    backend: Backend,
    ends: Ends,
    measures: Arc<Measures>,
    concurrency: usize,
    batch_max: usize,
    calls: JoinSet<Called>,
    /// Whether a call of the replay is in flight: there is at most one.
    replaying: bool,
    breaker: Breaker,
    budget: TpsBudget,
    replay: Replay,
    /// The upstream's epoch, as far as one is known.
    epoch: Option<String>,
    last_heard: Instant,
}

/// A call that has ended.
#[derive(Debug)]
struct Called {
    batch: Vec<Arc<Grant>>,
    kind: Kind,
    outcome: Result<Answer, Fault>,
}

/// Why a call was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Somebody asked for its grants.
    Asked,
    /// Nobody did.
    Replay,
    /// To see whether the upstream is there.
    Probe,
}

impl ApplyLane {
    pub(crate) fn new(
        intake: Arc<Intake>,
        backend: Backend,
        ends: Ends,
        settings: &Settings,
        measures: Arc<Measures>,
    ) -> Self {
        let now = Instant::now();
        Self {
            intake,
            backend,
            ends,
            measures,
            concurrency: settings.concurrency,
            batch_max: settings.batch,
            calls: JoinSet::new(),
            replaying: false,
            breaker: Breaker::new(now),
            budget: TpsBudget::new(RETRIES_OVER, RETRIES_PER_SECOND, RETRIES_SHARE),
            replay: Replay::new(now),
            epoch: None,
            last_heard: now,
        }
    }

    /// Works for ever.
    pub(crate) async fn run(mut self) {
        let intake = Arc::clone(&self.intake);
        loop {
            let look_again = self.start_calls(Instant::now());
            tokio::select! {
                () = intake.handed_in() => {}
                Some(called) = self.calls.join_next() => match called {
                    Ok(called) => self.settle(called, Instant::now()),
                    Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
                    // Nobody cancels calls while the lane works.
                    Err(_) => {}
                },
                () = sleep_until(look_again) => {}
            }
        }
    }

    /// Starts the calls for which there is room and reason; tells when to look again at the latest.
    fn start_calls(&mut self, now: Instant) -> Instant {
        if self.breaker.half_open(now) {
            self.publish_phase("");
            self.backend.dial_anew();
            self.start(Kind::Probe, Vec::new());
        }
        if self.breaker.phase() != Phase::Closed {
            return self.breaker.rests_until().unwrap_or(now + SILENCE_MAX);
        }
        if self.intake.take_left_behind() {
            self.replay.leave_behind(now);
        }
        while self.calls.len() < self.concurrency {
            let Some((kind, batch)) = self.next_batch(now) else { break };
            self.start(kind, batch);
        }
        if self.calls.is_empty() && self.last_heard + SILENCE_MAX <= now {
            self.start(Kind::Probe, Vec::new());
        }
        if self.calls.len() >= self.concurrency {
            // A call that ends makes room, and is seen at once.
            return now + SILENCE_MAX;
        }
        let sign_of_life = self.calls.is_empty().then_some(self.last_heard + SILENCE_MAX);
        let replay = (!self.replaying).then(|| self.replay.next_at());
        let again = self.intake.applies().next_at();
        [again, replay, sign_of_life].into_iter().flatten().min().unwrap_or(now + SILENCE_MAX)
    }

    fn next_batch(&mut self, now: Instant) -> Option<(Kind, Vec<Arc<Grant>>)> {
        let wall = clock::wall();
        let grants = &self.ends.grants;
        let find = |id| grants.get(id).filter(|grant| grant.lives(wall));
        let asked = self.intake.applies().take(now, find);
        if !asked.is_empty() {
            return Some((Kind::Asked, asked));
        }
        if self.replaying {
            return None;
        }
        let intake = &self.intake;
        let mut applies = intake.applies();
        let is_behind = |grant: &Grant| !intake.is_applied(grant) && !applies.is_known(grant.id);
        let batch = self.replay.take(grants, self.batch_max, (now, wall), is_behind);
        if batch.is_empty() {
            return None;
        }
        applies.take_unasked(&batch);
        drop(applies);
        self.replaying = true;
        Some((Kind::Replay, batch))
    }

    fn start(&mut self, kind: Kind, batch: Vec<Arc<Grant>>) {
        let backend = self.backend.clone();
        self.calls.spawn(async move {
            let outcome = backend.apply(&batch).await;
            Called { batch, kind, outcome }
        });
    }

    fn settle(&mut self, called: Called, now: Instant) {
        let Called { batch, kind, outcome } = called;
        self.last_heard = now;
        if kind == Kind::Replay {
            self.replaying = false;
        }
        let reason = match outcome {
            Ok(answer) => {
                self.breaker.answered();
                self.budget.deposit();
                self.note_epoch(answer.epoch, now);
                self.settle_answered(&batch, &answer.failures, now);
                String::new()
            }
            Err(fault) => {
                match &fault {
                    Fault::Absent(_) | Fault::Broken(_) => {
                        self.breaker.failed(now, rand::rng().random_range(0.0..=1.0));
                    }
                    Fault::Refused(_) => self.breaker.answered(),
                }
                debug!(reason = fault.reason(), grants = batch.len(), "a call of the upstream failed");
                self.settle_failed(&batch, &fault, now);
                fault.reason().to_owned()
            }
        };
        self.publish_phase(&reason);
        // An end may have waited for one of these.
        self.ends.tombstones.ring();
    }

    fn settle_answered(
        &mut self,
        batch: &[Arc<Grant>],
        failures: &rustc_hash::FxHashMap<GrantId, Fault>,
        now: Instant,
    ) {
        // Failures of one answer are one retry, since they are sent again together.
        let is_worth_it = failures.values().any(|fault| !matches!(fault, Fault::Refused(_)));
        let may_retry = is_worth_it && self.budget.withdraw();
        let intake = Arc::clone(&self.intake);
        let mut applies = intake.applies();
        for grant in batch {
            match failures.get(&grant.id) {
                None => {
                    intake.note_applied(grant.id, grant.generation);
                    self.measures.in_force.increment(1);
                    applies.settle(grant.id, grant.generation, Settled::InForce);
                }
                Some(fault) => {
                    warn!(grant = %grant.id, reason = fault.reason(), "the upstream did not apply a grant");
                    self.retry_alone(&mut applies, grant, fault, may_retry.then_some(now), now);
                }
            }
        }
    }

    fn settle_failed(&mut self, batch: &[Arc<Grant>], fault: &Fault, now: Instant) {
        let intake = Arc::clone(&self.intake);
        let mut applies = intake.applies();
        match (fault, batch) {
            // One of them may be to blame: halves find out which one. There are no more of these than grants.
            (Fault::Broken(_) | Fault::Refused(_), [_, _, ..]) => {
                let at = now + BACKOFF.wait(0);
                for grant in batch {
                    self.measures.again.increment(1);
                    let batch_max = batch.len().div_ceil(2);
                    applies.settle(grant.id, grant.generation, Settled::Halved { at, batch_max });
                }
            }
            (Fault::Absent(_) | Fault::Broken(_) | Fault::Refused(_), _) => {
                let may_retry = !batch.is_empty() && self.budget.withdraw();
                for grant in batch {
                    self.retry_alone(&mut applies, grant, fault, may_retry.then_some(now), now);
                }
            }
        }
    }

    /// Has a grant sent again, if it is worth it and `retry_from` says that it may be; else gives it up.
    fn retry_alone(
        &mut self,
        applies: &mut Applies,
        grant: &Grant,
        fault: &Fault,
        retry_from: Option<Instant>,
        now: Instant,
    ) {
        let attempts = applies.attempts(grant.id);
        let settled = match (fault, retry_from) {
            (Fault::Refused(reason), _) => {
                self.measures.refused.increment(1);
                Settled::GivenUp(UpstreamError::Refused(reason.clone()))
            }
            (Fault::Absent(_) | Fault::Broken(_), Some(from)) if attempts < ATTEMPTS_MAX => {
                self.measures.again.increment(1);
                Settled::Again { at: from + BACKOFF.wait(attempts) }
            }
            (Fault::Absent(_) | Fault::Broken(_), _) => {
                self.measures.given_up.increment(1);
                self.replay.leave_behind(now);
                Settled::GivenUp(UpstreamError::Unavailable)
            }
        };
        applies.settle(grant.id, grant.generation, settled);
    }

    /// Another epoch: the upstream has lost what it held, and is told everything again.
    fn note_epoch(&mut self, told: String, now: Instant) {
        if self.epoch.as_ref().is_some_and(|known| *known != told) {
            info!("the upstream has lost what it held; every living grant is applied again");
            self.intake.forget_applied();
            self.replay = Replay::new(now);
        }
        self.epoch = Some(told);
    }

    fn publish_phase(&self, reason: &str) {
        let phase = self.breaker.phase();
        if self.intake.breaker_phase() != phase as u8 {
            match phase {
                Phase::Open => warn!(reason, "the upstream fails; it is given a rest"),
                Phase::HalfOpen => debug!("asking whether the upstream is back"),
                Phase::Closed => info!("the upstream is back"),
            }
        }
        self.intake.set_breaker_phase(phase);
    }
}
