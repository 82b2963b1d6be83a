//! The loop: what the gateway tells is put in force, and then acknowledged; what is there is looked at again and again.

use std::{io, num::NonZeroU32, time::Duration};

use podgate_client::{Appointments, Next, Pace, RetryPolicy, Schedule, Setback};
use podgate_engine::time::WallTime;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tracing::{error, info, warn};

use crate::{
    books::{Books, Completeness, Step},
    clock,
    gateway::{Gateway, Message, Start, Watch, WatchEnd},
    kernel::{Kernel, KernelError},
    log::causes,
};

/// A gateway that is away, or a firewall that cannot be changed: asked again after a while, for ever.
const PACE: RetryPolicy = RetryPolicy {
    pace: Pace::FullJitter { base: Duration::from_secs(1), cap: Duration::from_secs(30) },
    appointments: Appointments::Keep,
    attempts_max: None,
    calls_max: NonZeroU32::MAX,
    budget: Duration::MAX,
};
/// Longest wait that the gateway may order.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// The agent.
#[derive(Debug)]
pub(crate) struct Agent {
    gateway: Gateway,
    kernel: Kernel,
    books: Books,
    /// Where to go on; empty where the next watch begins with a snapshot.
    resume_token: Vec<u8>,
    revision: u64,
    /// As it was logged last.
    completeness: Completeness,
    looks: Looks,
}

/// When the sets are to be looked into.
#[derive(Debug)]
struct Looks {
    interval: Interval,
    hangup: Signal,
}

impl Looks {
    fn every(period: Duration) -> io::Result<Self> {
        let mut interval = interval_at(Instant::now() + period, period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { interval, hangup: signal(SignalKind::hangup())? })
    }

    /// Waits until it is time, or somebody says so.
    async fn due(&mut self) {
        tokio::select! {
            _ = self.interval.tick() => {}
            _ = self.hangup.recv() => info!("HUP: looking into the sets"),
        }
    }
}

/// Why the agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// The firewall cannot be changed.
    #[error("the firewall cannot be used; CAP_NET_ADMIN is needed, and nftables and conntrack")]
    Kernel(#[from] KernelError),
    /// The system delivers no signals.
    #[error("no signals are delivered")]
    Signals(#[from] io::Error),
}

/// Why `--once` has not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OnceError {
    /// The gateway does not tell what is granted.
    #[error("nothing is in force anew")]
    Watch(#[from] WatchEnd),
    /// The firewall is not as it should be.
    #[error("the firewall cannot be changed")]
    Kernel(#[from] KernelError),
    /// There is no room for everything.
    #[error("what is granted does not fit: {0:?}")]
    Incomplete(Completeness),
}

impl Agent {
    /// Makes the sets and looks into them; nothing is changed before the gateway has spoken.
    pub(crate) async fn begin(
        gateway: Gateway,
        kernel: Kernel,
        books: Books,
        audit_every: Duration,
    ) -> Result<Self, BeginError> {
        let looks = Looks::every(audit_every)?;
        let completeness = books.completeness();
        let resume_token = Vec::new();
        let mut agent = Self { gateway, kernel, books, resume_token, revision: 0, completeness, looks };
        agent.look().await?;
        info!(elements = agent.books.elements(), "the sets are there");
        Ok(agent)
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) -> ! {
        let mut pace = Schedule::new(PACE, rand::random());
        let mut away_since = Instant::now();
        loop {
            let heard = self.revision;
            let end = self.follow().await;
            if self.revision != heard {
                (pace, away_since) = (Schedule::new(PACE, rand::random()), Instant::now());
            }
            match end.start() {
                Start::Resume => {}
                Start::Snapshot => self.resume_token.clear(),
            }
            let after = wait(&mut pace, end.setback(), away_since);
            let elements = self.books.elements();
            warn!(reason = %causes(&end), ?after, elements, "no watch: what is open stays open until its time is over");
            self.rest_until(Instant::now() + after).await;
        }
    }

    /// Takes one snapshot, and puts it in force.
    pub(crate) async fn once(mut self) -> Result<(), OnceError> {
        let mut watch = self.gateway.watch(Vec::new()).await?;
        while self.books.completeness() == Completeness::Unknown {
            for message in watch.next(&self.gateway.guards).await? {
                self.books.take(message.step).map_err(WatchEnd::from)?;
            }
        }
        self.settle().await?;
        match self.books.completeness() {
            Completeness::Whole => {
                info!(grants = self.books.grants(), elements = self.books.elements(), "in force");
                Ok(())
            }
            other => Err(OnceError::Incomplete(other)),
        }
    }

    /// Watches until that ends.
    async fn follow(&mut self) -> WatchEnd {
        let resume_token = self.resume_token.clone();
        let mut watch = match self.gateway.watch(resume_token).await {
            Ok(watch) => watch,
            Err(end) => return end,
        };
        self.books.watch_begins();
        info!(gateway = %self.gateway.endpoint, resumes = !self.resume_token.is_empty(), "watching");
        loop {
            let told = tokio::select! {
                told = watch.next(&self.gateway.guards) => told,
                () = self.looks.due() => {
                    self.look_after().await;
                    continue;
                }
            };
            let taken = match told {
                Ok(told) => self.take(told, &watch).await,
                Err(end) => Err(end),
            };
            if let Err(end) = taken {
                return end;
            }
        }
    }

    /// Puts steps in force, and acknowledges them.
    async fn take(&mut self, told: Vec<Message>, watch: &Watch) -> Result<(), WatchEnd> {
        let mut last = None;
        for Message { step, resume_token, revision } in told {
            match step {
                // Nothing of a snapshot is in force before its end.
                Step::Snapshot(_) => {}
                Step::SnapshotEnd(_) | Step::Delta(_) | Step::Heartbeat => last = Some(resume_token),
            }
            self.books.take(step)?;
            self.revision = revision;
        }
        self.enforce().await;
        self.tell_completeness();
        match (self.completeness, last) {
            (Completeness::Whole, Some(token)) if !token.is_empty() => {
                self.resume_token.clone_from(&token);
                watch.acknowledge(token).await
            }
            (Completeness::Whole | Completeness::Unknown, _) => Ok(()),
            (Completeness::GrantsLost, _) if self.books.has_places_again() => Err(WatchEnd::RoomAgain),
            (Completeness::NoRoom { .. } | Completeness::GrantsLost, _) => {
                // Going on from here would say that everything up to here is in force.
                self.resume_token.clear();
                Ok(())
            }
        }
    }

    /// Waits, and looks after the sets meanwhile.
    async fn rest_until(&mut self, end: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(end) => return,
                () = self.looks.due() => self.look_after().await,
            }
        }
    }

    /// Closes what has ended by itself, and puts right what is not as it should be.
    async fn look_after(&mut self) {
        self.books.touch_ended(clock::wall());
        self.enforce().await;
        match self.look().await {
            Ok(()) => {
                let changed = self.enforce().await;
                if changed > 0 {
                    warn!(changed, "the sets were not as they should be: somebody else changes them");
                }
            }
            Err(failure) => error!(reason = %causes(&failure), "the sets cannot be looked into"),
        }
        self.tell_completeness();
        let (grants, elements) = (self.books.grants(), self.books.elements());
        info!(grants, elements, revision = self.revision, "in force");
    }

    /// Lists what is in force.
    async fn look(&mut self) -> Result<(), KernelError> {
        self.kernel.prepare().await?;
        let (begun, now) = (Instant::now(), clock::wall());
        let listed = self.kernel.list(now).await?;
        self.books.found(listed, begun.elapsed());
        Ok(())
    }

    /// Puts in force what should be, and tries until it is. Says how many elements that changed.
    async fn enforce(&mut self) -> usize {
        let mut pace = Schedule::new(PACE, rand::random());
        let begun = Instant::now();
        loop {
            let failure = match self.settle().await {
                Ok(changed) => return changed,
                Err(failure) => failure,
            };
            let after = wait(&mut pace, Setback::Silent, begun);
            error!(reason = %causes(&failure), ?after, "what is granted is not in force; trying again");
            sleep(after).await;
            if let Err(failure) = self.look().await {
                error!(reason = %causes(&failure), "the sets cannot be looked into");
            }
        }
    }

    /// Makes the changes that are due, and closes the connections that they leave behind.
    async fn settle(&mut self) -> Result<usize, KernelError> {
        let mut changed = 0;
        loop {
            let now: WallTime = clock::wall();
            let change = self.books.plan(now);
            if change.is_empty() {
                break;
            }
            changed += change.len();
            match self.kernel.apply(&change, now).await {
                Ok(()) => self.books.done(change),
                Err(failure) => {
                    self.books.undone(change);
                    return Err(failure);
                }
            }
        }
        self.kernel.close(&self.books.to_close()).await?;
        self.books.closed();
        Ok(changed)
    }

    fn tell_completeness(&mut self) {
        let now = self.books.completeness();
        if now == self.completeness {
            return;
        }
        match now {
            Completeness::Whole => {
                let (grants, elements) = (self.books.grants(), self.books.elements());
                info!(grants, elements, revision = self.revision, "all that is granted is in force");
            }
            Completeness::Unknown => {}
            Completeness::NoRoom { addresses } => {
                error!(
                    addresses,
                    "a set is full: these addresses stay out, and nothing is acknowledged; raise --set-size"
                );
            }
            Completeness::GrantsLost => {
                error!(
                    grants = self.books.grants(),
                    "too many grants: some stay out, and nothing is acknowledged"
                );
            }
        }
        self.completeness = now;
    }
}

fn wait(pace: &mut Schedule, setback: Setback, since: Instant) -> Duration {
    match pace.failed(setback, since.elapsed()) {
        Next::Call { after, .. } => after.min(WAIT_MAX),
        // After four thousand million attempts, or where the gateway orders a wait without end.
        Next::GiveUp(_) => WAIT_MAX,
    }
}
