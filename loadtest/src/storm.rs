//! `storm`: N virtual pods of A apps that arrive within S, or more than can be admitted for a time, on real sockets, with
//! the real client library.

mod apply;
mod background;
mod background_tally;
mod bookings;
mod call_watch;
pub(crate) mod capacity;
mod crowd;
pub(crate) mod documents;
mod gateway;
mod ledger;
pub mod optimum;
mod pods;
pub mod population;
mod progress;
mod recovery;
pub mod report;
pub(crate) mod tally;
mod weather;

use std::{cell::RefCell, io, num::NonZeroU32, rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::{
    affinity::{self, Cores},
    child::ChildError,
    cli::{Arrivals, Pin, StormArgs},
    clock, console,
    cpu_quota::CpuQuotaError,
    descriptors::{self, TooFewDescriptors},
    storm::{
        background::Background,
        capacity::Capacity,
        crowd::Crowd,
        gateway::Gateway,
        optimum::{Demand, optimum_s},
        pods::Crew,
        population::VirtualPod,
        report::{Killed, Measured, StormReport},
        tally::Tally,
        weather::Weather,
    },
    timeline::Timeline,
};

/// Why a storm could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// The pods don't fit.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// An overload of more pods than the load tester keeps in mind.
    #[error(
        "{0} pods are too many, at most {PODS_MAX} can be made: ask for a shorter --duration, or a smaller --capacity"
    )]
    TooManyPods(NonZeroU32),
    /// The gateway child could not be started, or died.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The gateway child's CPU time cannot be bounded.
    #[error(transparent)]
    CpuQuota(#[from] CpuQuotaError),
    /// A file or process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The client library refuses its settings or the request.
    #[error("the client cannot be set up: {0}")]
    Client(String),
    /// A call beside the storm failed (apply, list).
    #[error("{what} failed: {status}")]
    Call {
        /// Which call.
        what: String,
        /// How.
        status: Box<tonic::Status>,
    },
    /// The gateway given by `--endpoint` is not there.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
}

impl StormError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// What came of a storm.
#[derive(Debug)]
pub struct Storm {
    /// The figures.
    pub report: StormReport,
    /// What happened when.
    pub timeline: Timeline,
}

/// Most pods of one run: about 100 bytes each, before they arrive.
const PODS_MAX: u32 = 1_000_000;
/// Between the making of the pods and the first possible arrival.
const START_DELAY: Duration = Duration::from_millis(200);

/// Makes a storm and reports how it went. To be called on the main thread, inside a `LocalRuntime`.
pub async fn run(args: &StormArgs) -> Result<Storm, StormError> {
    let alive_max = room(args)?;
    let cores = cores(args)?;
    // To the end: the generator keeps to its core.
    let _stay = cores
        .map(|cores| affinity::stay_on(&cores.generator))
        .transpose()
        .map_err(StormError::io(PINNING))?;
    let mut gateway = Gateway::open(args, cores.map(|cores| cores.server)).await?;
    let arrivals = args.arrivals();
    let pods = population::population(arrivals.pods(), args.apps, arrivals.spread(), args.seed);
    let demands = demands(args, &pods);
    let background = Background::start(args, &gateway)?;
    if background.is_some() {
        idle(args, &mut gateway).await?;
    }

    gateway.begin_reading().await?;
    let start = Instant::from_std(clock::now() + START_DELAY);
    let overload = match arrivals {
        Arrivals::Storm { .. } => None,
        Arrivals::Overload(overload) => Some(overload),
    };
    let spike_end = overload.map(|overload| start + overload.duration);
    let overload_time = overload.map(|overload| overload.duration);
    let tally = Rc::new(RefCell::new(Tally::new(args.apps, gateway.clock(), overload_time)));
    if let Some(background) = &background {
        background.tally.borrow_mut().begin_storm(start, spike_end);
    }
    let crew = Crew::new(args, &gateway, args.retry.within(args.budget()))?;
    let crowd = Crowd::new(crew, pods, alive_max, start, Rc::clone(&tally));
    let mut weather = Weather { args, gateway, crowd, tally: Rc::clone(&tally), start };
    let killed = weather.until_all_decided().await?;
    let background = weather.end_of_background(background, spike_end).await?;
    let Weather { gateway, crowd, .. } = weather;

    let reading = gateway.reading().await?;
    let grants_lost = match killed {
        Killed::Never => None,
        Killed::During | Killed::After => {
            let mut acknowledged = tally.borrow_mut().take_grants();
            acknowledged.extend(background.iter().flat_map(|tally| tally.borrow_mut().take_grants()));
            Some(ledger::lost(gateway.endpoint(), acknowledged).await?)
        }
    };
    gateway.close().await?;

    let tally = tally.borrow();
    let background = background.as_ref().map(|tally| tally.borrow());
    let bounds = tally.bounds(args.rate().per_s(), args.burst());
    let mut timeline = tally.timeline(&bounds);
    timeline.background_worst_ms = background.as_ref().map(|background| background.worst_ms.clone());
    let optimum_s = optimum_s(arrivals.spread(), demands, tally.round_trip());
    let report = StormReport::new(&Measured {
        args,
        tally: &tally,
        bounds: &bounds,
        background: background.as_deref(),
        optimum_s: overload.is_none().then_some(optimum_s),
        reading,
        crowd: &crowd,
        killed,
        grants_lost,
        is_pinned: cores.is_some(),
    });
    Ok(Storm { report, timeline })
}

/// How many pods may be there at once: all of a storm, and of an overload as many as there is room for.
fn room(args: &StormArgs) -> Result<u32, StormError> {
    let background = u64::from(background::alive_max(args));
    match args.arrivals() {
        Arrivals::Storm { pods, .. } => {
            descriptors::ensure(u64::from(pods.get()) + background)?;
            Ok(pods.get())
        }
        Arrivals::Overload(overload) => {
            if overload.pods().get() > PODS_MAX {
                return Err(StormError::TooManyPods(overload.pods()));
            }
            let fitting = descriptors::ensure(background + 1)? - background;
            Ok(u32::try_from(fitting).unwrap_or(u32::MAX).min(crowd::ALIVE_MAX))
        }
    }
}

const PINNING: &str = "giving the generator and the gateway a core each";

fn cores(args: &StormArgs) -> Result<Option<Cores>, StormError> {
    match args.pin() {
        Pin::Off => Ok(None),
        Pin::On => {
            let cores = Cores::divide(args.workers.get()).map_err(StormError::io(PINNING))?;
            if cores.is_none() {
                console::remark("There is only one core here: generator and gateway share it.");
            }
            Ok(cores)
        }
    }
}

/// Lets the background call alone for a while.
async fn idle(args: &StormArgs, gateway: &mut Gateway) -> Result<(), StormError> {
    let time = background::idle_time(args);
    console::remark(&format!("{:.0} s of the background alone …", time.as_secs_f64()));
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        death = gateway.death() => Err(death.into()),
    }
}

/// What each app's bucket and the shared capacity have to admit.
fn demands(args: &StormArgs, pods: &[VirtualPod]) -> Vec<Demand> {
    let mut counts = vec![0_u32; args.apps as usize];
    for pod in pods {
        counts[pod.app as usize] += 1;
    }
    let app = |count| Demand { count, rate_per_s: args.rate().per_s(), burst: args.burst() };
    let shared = match Capacity::of(args) {
        Capacity::Bound { rate, burst } => {
            Some(Demand { count: args.arrivals().pods().get(), rate_per_s: rate.per_s(), burst })
        }
        Capacity::Ample { .. } => None,
    };
    counts.into_iter().map(app).chain(shared).collect()
}
