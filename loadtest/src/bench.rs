//! `bench`: closed-loop calls a second, latency and CPU time a call, beside a bare tonic echo of the same messages.

mod answer;
pub(crate) mod connection;
pub(crate) mod documents;
pub mod echo;
pub(crate) mod held;
pub mod mode;
pub mod report;
mod slices;
pub(crate) mod target;
pub(crate) mod workload;

use std::{fs, io};

use tempfile::TempDir;

use crate::{
    bench::{
        answer::Answer,
        connection::CallError,
        held::{Held, HeldError},
        mode::{Mode, Modes},
        report::{BenchReport, ModeReport, Reports},
        target::{Site, Target},
        workload::Slot,
    },
    child::ChildError,
    cli::BenchArgs,
    console,
    descriptors::{self, TooFewDescriptors},
    storm::population::Addresses,
};

/// Where a gateway keeps its grants, in the benchmark's directory.
pub(crate) const STORE: &str = "store";

/// Why a benchmark could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The connections don't fit.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// A server could not be started, or died.
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
    /// The grants that the gateway is to hold could not be made.
    #[error("the grants that the gateway is to hold could not be made: {0}")]
    Held(#[from] HeldError),
    /// A call broke.
    #[error("a call to the {server} broke: {source}")]
    Call {
        /// Which server.
        server: &'static str,
        /// How.
        source: CallError,
    },
    /// The gateway does not answer as it has to before the measurement can begin.
    #[error("mode {mode}: the gateway does not answer as expected: {reason}")]
    Unprepared {
        /// The mode.
        mode: Mode,
        /// What it answers.
        reason: String,
    },
    /// A server stopped answering.
    #[error("the {server} did not answer for {seconds} s")]
    Stalled {
        /// Which server.
        server: &'static str,
        /// For how long.
        seconds: u64,
    },
}

impl BenchError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Measures the modes asked for, each on a gateway of its own. To be called on the main thread, inside a `LocalRuntime`.
pub async fn run(args: &BenchArgs) -> Result<BenchReport, BenchError> {
    // To the gateway and to the echo.
    descriptors::ensure(2 * u64::from(args.connections) + target::FILL_AT_ONCE as u64)?;
    let reports = match args.mode {
        Modes::One(mode) => Reports::One(Box::new(measure(args, mode).await?)),
        Modes::All => {
            let mut all = Vec::with_capacity(Mode::ALL.len());
            for mode in Mode::ALL {
                all.push(measure(args, mode).await?);
            }
            Reports::All(all)
        }
    };
    Ok(BenchReport::new(args, reports))
}

async fn measure(args: &BenchArgs, mode: Mode) -> Result<ModeReport, BenchError> {
    console::remark(&format!("measuring {mode} …"));
    let directory = workplace()?;
    let site = Site { directory: directory.path(), workers: args.workers };
    let mut addresses = Addresses::new(args.seed);
    let slots = workload::slots(args, &mut addresses);
    let rss_without_grants = hold(args, &site, &slots).await?;
    let gateway = Target::gateway(&site, STORE, &slots, args.in_flight, args.grants).await?;
    let held = match rss_without_grants {
        Some(before) => Some(Held::new(args.grants, before, gateway.rss_bytes()?)),
        None => None,
    };
    gateway.fill(addresses.by_ref().take(args.addresses as usize)).await?;
    let sample = prepare(&gateway, mode, &slots).await?;
    let mut echo = None;
    if args.baseline {
        sample
            .write(&directory.path().join(answer::FILE))
            .map_err(BenchError::io("writing the echo's answer"))?;
        echo = Some(Target::echo(&site, &slots, args.in_flight).await?);
    }
    let slices = slices::measure(args, mode, &gateway, echo.as_ref(), &slots).await?;
    gateway.stop().await?;
    if let Some(echo) = echo {
        echo.stop().await?;
    }
    close(directory)?;
    Ok(ModeReport::new(mode, args.workers, &slices, held))
}

/// A directory with the profiles of a benchmark.
pub(crate) fn workplace() -> Result<TempDir, BenchError> {
    let directory = tempfile::Builder::new()
        .prefix("podgate-bench-")
        .tempdir()
        .map_err(BenchError::io("making a temporary directory"))?;
    let profiles = directory.path().join("profiles");
    fs::create_dir(&profiles).map_err(BenchError::io("making the directory of profiles"))?;
    documents::write(&profiles).map_err(BenchError::io("writing the profiles"))?;
    Ok(directory)
}

/// Makes the grants that the gateway is to hold, if any; returns what one without them has in RAM.
async fn hold(args: &BenchArgs, site: &Site<'_>, slots: &[Vec<Slot>]) -> Result<Option<u64>, BenchError> {
    if args.grants == 0 {
        return Ok(None);
    }
    let without = Target::gateway(site, "empty-store", slots, args.in_flight, args.grants).await?;
    let rss_bytes = without.rss_bytes()?;
    without.stop().await?;
    held::fill(&site.directory.join(STORE), args.grants).await?;
    Ok(Some(rss_bytes))
}

/// Makes the grants that a mode needs, and takes the answer that the echo is to give.
async fn prepare(gateway: &Target, mode: Mode, slots: &[Vec<Slot>]) -> Result<Answer, BenchError> {
    let broke = |source| BenchError::Call { server: "gateway", source };
    for (connection, slots) in gateway.connections.iter().zip(slots) {
        for slot in slots {
            if let Some((path, message)) = mode.preparation(slot) {
                let reply = connection.call(path, message).await.map_err(broke)?;
                mode.check_preparation(&reply).map_err(|reason| BenchError::Unprepared { mode, reason })?;
            }
        }
    }
    let (Some(connection), Some(slot)) =
        (gateway.connections.first(), slots.first().and_then(|slots| slots.first()))
    else {
        return Err(BenchError::Unprepared { mode, reason: "there is no connection".to_owned() });
    };
    let mut messages = mode.messages(&slot.apart());
    let reply = connection.call(mode.path(), messages.next()).await.map_err(broke)?;
    mode.check(&reply).map_err(|reason| BenchError::Unprepared { mode, reason })?;
    Ok(Answer::of(mode.method(), &reply))
}

fn close(directory: TempDir) -> Result<(), BenchError> {
    directory.close().map_err(BenchError::io("removing the temporary directory"))
}
