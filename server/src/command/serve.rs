//! `podgate serve`: starts everything, waits for the signal to end, and ends in order.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use clap::ArgMatches;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::MissedTickBehavior,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    clock,
    command::{complain, exit_code, settings},
    config::{Config, values::Leases},
    gate::{Gate, Policies, Redecisions, Refusal, redecision::STEP_EVERY},
    grpc::service::{Flow, Services, report},
    serve::{
        http::{Pages, router},
        listener,
        places::Places,
        policy, telemetry,
        workers::{Shutdown, Workers},
    },
    source::directory::Documents,
    store::{Rules, Store, StoreError},
    upstream::Upstream,
};
#[cfg(debug_assertions)]
use crate::{environment, store::fault};

/// How often expired grants are ended, and histograms kept small.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How often one shard of the per-IP limiter forgets; all of them in about half a minute.
const EVICT_EVERY: Duration = Duration::from_millis(500);

/// How often what no-shows leave is given to parked callers.
const CALL_EARLY_EVERY: Duration = Duration::from_millis(10);

/// Open files beside the connections: the store, the listeners, the runtimes.
const OPEN_BESIDE: u64 = 64;

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen on {address} ({setting}): {source}")]
    Bind { setting: &'static str, address: SocketAddr, source: io::Error },
    #[error("the store in {directory} cannot be opened: {source}")]
    Store { directory: PathBuf, source: StoreError },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    #[error("cannot start metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error("cannot start reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("{0} has ended by itself: {1}")]
    Ended(&'static str, String),
    #[error("--address-file {file}: {source}")]
    AddressFile { file: PathBuf, source: io::Error },
}

/// Runs `podgate serve`.
pub fn run(matches: &ArgMatches) -> u8 {
    let (layers, config) = settings::read(matches);
    let config = match config {
        Ok(config) => config,
        Err(faults) => {
            complain(faults);
            return exit_code::MISCONFIGURED;
        }
    };
    if let Some(refusal) = Config::refusal(&layers, &config) {
        complain([refusal]);
        return exit_code::MISCONFIGURED;
    }
    telemetry::log(&config);
    #[cfg(debug_assertions)]
    fault::arm(&environment::variables());
    match serve(&config, matches.get_one::<PathBuf>("address-file").map(PathBuf::as_path)) {
        Ok(()) => exit_code::OK,
        Err(failure) => {
            error!(error = %failure, "podgate cannot serve");
            let advice = match &failure {
                ServeError::Store { directory, source } => source.advice(directory),
                _ => None,
            };
            complain([failure.to_string()].into_iter().chain(advice));
            exit_code::FAILED
        }
    }
}

fn serve(config: &Config, address_file: Option<&Path>) -> Result<(), ServeError> {
    raise_open_files(config);
    let metrics = telemetry::install_metrics()?;
    let refuse = |source| ServeError::Store { directory: config.store.clone(), source };
    let Leases { grants_max, quarantine, shared } = config.leases.clone();
    let rules = Rules { grants_max, shared, quarantine };
    let (store, kept, upstream) = match &config.upstream {
        None => {
            let (store, kept) = Store::open(&config.store, rules).map_err(refuse)?;
            (store, kept, None)
        }
        Some(settings) => {
            let (store, kept, ends) = Store::open_with_ends(&config.store, rules).map_err(refuse)?;
            info!(endpoint = settings.endpoint, "an upstream must know of each grant");
            (store, kept, Some(Upstream::start(settings, ends)?))
        }
    };
    store.journal().keep(config.journal_max);
    let files = config.profiles.is_none().then(Documents::default);
    let policies = Policies::new(policy::kept_documents(&kept).map_err(refuse)?, files, config.defaults);
    let gate = Arc::new(Gate::new(config, store, &kept.desk, policies).with_upstream(upstream));

    let bind = |setting, address| {
        listener::bind(address).map_err(|source| ServeError::Bind { setting, address, source })
    };
    let (grpc, http) = (bind("listen", config.listen)?, bind("http", config.http)?);
    let addresses = Addresses { grpc: grpc.local_addr()?, http: http.local_addr()? };
    let (ending, shutdown) = watch::channel(Shutdown::Serving);
    let flow = Arc::new(Flow::new(config.connections.calls_in_flight));
    let places = Arc::new(Places::new(config.connections));
    let health = HealthReporter::new();
    let message_bytes = config.connections.message_bytes;
    let services = Services::new(Arc::clone(&gate), Arc::clone(&flow), message_bytes, &health)?;
    let workers = Workers::start(config.workers, &services, &shutdown)?;
    let bell = match &config.profiles {
        Some(root) => Some(policy::start(&gate, root.clone())?),
        None => None,
    };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        report(&health, ServingStatus::NotServing).await;
        let gauges =
            telemetry::Gauges { gate: Arc::clone(&gate), flow: Arc::clone(&flow), places: Arc::clone(&places) };
        let pages = Pages { metrics: metrics.clone(), gauges, shutdown };
        let http = tokio::net::TcpListener::from_std(http)?;
        let mut http = tokio::spawn(async { axum::serve(http, router(pages)).await });
        let mut accepting = tokio::spawn(listener::accept(grpc, places, services, workers.queues()));
        let upkeep = tokio::spawn(upkeep(Arc::clone(&gate), metrics));
        let early = tokio::spawn(call_early(Arc::clone(&gate)));
        let redecide = tokio::spawn(redecide(Arc::clone(&gate)));
        let ready =
            tokio::spawn(announce(Arc::clone(&gate), health.clone(), addresses, address_file.map(Into::into)));
        let told = tokio::select! {
            told = wait_for_end(bell) => told.map_err(ServeError::from),
            ended = &mut accepting => Err(ServeError::Ended("accepting connections", format!("{ended:?}"))),
            ended = &mut http => Err(ServeError::Ended("serving HTTP", format!("{ended:?}"))),
        };
        info!(timeout = ?config.drain_timeout, calls_in_flight = flow.in_flight(), "ending: no more calls are taken");
        report(&health, ServingStatus::NotServing).await;
        accepting.abort();
        flow.drain();
        gate.enforcers().drain();
        ending.send_replace(Shutdown::Draining(config.drain_timeout));
        let joined = tokio::task::spawn_blocking(move || workers.join()).await;
        if let Err(failure) = joined {
            error!(error = %failure, "a worker ended badly");
        }
        for task in [upkeep, early, redecide, ready] {
            task.abort();
        }
        http.abort();
        told
    })?;
    drop(runtime);
    match Arc::try_unwrap(gate) {
        Ok(gate) => gate.close(),
        // A thread that is looking at the profiles holds it for a moment; the store's thread is ended with the process,
        // and what it acknowledged is durable.
        Err(_) => warn!("ending without closing the store"),
    }
    info!("ended");
    Ok(())
}

/// Raises the soft limit on open files to the hard one, and says so where it does not suffice for the connections.
fn raise_open_files(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let open = if raised.is_ok() { limit.maximum } else { limit.current };
    let needed = config.connections.max as u64 + OPEN_BESIDE;
    if open.is_some_and(|open| open < needed) {
        warn!(
            ?open,
            needed, "fewer files may be open than limits.connections.max needs; raise the limit (ulimit -n)"
        );
    }
}

#[derive(Clone, Copy, Debug)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
}

/// Waits until policy is in force, and then says that calls are served.
async fn announce(gate: Arc<Gate>, health: HealthReporter, addresses: Addresses, file: Option<PathBuf>) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while gate.policies().in_force().is_err() {
        look.tick().await;
    }
    report(&health, ServingStatus::Serving).await;
    let Addresses { grpc, http } = addresses;
    info!(%grpc, %http, "serving");
    if let Some(file) = file
        && let Err(failure) = write_address_file(&file, addresses)
    {
        error!(error = %failure, "nobody will learn the addresses");
    }
}

fn write_address_file(file: &Path, addresses: Addresses) -> Result<(), ServeError> {
    let Addresses { grpc, http } = addresses;
    let text =
        json!({ "grpc": grpc.to_string(), "http": http.to_string(), "pid": process::id() }).to_string();
    let beside = file.with_extension("part");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, file))
        .map_err(|source| ServeError::AddressFile { file: file.to_owned(), source })
}

/// Waits for TERM or INT; on HUP, has the profiles read again.
async fn wait_for_end(bell: Option<crate::source::watch::Bell>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                info!("HUP: looking at the profiles");
                if let Some(bell) = &bell {
                    bell.ring();
                }
            }
        }
    }
}

/// Apart from the upkeep, which waits for the store.
async fn call_early(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(CALL_EARLY_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        gate.booking().call_early();
    }
}

/// Decides living grants again when policy changes.
async fn redecide(gate: Arc<Gate>) {
    let mut redecisions = Redecisions::default();
    let mut tick = tokio::time::interval(STEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match redecisions.step(&gate).await {
            Ok(0) | Err(Refusal::NoPolicy) => {}
            Ok(changed) => info!(changed, "grants were narrowed or taken back, as policy says now"),
            Err(failure) => warn!(error = %failure, "grants that policy narrows stay as they are for now"),
        }
    }
}

async fn upkeep(gate: Arc<Gate>, metrics: metrics_exporter_prometheus::PrometheusHandle) {
    let mut shard = 0;
    let mut evict = tokio::time::interval(EVICT_EVERY);
    let mut sweep = tokio::time::interval(UPKEEP_EVERY);
    loop {
        tokio::select! {
            _ = evict.tick() => {
                let shards = gate.per_ip().evict(shard, clock::now());
                shard = (shard + 1) % shards;
                gate.booking().sweep();
                gate.enforcers().sweep(clock::now());
            }
            _ = sweep.tick() => {
                metrics.run_upkeep();
                gate.policies().rates().sweep();
                if let Err(failure) = gate.renew_keys().await {
                    warn!(error = %failure, "the keys of tickets stay as they are for now");
                }
                match gate.sweep().await {
                    Ok(0) => {}
                    Ok(expired) => info!(expired, "grants have expired"),
                    Err(failure) => warn!(error = %failure, "expired grants stay in the store for now"),
                }
            }
        }
    }
}
