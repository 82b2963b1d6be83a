//! The gateway under the storm: a child of ours, or one that runs already.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use podgate_client::Endpoint;
use tempfile::TempDir;

use crate::{
    child::{ChildError, ServerChild, ServerCommand},
    cli::StormArgs,
    console,
    process::{self, Usage},
    storm::{StormError, apply, documents, tally::BootClock},
};

/// Rate and burst of a capacity that never binds, at least.
const CAPACITY_FLOOR: u32 = 5_000;
/// The largest rate and burst that the gateway takes.
const CAPACITY_MAX: u32 = 1_000_000;

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
    /// Usage of the running process when the storm began, or when it was started again.
    usage_before: Usage,
    /// Usage of those that were killed.
    usage_of_killed: Usage,
    // Last: the directory goes after the process that works in it.
    directory: TempDir,
}

impl Gateway {
    /// Starts the child with its profiles, or finds the running one and applies them.
    pub(crate) async fn open(args: &StormArgs) -> Result<Self, StormError> {
        if let Some(endpoint) = &args.endpoint {
            let reach = reach(endpoint).await?;
            if reach == Reach::Network {
                console::remark(
                    "The gateway is not on loopback: all pods come from this machine's one address, and its per-IP \
                     limit binds them all.",
                );
            }
            if !args.no_apply {
                apply::profiles(endpoint, args.apps, args.rate, args.burst).await?;
            }
            return Ok(Self::Running { endpoint: endpoint.clone(), reach });
        }
        ChildGateway::start(args).await.map(|child| Self::Child(Box::new(child)))
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

    /// What it uses is counted from here.
    pub(crate) fn begin_usage(&mut self) -> Result<(), StormError> {
        match self {
            Self::Child(child) => child.begin_usage(),
            Self::Running { .. } => Ok(()),
        }
    }

    /// What it used since, where that can be read.
    pub(crate) fn usage(&self) -> Result<Option<Usage>, StormError> {
        match self {
            Self::Child(child) => child.usage().map(Some),
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
    async fn start(args: &StormArgs) -> Result<Self, StormError> {
        let directory = tempfile::Builder::new()
            .prefix("podgate-storm-")
            .tempdir()
            .map_err(StormError::io("making a temporary directory"))?;
        let profiles = directory.path().join("profiles");
        fs::create_dir(&profiles).map_err(StormError::io("making the directory of profiles"))?;
        documents::write(&profiles, args.apps, args.rate, args.burst)
            .map_err(StormError::io("writing the profiles"))?;
        let mut command = ServerCommand {
            name: "gateway",
            arguments: arguments(args, "127.0.0.1:0", "127.0.0.1:0"),
            directory: directory.path().to_owned(),
        };
        let child = command.start().await?;
        // From now on it is always found in the same place.
        let http = child.addresses.http.map_or_else(|| "127.0.0.1:0".to_owned(), |http| http.to_string());
        command.arguments = arguments(args, &child.addresses.grpc.to_string(), &http);
        let endpoint = endpoint_of(child.addresses.grpc)?;
        Ok(Self {
            child,
            command,
            endpoint,
            usage_before: Usage::default(),
            usage_of_killed: Usage::default(),
            directory,
        })
    }

    fn begin_usage(&mut self) -> Result<(), StormError> {
        self.usage_before =
            process::usage(self.child.pid).map_err(StormError::io("reading the gateway's usage"))?;
        Ok(())
    }

    fn usage(&self) -> Result<Usage, StormError> {
        let now = process::usage(self.child.pid).map_err(StormError::io("reading the gateway's usage"))?;
        Ok(Usage {
            cpu: self.usage_of_killed.cpu + now.cpu.saturating_sub(self.usage_before.cpu),
            rss_bytes_max: self.usage_of_killed.rss_bytes_max.max(now.rss_bytes_max),
        })
    }

    async fn kill_and_restart(&mut self) -> Result<(), StormError> {
        self.usage_of_killed = self.usage()?;
        self.child.kill().await.map_err(StormError::io("killing the gateway"))?;
        self.child = self.command.start().await?;
        self.begin_usage()
    }
}

/// The command line of the child. Its per-IP limits are the gateway's defaults.
fn arguments(args: &StormArgs, listen: &str, http: &str) -> Vec<OsString> {
    let capacity_rate =
        args.capacity_rate.map_or_else(|| format!("{}/s", capacity_rate_floor(args)), |r| r.to_string());
    let workers = args.workers.to_string();
    let burst = capacity_burst(args).to_string();
    let connections = args.pods.get().max(CONNECTIONS_FLOOR).saturating_add(CONNECTIONS_BESIDE).to_string();
    [
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
    ]
    .map(OsString::from)
    .into()
}

/// Twice what all apps together may admit: a capacity that never binds.
fn capacity_rate_floor(args: &StormArgs) -> u32 {
    let all_per_s = 2.0 * f64::from(args.apps) * args.rate.per_s();
    // Saturates.
    (all_per_s.ceil() as u32).clamp(CAPACITY_FLOOR, CAPACITY_MAX)
}

/// Burst of the shared capacity: as asked; or that of one second at the rate asked for; or one that never binds.
pub(crate) fn capacity_burst(args: &StormArgs) -> u32 {
    match (args.capacity_burst, args.capacity_rate) {
        (Some(burst), _) => burst,
        (None, Some(rate)) => (rate.per_s().ceil() as u32).clamp(1, CAPACITY_MAX),
        (None, None) => {
            args.apps.saturating_mul(args.burst).saturating_mul(2).clamp(CAPACITY_FLOOR, CAPACITY_MAX)
        }
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> StormArgs {
        let words = ["podgate-loadtest", "storm"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Storm(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn capacity(line: &str) -> (String, String) {
        let arguments = arguments(&args(line), "l", "h");
        let after = |flag: &str| {
            let at = arguments.iter().position(|argument| argument == flag).unwrap();
            arguments[at + 1].to_str().unwrap().to_owned()
        };
        (after("--capacity-rate"), after("--capacity-burst"))
    }

    #[test]
    fn the_capacity_binds_only_when_asked() {
        assert_eq!(capacity(""), ("5000/s".to_owned(), "5000".to_owned()));
        assert_eq!(capacity("--apps 100 --rate 200 --burst 300"), ("40000/s".to_owned(), "60000".to_owned()));
        assert_eq!(capacity("--apps 100000 --rate 200"), ("1000000/s".to_owned(), "1000000".to_owned()));
        assert_eq!(capacity("--capacity-rate 600/m"), ("600/m".to_owned(), "10".to_owned()));
        assert_eq!(capacity("--capacity-rate 9 --capacity-burst 3"), ("9/s".to_owned(), "3".to_owned()));
    }
}
