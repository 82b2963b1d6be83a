//! `storm`: N virtual pods of A apps that arrive within S, on real sockets, with the real client library.

mod apply;
mod documents;
mod gateway;
mod ledger;
pub mod optimum;
mod pods;
pub mod population;
mod progress;
pub mod report;
mod tally;

use std::{cell::RefCell, io, rc::Rc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    child::ChildError,
    cli::StormArgs,
    clock,
    descriptors::{self, TooFewDescriptors},
    storm::{
        gateway::Gateway,
        optimum::{Demand, optimum_s},
        pods::PodTask,
        progress::Progress,
        report::{Killed, ServerFigures, StormReport},
        tally::Tally,
    },
};

/// Why a storm could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum StormError {
    /// The pods don't fit.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The gateway child could not be started, or died.
    #[error(transparent)]
    Child(#[from] ChildError),
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

/// Makes a storm and reports how it went. To be called on the main thread, inside a `LocalSet`.
pub async fn run(args: &StormArgs) -> Result<StormReport, StormError> {
    descriptors::ensure(u64::from(args.pods.get()))?;
    let mut gateway = Gateway::open(args).await?;
    let pods = population::population(args.pods, args.apps, args.spread, args.seed);
    let demands = demands(args, &pods);
    let tally = Rc::new(RefCell::new(Tally::new(args.apps, gateway.clock())));

    let start = Instant::from_std(clock::now() + START_DELAY);
    let mut tasks = JoinSet::new();
    let crew = pods::Crew::new(args, &gateway, start, Rc::clone(&tally))?;
    for pod in pods {
        tasks.spawn_local(PodTask::new(&crew, pod).run());
    }
    gateway.begin_usage()?;
    let killed = weather(args, &mut gateway, &mut tasks, &tally, start).await?;

    let usage = gateway.usage()?;
    let grants_lost = match killed {
        Killed::Never => None,
        Killed::During | Killed::After => {
            let acknowledged = tally.borrow_mut().take_grants();
            Some(ledger::lost(gateway.endpoint(), acknowledged).await?)
        }
    };
    gateway.close().await?;

    let tally = tally.borrow();
    let optimum_s = optimum_s(args.spread, demands, tally.call_latency_median());
    let server = usage.map(|usage| ServerFigures::new(usage, tally.calls_total()));
    Ok(StormReport::new(args, &tally, optimum_s, server, grants_lost, killed))
}

/// Between the making of the pods' tasks and the first possible arrival.
const START_DELAY: Duration = Duration::from_millis(200);
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// Lets the pods run until all are decided; kills and restarts the gateway in between, if asked.
async fn weather(
    args: &StormArgs,
    gateway: &mut Gateway,
    tasks: &mut JoinSet<()>,
    tally: &Rc<RefCell<Tally>>,
    start: Instant,
) -> Result<Killed, StormError> {
    let mut killed = Killed::Never;
    let mut progress = Progress::new(args.pods.get());
    let mut tick = tokio::time::interval(TICK);
    let mut kill_at = args.kill_gateway_after.map(|after| start + after);
    loop {
        let kill = tokio::time::sleep_until(kill_at.unwrap_or(start));
        tokio::select! {
            ended = tasks.join_next() => match ended {
                // After the last pod, where the hour did not come: what was acknowledged has to survive all the same.
                None => break,
                Some(Ok(())) => {}
                Some(Err(panic)) => return Err(StormError::Client(panic.to_string())),
            },
            _ = tick.tick() => progress.show(&tally.borrow(), start.elapsed()),
            () = kill, if kill_at.is_some() => {
                (kill_at, killed) = (None, Killed::During);
                gateway.kill_and_restart().await?;
            }
            death = gateway.death() => return Err(death.into()),
        }
    }
    if kill_at.is_some() {
        killed = Killed::After;
        gateway.kill_and_restart().await?;
    }
    progress.close();
    Ok(killed)
}

/// What each app's bucket and the shared capacity have to admit.
fn demands(args: &StormArgs, pods: &[population::VirtualPod]) -> Vec<Demand> {
    let mut counts = vec![0_u32; args.apps as usize];
    for pod in pods {
        counts[pod.app as usize] += 1;
    }
    let app = |count| Demand { count, rate_per_s: args.rate.per_s(), burst: args.burst };
    let shared = args.capacity_rate.map(|rate| Demand {
        count: args.pods.get(),
        rate_per_s: rate.per_s(),
        burst: gateway::capacity_burst(args),
    });
    counts.into_iter().map(app).chain(shared).collect()
}
