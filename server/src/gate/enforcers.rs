//! Who watches, what is in force where they are, and waiting for it: the barrier.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use podgate_engine::{grant::Grant, guard::Guards, time::Moment};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::{clock, gate::Refusal, store::Revision};

/// Most watchers at once, with enforcers that are expected back: one on each machine of a large cluster.
pub const WATCHERS_MAX: usize = 1_024;
/// Steps of watches that are made at once: a thousand snapshots must not keep pods waiting.
const STEPS_AT_ONCE: usize = 2;

/// All watchers.
#[derive(Debug)]
pub struct Enforcers {
    known: Mutex<Known>,
    steps: Semaphore,
    /// For how long one that is gone is expected back.
    grace: Duration,
    /// Since when there may be enforcers that have not come back yet.
    started_at: Moment,
    draining: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Known {
    next: u64,
    watchers: BTreeMap<u64, Arc<Enforcer>>,
}

/// One watcher.
#[derive(Debug)]
struct Enforcer {
    /// Empty for one that only looks on: nobody waits for it.
    name: Box<str>,
    guards: Guards,
    standing: watch::Sender<Standing>,
}

/// How a watcher stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    presence: Presence,
    /// What it has been told.
    reached: Revision,
    /// What is in force where it is.
    in_force: Revision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// It watches.
    Here,
    /// Its watch ended then; it is expected back.
    Gone(Moment),
    /// It has ended, or come back under another number, or was expected for too long.
    Over,
}

/// A watcher's place among all; given up when it is dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<Enforcers>,
    number: u64,
    enforcer: Arc<Enforcer>,
}

/// For whom a barrier waits.
enum Awaited {
    Nobody,
    /// For whoever may come back after the gateway's start, for so long.
    Strangers(Duration),
    /// For these.
    These(Vec<Arc<Enforcer>>),
}

impl Enforcers {
    /// None yet. One that is gone is expected back for `grace`; at the start of the gateway, all are.
    pub fn new(grace: Duration, now: Moment) -> Self {
        Self {
            known: Mutex::default(),
            steps: Semaphore::new(STEPS_AT_ONCE),
            grace,
            started_at: now,
            draining: watch::Sender::new(false),
        }
    }

    /// Takes a watcher in, in place of one of its name that is expected back.
    pub fn take_in(
        self: &Arc<Self>,
        name: Box<str>,
        guards: Guards,
        in_force: Revision,
    ) -> Result<Place, Refusal> {
        if *self.draining.borrow() {
            return Err(Refusal::Draining);
        }
        let mut known = self.known();
        known.forget(|enforcer, presence| {
            !name.is_empty() && enforcer.name == name && matches!(presence, Presence::Gone(_))
        });
        if known.watchers.len() >= WATCHERS_MAX {
            return Err(Refusal::TooManyWatchers);
        }
        let standing = Standing { presence: Presence::Here, reached: in_force, in_force };
        let enforcer = Arc::new(Enforcer { name, guards, standing: watch::Sender::new(standing) });
        known.next += 1;
        let number = known.next;
        known.watchers.insert(number, Arc::clone(&enforcer));
        Ok(Place { all: Arc::clone(self), number, enforcer })
    }

    /// Forgets whoever has been expected back for too long.
    pub fn sweep(&self, now: Moment) {
        self.known().forget(
            |_, presence| matches!(presence, Presence::Gone(since) if now.since(since) >= self.grace),
        );
    }

    /// How many watch, and by how many changes the last of them is behind `head`.
    pub fn usage(&self, head: Revision) -> (usize, u64) {
        let known = self.known();
        let here = known.watchers.values().map(|enforcer| *enforcer.standing.borrow());
        let here = here.filter(|standing| standing.presence == Presence::Here);
        let behind = here.map(|standing| head.0.saturating_sub(standing.reached.0));
        behind.fold((0, 0), |(count, most), behind| (count + 1, most.max(behind)))
    }

    /// Waits for a turn to make a step.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.steps.acquire().await.ok()
    }

    /// Ends all watches, and takes no more in.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until all watches are to end.
    pub async fn drained(&self) {
        // It cannot be closed: it is ours.
        drop(self.draining.subscribe().wait_for(|draining| *draining).await);
    }

    /// Waits until `revision` is in force with every enforcer that guards some of what `grant` allows.
    pub async fn in_force(&self, grant: &Grant, revision: Revision) {
        loop {
            match self.awaited(grant, revision, clock::now()) {
                Awaited::Nobody => return,
                Awaited::Strangers(left) => tokio::time::sleep(left).await,
                Awaited::These(enforcers) => {
                    for enforcer in enforcers {
                        enforcer.until(revision).await;
                    }
                }
            }
        }
    }

    fn awaited(&self, grant: &Grant, revision: Revision, now: Moment) -> Awaited {
        let known: Vec<_> = self.known().watchers.values().map(Arc::clone).collect();
        let behind = known.into_iter().filter(|enforcer| {
            !enforcer.name.is_empty()
                && enforcer.standing.borrow().is_behind(revision)
                && enforcer.guards.concern(grant)
        });
        let behind: Vec<_> = behind.collect();
        if !behind.is_empty() {
            return Awaited::These(behind);
        }
        match self.grace.saturating_sub(now.since(self.started_at)) {
            Duration::ZERO => Awaited::Nobody,
            left => Awaited::Strangers(left),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets those that are `over`; whoever waits for them looks again.
    fn forget(&mut self, over: impl Fn(&Enforcer, Presence) -> bool) {
        self.watchers.retain(|_, enforcer| {
            let presence = enforcer.standing.borrow().presence;
            let is_over = over(enforcer, presence);
            if is_over {
                enforcer.set(Presence::Over);
            }
            !is_over
        });
    }
}

impl Enforcer {
    fn set(&self, presence: Presence) {
        self.standing.send_modify(|standing| standing.presence = presence);
    }

    /// Waits until `revision` is in force there, or nobody has to wait for it any more.
    async fn until(&self, revision: Revision) {
        // It cannot be closed: it is ours.
        drop(self.standing.subscribe().wait_for(|standing| !standing.is_behind(revision)).await);
    }
}

impl Standing {
    fn is_behind(&self, revision: Revision) -> bool {
        self.presence != Presence::Over && self.in_force < revision
    }
}

impl Place {
    /// Whether it is an enforcer, for which others wait.
    pub fn is_waited_for(&self) -> bool {
        !self.enforcer.name.is_empty()
    }

    /// Notes how far the watcher has come.
    pub fn note(&self, reached: Revision, in_force: Revision) {
        self.enforcer.standing.send_if_modified(|standing| {
            let is_news = standing.in_force != in_force;
            (standing.reached, standing.in_force) = (reached, in_force);
            is_news
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.all.known();
        if self.is_waited_for() && !self.all.grace.is_zero() {
            self.enforcer.set(Presence::Gone(clock::now()));
        } else {
            known.watchers.remove(&self.number);
            self.enforcer.set(Presence::Over);
        }
    }
}

#[cfg(test)]
mod tests {
    use podgate_engine::grant::GrantId;

    use super::*;
    use crate::store::samples;

    const DB: &str = "db.shop.svc:3306";

    fn guards(of: &str) -> Guards {
        Guards::new(None, [of.parse().unwrap()])
    }

    fn grant() -> Grant {
        samples::grant(GrantId(1), 1, [DB])
    }

    fn enforcers(grace: Duration) -> Arc<Enforcers> {
        // Started so long ago that nobody is on the way back.
        Arc::new(Enforcers::new(grace, clock::now().offset(-3_600_000_000_000)))
    }

    fn is_open(enforcers: &Enforcers, now: Moment) -> bool {
        matches!(enforcers.awaited(&grant(), Revision(7), now), Awaited::Nobody)
    }

    #[test]
    fn who_guards_a_destination_is_waited_for() {
        let (enforcers, now) = (enforcers(Duration::ZERO), clock::now());
        let take_in = |name: &str, of| enforcers.take_in(name.into(), guards(of), Revision(6)).unwrap();
        let _other = take_in("other", "other.shop.svc:3306");
        let _looks_on = take_in("", DB);
        assert!(is_open(&enforcers, now));
        let (one, two) = (take_in("one", DB), take_in("two", DB));
        assert!(!is_open(&enforcers, now));
        one.note(Revision(8), Revision(8));
        assert!(!is_open(&enforcers, now));
        two.note(Revision(8), Revision(7));
        assert!(is_open(&enforcers, now));
        assert_eq!(enforcers.usage(Revision(10)), (4, 4));
    }

    #[test]
    fn one_that_is_gone_is_expected_back_for_a_while() {
        const GRACE: Duration = Duration::from_secs(30);
        let enforcers = enforcers(GRACE);
        let take_in = |in_force| enforcers.take_in("db".into(), guards(DB), Revision(in_force)).unwrap();
        drop(take_in(6));
        let now = clock::now();
        enforcers.sweep(now);
        assert!(!is_open(&enforcers, now));
        // It comes back with its token, and has to catch up.
        let back = take_in(6);
        assert_eq!(enforcers.known().watchers.len(), 1);
        assert!(!is_open(&enforcers, now));
        back.note(Revision(7), Revision(7));
        assert!(is_open(&enforcers, now));
        drop(back);
        // One that had it in force has it still.
        assert!(is_open(&enforcers, now));
        drop(take_in(0));
        assert!(!is_open(&enforcers, now));
        enforcers.sweep(clock::now().offset(GRACE.as_nanos() as i64));
        assert!(is_open(&enforcers, now));
        assert!(enforcers.known().watchers.is_empty());
    }

    #[test]
    fn after_a_start_all_are_expected_back() {
        const GRACE: Duration = Duration::from_secs(30);
        let (now, later) = (clock::now(), clock::now().offset(31_000_000_000));
        let enforcers = Arc::new(Enforcers::new(GRACE, now));
        assert!(matches!(enforcers.awaited(&grant(), Revision(7), now), Awaited::Strangers(GRACE)));
        assert!(is_open(&enforcers, later));
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_last_one_has_acknowledged() {
        let enforcers = enforcers(Duration::from_secs(30));
        let take_in = |name: &str| enforcers.take_in(name.into(), guards(DB), Revision(6)).unwrap();
        let (one, two) = (take_in("one"), take_in("two"));
        let waiting = tokio::spawn({
            let enforcers = Arc::clone(&enforcers);
            async move { enforcers.in_force(&grant(), Revision(7)).await }
        });
        tokio::task::yield_now().await;
        one.note(Revision(7), Revision(7));
        drop(two);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let two = take_in("two");
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        two.note(Revision(7), Revision(7));
        waiting.await.unwrap();
    }

    #[test]
    fn watchers_are_bounded_with_those_that_are_expected_back() {
        let enforcers = enforcers(Duration::from_secs(30));
        let take_in = |name: String| enforcers.take_in(name.into(), guards(DB), Revision(0));
        let mut places: Vec<_> =
            (0..WATCHERS_MAX).map(|number| take_in(format!("e{number}")).unwrap()).collect();
        assert!(matches!(take_in("one more".into()), Err(Refusal::TooManyWatchers)));
        drop(places.pop());
        assert!(matches!(take_in("one more".into()), Err(Refusal::TooManyWatchers)));
        places.push(take_in(format!("e{}", WATCHERS_MAX - 1)).unwrap());
        enforcers.drain();
        assert!(matches!(take_in("late".into()), Err(Refusal::Draining)));
    }
}
