//! A server under measurement, with the connections to it.

use std::{ffi::OsString, net::Ipv4Addr, num::NonZeroU32, path::Path};

use tokio::task::{JoinError, JoinSet};

use crate::{
    bench::{
        BenchError, answer,
        connection::{CallError, Connection},
        mode::Mode,
        workload::Slot,
    },
    child::{Confinement, ServerChild, ServerCommand},
    process,
};

/// Visitors that are there at once, while the gateway's map of addresses is filled.
pub(crate) const FILL_AT_ONCE: usize = 64;
/// A per-IP limit that is on, and never met.
const PER_IP: u32 = 1_000_000;
/// A capacity that is never spent.
const CAPACITY: u32 = 1_000_000;

/// Connections, calls in flight and grants that the gateway takes at least: its defaults.
const CONNECTIONS_FLOOR: usize = 16_384;
const CALLS_FLOOR: usize = 8_192;
const GRANTS_FLOOR: usize = 1_000_000;

/// Where the servers of a benchmark work.
pub(crate) struct Site<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) workers: NonZeroU32,
}

/// A server, and a connection from each of the slots' addresses.
pub(crate) struct Target {
    /// Which server.
    pub(crate) name: &'static str,
    pub(crate) child: ServerChild,
    pub(crate) connections: Vec<Connection>,
}

impl Target {
    /// Starts a gateway on the site's profiles and one of its stores, which holds so many grants.
    pub(crate) async fn gateway(
        site: &Site<'_>,
        store: &str,
        slots: &[Vec<Slot>],
        in_flight: u32,
        grants: u32,
    ) -> Result<Self, BenchError> {
        let grants = (grants as usize + slots.len() * in_flight as usize).max(GRANTS_FLOOR).to_string();
        let (workers, per_ip, capacity) =
            (site.workers.to_string(), PER_IP.to_string(), CAPACITY.to_string());
        let connections = (slots.len() + FILL_AT_ONCE).max(CONNECTIONS_FLOOR).to_string();
        let calls = (slots.len() * in_flight as usize).max(CALLS_FLOOR).to_string();
        let per_ip_rate = format!("{PER_IP}/s");
        let capacity_rate = format!("{CAPACITY}/s");
        let arguments = [
            "serve",
            "--profiles",
            "profiles",
            "--store",
            store,
            "--max-grants",
            &grants,
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--workers",
            &workers,
            "--per-ip-rate",
            &per_ip_rate,
            "--per-ip-burst",
            &per_ip,
            "--capacity-rate",
            &capacity_rate,
            "--capacity-burst",
            &capacity,
            "--max-connections",
            &connections,
            "--max-calls-in-flight",
            &calls,
            "--log-format",
            "text",
            "--log-level",
            "warn",
        ];
        Self::start("gateway", site, arguments.map(OsString::from).into(), slots, in_flight).await
    }

    /// Starts an echo of the site's answer.
    pub(crate) async fn echo(
        site: &Site<'_>,
        slots: &[Vec<Slot>],
        in_flight: u32,
    ) -> Result<Self, BenchError> {
        let workers = site.workers.to_string();
        let arguments = ["--workers", &workers, "--listen", "127.0.0.1:0", "--answer", answer::FILE];
        Self::start("echo", site, arguments.map(OsString::from).into(), slots, in_flight).await
    }

    async fn start(
        name: &'static str,
        site: &Site<'_>,
        arguments: Vec<OsString>,
        slots: &[Vec<Slot>],
        in_flight: u32,
    ) -> Result<Self, BenchError> {
        let directory = site.directory.to_owned();
        let command = ServerCommand { name, arguments, directory, confinement: Confinement::default() };
        let child = command.start().await?;
        let mut connections = Vec::with_capacity(slots.len());
        for address in slots.iter().filter_map(|slots| slots.first()).map(Slot::address) {
            let connection = Connection::open(child.addresses.grpc, address, in_flight)
                .await
                .map_err(|source| BenchError::Call { server: name, source })?;
            connections.push(connection);
        }
        Ok(Self { name, child, connections })
    }

    /// Lets each address make one call on a short connection of its own, so that the per-IP limit tracks them all.
    pub(crate) async fn fill(&self, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<(), BenchError> {
        let mut visits = JoinSet::new();
        let server = self.child.addresses.grpc;
        for address in addresses {
            if visits.len() == FILL_AT_ONCE {
                self.visited(visits.join_next().await)?;
            }
            visits.spawn(async move {
                let connection = Connection::open(server, address, 1).await?;
                // What it says does not matter; that it called does.
                let message = Mode::Common.messages(&Slot::visitor(address)).next();
                connection.call(Mode::Common.path(), message).await.map(drop)
            });
        }
        while let Some(visit) = visits.join_next().await {
            self.visited(Some(visit))?;
        }
        Ok(())
    }

    fn visited(&self, visit: Option<Result<Result<(), CallError>, JoinError>>) -> Result<(), BenchError> {
        match visit {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(source))) => Err(BenchError::Call { server: self.name, source }),
            Some(Err(panic)) => Err(BenchError::io("visiting the gateway")(std::io::Error::other(panic))),
        }
    }

    /// What the server has in RAM.
    pub(crate) fn rss_bytes(&self) -> Result<u64, BenchError> {
        process::rss_bytes(self.child.pid).map_err(BenchError::io("reading what a server has in RAM"))
    }

    /// Ends the server.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        self.child.kill().await.map_err(BenchError::io("ending a server"))
    }
}
