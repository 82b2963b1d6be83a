//! Flags of `incident`, and of the two servers that it starts.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::Args;

use crate::quantity::parse_duration;

/// Shortest and longest work for a grant: rates are whole numbers a second.
const BACKEND_TIME: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));

/// Flags of `incident`.
#[derive(Debug, Clone, Args)]
pub struct IncidentArgs {
    /// Pods that arrive, each with its own connection, address and uid.
    #[arg(long, value_name = "N", default_value = "2000")]
    pub pods: NonZeroU32,
    /// Time within which they arrive, evenly at random.
    #[arg(long, value_name = "S", default_value = "100ms", value_parser = parse_duration)]
    pub spread: Duration,
    /// Time that the backend takes for each grant, one after the other: 1ms to 1s.
    #[arg(long, value_name = "D", default_value = "5ms", value_parser = parse_backend_time)]
    pub backend_time: Duration,
    /// Time for a call of the plain service, after which a pod asks again.
    #[arg(long, value_name = "D", default_value = "1s", value_parser = parse_duration)]
    pub call_timeout: Duration,
    /// Time after which a pod of the plain service gives up.
    #[arg(long, value_name = "D", default_value = "60s", value_parser = parse_duration)]
    pub budget: Duration,
    /// Seed of everything random: addresses, uids, arrivals and waits.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with figures and charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Flags of the hidden `backend`.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// The process to die with.
    #[arg(long)]
    pub parent: u32,
    /// Time that it takes for each grant.
    #[arg(long, value_parser = parse_backend_time)]
    pub work: Duration,
    /// Where to say, once ready, which addresses it has.
    #[arg(long)]
    pub address_file: PathBuf,
}

/// Flags of the hidden `plain-acl`.
#[derive(Debug, Clone, Args)]
pub struct PlainAclArgs {
    /// The process to die with.
    #[arg(long)]
    pub parent: u32,
    /// The backend.
    #[arg(long)]
    pub backend: SocketAddr,
    /// Where to say, once ready, which address it has.
    #[arg(long)]
    pub address_file: PathBuf,
}

fn parse_backend_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map_err(|error| error.to_string())?;
    let (shortest, longest) = BACKEND_TIME;
    if (shortest..=longest).contains(&time) { Ok(time) } else { Err("expected 1ms to 1s".to_owned()) }
}
