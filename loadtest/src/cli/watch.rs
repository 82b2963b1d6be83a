//! Flags of `watch`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::Args;

use crate::quantity::parse_duration;

/// Flags of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Grants that the gateway holds when the watcher comes.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub grants: u32,
    /// Changes a second that it follows then: half of them new grants, half the ends of those before on their addresses.
    #[arg(long, value_name = "R", default_value = "5000")]
    pub changes: NonZeroU32,
    /// For how long.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Worker threads of the gateway.
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroU32,
    /// Seed of addresses and uids.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
