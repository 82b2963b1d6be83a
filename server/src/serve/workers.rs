//! Worker threads, each with a runtime of its own.
//!
//! A `current_thread` runtime a worker costs less a call than one runtime over all of them: tasks never move, and
//! writes are batched (`docs/performance.md` has the figures).

use std::{io, num::NonZeroUsize, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    grpc::service::Services,
    serve::{connection, listener::Accepted},
    store::Courier,
    vital::Vital,
};

/// Connections on their way to one worker: as many as have permits.
const QUEUE_MAX: usize = 128;

/// How long a connection has to take its last answers once nothing is worked on.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Whether the gateway is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is not.
    Serving,
    /// It is: connections end as soon as their calls are done, at the latest after this long.
    Draining(Duration),
}

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    queues: Vec<mpsc::Sender<Accepted>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` workers.
    pub fn start(
        count: NonZeroUsize,
        services: &Services,
        shutdown: &watch::Receiver<Shutdown>,
    ) -> io::Result<Self> {
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count.get() {
            let (queue, connections) = mpsc::channel(QUEUE_MAX);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let work = work(connections, services.clone(), shutdown.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(thread.spawn(move || {
                let _vital = Vital("a worker");
                runtime.block_on(work);
                // Blocking work of the Portal's calls may still run; what it has begun is finished by the store.
                runtime.shutdown_background();
            })?);
            queues.push(queue);
        }
        Ok(Self { queues, threads })
    }

    /// Where the listener puts connections.
    pub fn queues(&self) -> Vec<mpsc::Sender<Accepted>> {
        self.queues.clone()
    }

    /// Waits until all connections have ended, or the drain's time is over.
    pub fn join(self) {
        drop(self.queues);
        for thread in self.threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

async fn work(
    mut queue: mpsc::Receiver<Accepted>,
    services: Services,
    mut shutdown: watch::Receiver<Shutdown>,
) {
    tokio::spawn(Courier::employ());
    let mut connections = JoinSet::new();
    let drain_within = loop {
        tokio::select! {
            // First of all: at the end the queue is closed as well, and that alone would cut what is in flight.
            biased;
            changed = shutdown.changed() => match (changed, *shutdown.borrow()) {
                (_, Shutdown::Draining(within)) => break within,
                (Ok(()), Shutdown::Serving) => {}
                (Err(_), Shutdown::Serving) => break Duration::ZERO,
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            Some(accepted) = queue.recv() => {
                connections.spawn(connection::serve(accepted, services.clone(), shutdown.clone()));
            }
        }
    };
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // What is left once no call is worked on are streams without an end, such as Health.Watch, and peers that do not
    // read; these get a moment for what has been answered.
    let all_answered = async {
        services.flow().idle().await;
        tokio::time::sleep(LAST_WORDS_WITHIN).await;
    };
    tokio::select! {
        () = all_ended => {}
        () = all_answered => {}
        () = tokio::time::sleep(drain_within) => tracing::warn!("calls were cut at the end of the drain"),
    }
}
