//! `watch`: how soon a new watcher has all grants that a gateway holds, and how far behind it is while they change.

mod changes;
mod report;
mod watcher;

use std::{cell::RefCell, rc::Rc, time::Duration};

use tokio::time::timeout;
use tonic::Status;

pub use self::report::WatchReport;
use crate::{
    bench::{
        self, BenchError,
        held::{self, HeldError},
        target::{Site, Target},
        workload::some_slots,
    },
    cli::WatchArgs,
    console,
    storm::population::Addresses,
    watch::{changes::Made, watcher::Watcher},
};

/// Connections that make changes, and calls in flight on each.
const CONNECTIONS: (u32, u32) = (8, 32);
/// A watcher that has not heard of a change so long after it was answered never does.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// Why a watch could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The gateway or its grants could not be made, or a call broke.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The grants could not be made.
    #[error(transparent)]
    Held(#[from] HeldError),
    /// The gateway cannot be reached for the watch.
    #[error("the gateway cannot be reached: {0}")]
    Unreachable(#[from] tonic::transport::Error),
    /// The watch broke.
    #[error("the watch broke: {0}")]
    Broke(#[from] Box<Status>),
    /// The watch ended.
    #[error("the gateway ended the watch")]
    Ended,
    /// A call that makes a change was refused.
    #[error("a call that should make a grant was refused: {0}")]
    Refused(String),
}

/// Measures a watch. To be called on the main thread, inside a `LocalRuntime`.
pub async fn run(args: &WatchArgs) -> Result<WatchReport, WatchError> {
    let directory = bench::workplace()?;
    let site = Site { directory: directory.path(), workers: args.workers };
    console::remark(&format!("making {} grants …", args.grants));
    held::fill(&site.directory.join(bench::STORE), args.grants).await?;
    let slots = some_slots(CONNECTIONS, args.seed, 0, &mut Addresses::new(args.seed));
    let gateway = Target::gateway(&site, bench::STORE, &slots, CONNECTIONS.1, args.grants).await?;

    console::remark("watching …");
    let made = Rc::new(RefCell::new(Made::default()));
    let (mut watcher, snapshot) = Watcher::begin(gateway.child.addresses.grpc).await?;
    let changing = changes::make(args, &gateway, &slots, Rc::clone(&made));
    let followed = watcher.follow_while(changing).await?;
    timeout(CATCH_UP_MAX, watcher.catch_up(&made)).await.unwrap_or(Ok(()))?;
    let report = WatchReport::new(args, snapshot, followed, &watcher.seen, &made.borrow());
    gateway.stop().await?;
    directory.close().map_err(BenchError::io("removing the temporary directory"))?;
    Ok(report)
}
