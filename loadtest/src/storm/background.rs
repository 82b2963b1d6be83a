//! The background: other apps that ask steadily, each call as a new pod, before the storm and while it lasts.

use std::{cell::RefCell, net::Ipv4Addr, rc::Rc, time::Duration};

use podgate_client::RetryPolicy;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    cli::StormArgs,
    clock,
    seed::SplitMix64,
    storm::{
        StormError,
        background_tally::BackgroundTally,
        call_watch::NowByClock as _,
        documents,
        gateway::Gateway,
        pods::{Caller, Crew},
        population::Addresses,
        recovery,
    },
};

/// Time after which a call, with all that its client does for it, is given up.
const BUDGET: Duration = Duration::from_secs(5);
/// The shortest idle phase, and the fewest calls in it: below, there is no p99.
const IDLE_MIN: Duration = Duration::from_secs(3);
const IDLE_CALLS_MIN: f64 = 100.0;

/// Most calls that are there at once: those of twice the time that one may take, so that it takes a generator out of
/// breath to meet it. One more is not made, and counts as failed.
pub(crate) fn alive_max(args: &StormArgs) -> u32 {
    let (_, calls_per_s) = demand(args);
    (calls_per_s * 2.0 * BUDGET.as_secs_f64()).ceil() as u32
}

/// Apps, and calls a second of all of them.
fn demand(args: &StormArgs) -> (u32, f64) {
    let apps = args.background_apps.unwrap_or(0);
    (apps, f64::from(apps) * args.background_rate.per_s())
}

/// Time before the storm in which only the background calls.
pub(crate) fn idle_time(args: &StormArgs) -> Duration {
    let (_, calls_per_s) = demand(args);
    IDLE_MIN.max(Duration::from_secs_f64(IDLE_CALLS_MIN / calls_per_s.max(1.0)))
}

/// The background under way.
pub(crate) struct Background {
    pub(crate) tally: Rc<RefCell<BackgroundTally>>,
    stop: oneshot::Sender<()>,
    driver: JoinHandle<()>,
}

impl Background {
    /// Begins to call, if there is to be a background. To be called inside a `LocalRuntime`.
    pub(crate) fn start(args: &StormArgs, gateway: &Gateway) -> Result<Option<Self>, StormError> {
        let (apps, _) = demand(args);
        if apps == 0 {
            return Ok(None);
        }
        // Whatever the storm's pods do, these are well-behaved.
        let retry = RetryPolicy { budget: BUDGET, ..RetryPolicy::default() };
        let tally = Rc::new(RefCell::new(BackgroundTally::default()));
        let mut random = SplitMix64::new(args.seed, 3);
        let beats = Beats::new(apps, args.background_rate.per_s(), &mut random);
        let mut addresses = Addresses::new(args.seed);
        // The first are those of the storm's pods: a new pod on one would end the grant of the other.
        addresses.nth(args.arrivals().pods().get() as usize - 1);
        let driver = Driver {
            crew: Crew::new(args, gateway, retry)?,
            addresses,
            random,
            alive_max: alive_max(args) as usize,
            tally: Rc::clone(&tally),
        };
        let (stop, stopped) = oneshot::channel();
        let driver = tokio::task::spawn_local(driver.run(Instant::now_by_clock(), beats, stopped));
        Ok(Some(Self { tally, stop, driver }))
    }

    /// Waits, for at most as long after the end of the spike as is of interest, until it is served again as before.
    pub(crate) async fn recovered(&self, spike_end: Instant) {
        const LOOK: Duration = Duration::from_millis(50);
        let watched = spike_end + recovery::WATCHED;
        while Instant::now_by_clock() < watched && self.tally.borrow().recovery().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Makes no further call, and waits for the end of those that are under way.
    pub(crate) async fn stop(self) -> Result<Rc<RefCell<BackgroundTally>>, StormError> {
        // A driver that has ended already says why below.
        let _ = self.stop.send(());
        self.driver.await.map_err(|panic| StormError::Client(panic.to_string()))?;
        Ok(self.tally)
    }
}

/// Makes the calls when they are due, whatever became of those before.
struct Driver {
    crew: Crew,
    addresses: Addresses,
    random: SplitMix64,
    alive_max: usize,
    tally: Rc<RefCell<BackgroundTally>>,
}

impl Driver {
    async fn run(mut self, begin: Instant, beats: Beats, mut stopped: oneshot::Receiver<()>) {
        let mut calls = JoinSet::new();
        for beat in beats {
            let due = begin + beat.at;
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => {
                        while calls.join_next().await.is_some() {}
                        return;
                    }
                    () = tokio::time::sleep_until(due) => break,
                    // Kept no longer than they run. One that panicked has not been counted as granted.
                    Some(_) = calls.join_next() => {}
                }
            }
            self.tally.borrow_mut().begun(due, due.elapsed());
            match self.addresses.next() {
                Some(address) if calls.len() < self.alive_max => {
                    let caller = self.caller(beat.app, address);
                    calls.spawn_local(call(caller, due, Rc::clone(&self.tally)));
                }
                Some(_) | None => self.tally.borrow_mut().ended(due, Duration::ZERO, 0, None),
            }
        }
    }

    fn caller(&mut self, app: u32, address: Ipv4Addr) -> Caller {
        let (uid, seed) = (self.random.uuid(), self.random.next_u64());
        self.crew.caller(documents::background_app_name(app), uid, address, seed)
    }
}

/// One call, on a connection of its own, as a pod makes it.
async fn call(caller: Caller, due: Instant, tally: Rc<RefCell<BackgroundTally>>) {
    let ended = caller.client.authorize(&caller.ask, |_| {}).await;
    let took = Instant::from_std(clock::now()).saturating_duration_since(due);
    let mut tally = tally.borrow_mut();
    match ended {
        Ok(granted) => {
            let grant_id = granted.lease.map(|lease| lease.grant_id).unwrap_or_default();
            tally.ended(due, took, granted.calls, Some(grant_id));
        }
        Err(error) => tally.ended(due, took, error.calls(), None),
    }
}

/// When which app calls: each at even distances, one app's against another's by the seed; without an end.
struct Beats {
    /// When each app calls first, and which it is; by time.
    first: Vec<(Duration, u32)>,
    period: Duration,
    next: u64,
}

/// A call that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Beat {
    /// Since the first that could be.
    at: Duration,
    app: u32,
}

impl Beats {
    fn new(apps: u32, rate_per_s: f64, random: &mut SplitMix64) -> Self {
        let period = Duration::from_secs_f64(1.0 / rate_per_s);
        let period_ns = period.as_nanos() as u64;
        let mut first: Vec<_> =
            (0..apps).map(|app| (Duration::from_nanos(random.below(period_ns)), app)).collect();
        first.sort_unstable();
        Self { first, period, next: 0 }
    }
}

impl Iterator for Beats {
    type Item = Beat;

    fn next(&mut self) -> Option<Beat> {
        let apps = self.first.len() as u64;
        let (first, app) = *self.first.get((self.next % apps) as usize)?;
        let round = self.next / apps;
        self.next += 1;
        let since_first_ns = (self.period.as_nanos() as u64).saturating_mul(round);
        Some(Beat { at: first + Duration::from_nanos(since_first_ns), app })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_app_calls_evenly_and_in_order() {
        let draw = |seed| Beats::new(7, 10.0, &mut SplitMix64::new(seed, 3)).take(70).collect::<Vec<_>>();
        let beats = draw(1);
        assert!(beats.is_sorted_by_key(|beat| beat.at));
        assert!(beats.iter().all(|beat| beat.at < Duration::from_secs(1)));
        for app in 0..7 {
            let own: Vec<_> = beats.iter().filter(|beat| beat.app == app).map(|beat| beat.at).collect();
            assert_eq!(own.len(), 10);
            assert!(own.windows(2).all(|two| two[1] == two[0] + Duration::from_millis(100)), "{own:?}");
        }
        assert_eq!(beats, draw(1));
        assert_ne!(beats, draw(2));
    }

    #[test]
    fn the_idle_phase_has_a_hundred_calls() {
        for (line, idle_s, alive) in [
            ("--background-apps 10", 3, 1000),
            ("--background-apps 2 --background-rate 5", 10, 100),
            ("--background-apps 1 --background-rate 1", 100, 10),
            ("", 100, 0),
        ] {
            let args = StormArgs::of(line);
            assert_eq!((idle_time(&args).as_secs(), alive_max(&args)), (idle_s, alive), "{line}");
        }
    }
}
