//! The gateway under the storm: a child of ours, or one that runs already.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use podgate_client::Endpoint;
use rustix::thread::CpuSet;
use tempfile::TempDir;

use crate::{
    child::{ChildError, Confinement, ServerChild, ServerCommand},
    cli::{Arrivals, StormArgs},
    console,
    cpu_quota::CpuQuota,
    exposition,
    process::{self, Usage},
    storm::{
        StormError, apply, background, bookings::Bookings, capacity::Capacity, crowd, documents,
        tally::BootClock,
    },
};

/// Connections that the gateway holds at least: its default.
const CONNECTIONS_FLOOR: u32 = 16_384;
/// Connections that are none of the pods'.
const CONNECTIONS_BESIDE: u32 = 16;

/// The gateway under the storm.
pub(crate) enum Gateway {
    /// Started by us, on a store and profiles of its own.
    Child(Box<ChildGateway>),
    /// Named by the person.
    Running {
        /// Where.
        endpoint: Endpoint,
        /// Whether it is on this machine.
        reach: Reach,
    },
}

/// How far away a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On loopback: every pod can have an address of its own, and clocks are shared.
    Loopback,
    /// Elsewhere: all pods come from this machine's address.
    Network,
}

/// A gateway that we started.
pub(crate) struct ChildGateway {
    child: ServerChild,
    command: ServerCommand,
    endpoint: Endpoint,
    /// Of the running process when the storm began, or when it was started again.
    before: Reading,
    /// Of those that were killed.
    of_killed: Reading,
    // Last: what it lies and runs in goes after the process.
    directory: TempDir,
    _quota: Option<CpuQuota>,
}

/// What a gateway used and booked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) usage: Usage,
    /// `None` where it does not say.
    pub(crate) bookings: Option<Bookings>,
}

impl Reading {
    const NOTHING: Self = Self { usage: Usage { cpu: Duration::ZERO, rss_bytes_max: 0 }, bookings: None };
}

impl Gateway {
    /// Starts the child with its profiles on these cores, or finds the running one and applies them.
    pub(crate) async fn open(args: &StormArgs, cores: Option<CpuSet>) -> Result<Self, StormError> {
        if let Some(endpoint) = &args.endpoint {
            let reach = reach(endpoint).await?;
            if reach == Reach::Network {
                console::remark(
                    "The gateway is not on loopback: all pods come from this machine's one address, and its per-IP \
                     limit binds them all.",
                );
            }
            if !args.no_apply {
                apply::profiles(endpoint, &documents::apps(args)).await?;
            }
            return Ok(Self::Running { endpoint: endpoint.clone(), reach });
        }
        ChildGateway::start(args, cores).await.map(|child| Self::Child(Box::new(child)))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Child(child) => &child.endpoint,
            Self::Running { endpoint, .. } => endpoint,
        }
    }

    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Child(_) => Reach::Loopback,
            Self::Running { reach, .. } => *reach,
        }
    }

    pub(crate) fn clock(&self) -> BootClock {
        match self.reach() {
            Reach::Loopback => BootClock::Shared,
            Reach::Network => BootClock::Foreign,
        }
    }

    /// What it uses and books is counted from here.
    pub(crate) async fn begin_reading(&mut self) -> Result<(), StormError> {
        match self {
            Self::Child(child) => child.begin_reading().await,
            Self::Running { .. } => Ok(()),
        }
    }

    /// What it used and booked since, where that can be read.
    pub(crate) async fn reading(&self) -> Result<Option<Reading>, StormError> {
        match self {
            Self::Child(child) => child.reading().await.map(Some),
            Self::Running { .. } => Ok(None),
        }
    }

    /// Waits until a child dies by itself; for ever with another's gateway.
    pub(crate) async fn death(&mut self) -> ChildError {
        match self {
            Self::Child(child) => child.child.death().await,
            Self::Running { .. } => std::future::pending().await,
        }
    }

    /// Kills a child and starts it again; leaves another's gateway alone.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<(), StormError> {
        match self {
            Self::Child(child) => child.kill_and_restart().await,
            Self::Running { .. } => Ok(()),
        }
    }

    /// Ends a child.
    pub(crate) async fn close(self) -> Result<(), StormError> {
        match self {
            Self::Child(mut child) => {
                child.child.kill().await.map_err(StormError::io("ending the gateway"))?;
                child.directory.close().map_err(StormError::io("removing the temporary directory"))
            }
            Self::Running { .. } => Ok(()),
        }
    }
}

impl ChildGateway {
    async fn start(args: &StormArgs, cores: Option<CpuSet>) -> Result<Self, StormError> {
        let quota = args.cpu_quota.map(CpuQuota::new).transpose()?;
        let directory = tempfile::Builder::new()
            .prefix("podgate-storm-")
            .tempdir()
            .map_err(StormError::io("making a temporary directory"))?;
        let profiles = directory.path().join("profiles");
        fs::create_dir(&profiles).map_err(StormError::io("making the directory of profiles"))?;
        documents::write(&profiles, &documents::apps(args))
            .map_err(StormError::io("writing the profiles"))?;
        let mut command = ServerCommand {
            name: "gateway",
            arguments: arguments(args, "127.0.0.1:0", "127.0.0.1:0"),
            directory: directory.path().to_owned(),
            confinement: Confinement { cores, group_members: quota.as_ref().map(CpuQuota::members) },
        };
        let child = command.start().await?;
        // From now on it is always found in the same place.
        let http = child.addresses.http.map_or_else(|| "127.0.0.1:0".to_owned(), |http| http.to_string());
        command.arguments = arguments(args, &child.addresses.grpc.to_string(), &http);
        let endpoint = endpoint_of(child.addresses.grpc)?;
        let (before, of_killed) = (Reading::NOTHING, Reading::NOTHING);
        Ok(Self { child, command, endpoint, before, of_killed, directory, _quota: quota })
    }

    async fn begin_reading(&mut self) -> Result<(), StormError> {
        self.before = self.now().await?;
        Ok(())
    }

    /// Since the beginning, those that were killed included.
    async fn reading(&self) -> Result<Reading, StormError> {
        let now = self.now().await?;
        let killed = self.of_killed;
        let booked = |now: Bookings| {
            now - self.before.bookings.unwrap_or_default() + killed.bookings.unwrap_or_default()
        };
        Ok(Reading {
            usage: Usage {
                cpu: killed.usage.cpu + now.usage.cpu.saturating_sub(self.before.usage.cpu),
                rss_bytes_max: killed.usage.rss_bytes_max.max(now.usage.rss_bytes_max),
            },
            bookings: now.bookings.map(booked).or(killed.bookings),
        })
    }

    /// Of the running process, since its start.
    async fn now(&self) -> Result<Reading, StormError> {
        let usage = process::usage(self.child.pid).map_err(StormError::io("reading the gateway's usage"))?;
        let bookings = match self.child.addresses.http.map(exposition::fetch) {
            None => None,
            Some(page) => match page.await {
                Ok(page) => Bookings::read(&page),
                Err(error) => {
                    console::remark(&format!("The gateway's bookings are not known: {error}"));
                    None
                }
            },
        };
        Ok(Reading { usage, bookings })
    }

    async fn kill_and_restart(&mut self) -> Result<(), StormError> {
        self.of_killed = self.reading().await?;
        self.child.kill().await.map_err(StormError::io("killing the gateway"))?;
        self.child = self.command.start().await?;
        self.begin_reading().await
    }
}

/// The command line of the child. Its per-IP limits are the gateway's defaults.
fn arguments(args: &StormArgs, listen: &str, http: &str) -> Vec<OsString> {
    let capacity = Capacity::of(args);
    let (capacity_rate, burst) = (capacity.rate().to_string(), capacity.burst().to_string());
    let workers = args.workers.to_string();
    let pods = match args.arrivals() {
        Arrivals::Storm { pods, .. } => pods.get(),
        // More are never there at once.
        Arrivals::Overload(_) => crowd::ALIVE_MAX,
    };
    let background = background::alive_max(args).saturating_add(CONNECTIONS_BESIDE);
    let connections = pods.max(CONNECTIONS_FLOOR).saturating_add(background).to_string();
    let upstream = args.upstream.iter();
    let upstream = upstream.flat_map(|endpoint| ["--upstream".to_owned(), endpoint.to_string()]);
    let arguments = [
        "serve",
        "--profiles",
        "profiles",
        "--store",
        "store",
        "--listen",
        listen,
        "--http",
        http,
        "--workers",
        &workers,
        "--capacity-rate",
        &capacity_rate,
        "--capacity-burst",
        &burst,
        "--max-connections",
        &connections,
        "--log-format",
        "text",
        "--log-level",
        "warn",
    ];
    arguments.map(OsString::from).into_iter().chain(upstream.map(OsString::from)).collect()
}

fn endpoint_of(address: SocketAddr) -> Result<Endpoint, StormError> {
    format!("http://{address}")
        .parse()
        .map_err(|error: podgate_client::EndpointError| StormError::Client(error.to_string()))
}

async fn reach(endpoint: &Endpoint) -> Result<Reach, StormError> {
    let unreachable = |reason: String| StormError::Unreachable { endpoint: endpoint.to_string(), reason };
    let looked_up = tokio::time::timeout(
        Duration::from_secs(5),
        tokio::net::lookup_host((endpoint.host(), endpoint.port())),
    )
    .await
    .map_err(|_| unreachable("its name was not resolved within 5 s".to_owned()))?
    .map_err(|error| unreachable(error.to_string()))?;
    let addresses: Vec<IpAddr> = looked_up.map(|address| address.ip()).collect();
    // The pods' own addresses are IPv4.
    let loopback = !addresses.is_empty() && addresses.iter().all(|ip| ip.is_loopback() && ip.is_ipv4());
    Ok(if loopback { Reach::Loopback } else { Reach::Network })
}
