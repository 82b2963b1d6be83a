//! The command line of `simulate`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::Args;
use podgate_engine::profile::HORIZON_BOUNDS;

use crate::{
    cli::{
        retry::RetryArgs,
        storm::{BURST, BURST_MAX, RATE},
    },
    quantity::{QuantityError, Rate, parse_duration},
};

/// Most pods of one simulation: about half a kilobyte each.
const PODS_MAX: u32 = 1_000_000;

/// Flags of `simulate`. Those of a storm mean what they mean there.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Pods.
    #[arg(long, value_name = "N", default_value = "2000", value_parser = parse_pods)]
    pub pods: NonZeroU32,
    /// Apps that the pods belong to, in equal parts.
    #[arg(long, value_name = "A", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub apps: u32,
    /// Time within which the pods arrive, evenly at random.
    #[arg(long, value_name = "S", default_value = "1s", value_parser = parse_duration)]
    pub spread: Duration,
    /// Rate of each app's bucket: a number a second, or 50/s, 600/m, 36000/h. [default: 50]
    #[arg(long, value_name = "R")]
    pub rate: Option<Rate>,
    /// Burst of each app's bucket.
    #[arg(long, value_name = "B", default_value_t = BURST, value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)))]
    pub burst: u32,
    /// When a pod asks again.
    #[command(flatten)]
    pub retry: RetryArgs,
    /// Time after which a pod gives up.
    #[arg(long, alias = "timeout", value_name = "D", default_value = "9m", value_parser = parse_duration)]
    pub budget: Duration,
    /// Seed of everything random.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// How far ahead slots are booked, 2s to 60m; less at rates for which that is too many.
    #[arg(long, value_name = "D", default_value = "2m", value_parser = parse_horizon)]
    pub horizon: Duration,
    /// Rate of the capacity that all apps share. Without it, one that never binds.
    #[arg(long, value_name = "R")]
    pub capacity_rate: Option<Rate>,
    /// Burst of the capacity that all apps share. [default: one second's worth]
    #[arg(long, value_name = "B", requires = "capacity_rate", value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)))]
    pub capacity_burst: Option<u32>,

    /// Time that a message takes one way, on average: half of it always, the rest by chance.
    #[arg(long, value_name = "D", default_value = "1ms", value_parser = parse_duration)]
    pub latency: Duration,
    /// Share of calls, 0 to 1, that vanish, or whose answer does: the client hears nothing until its timeout.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_share)]
    pub loss: f64,
    /// Share of pods that go away within 2 s of their arrival, and never come back.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_share)]
    pub no_shows: f64,
    /// Share of pods whose init container dies once while it asks or waits, and is started again a second later, half of
    /// them with the file that holds their ticket.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_share)]
    pub crashes: f64,
    /// Share of pods that take up to 150 ms longer after every wait.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = parse_share)]
    pub slow: f64,
    /// Times that the gateway dies during the storm, and is back 500 ms later.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub restarts: u32,

    /// Simulate N seeds, from --seed on, on all cores, and sum them up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub seeds: Option<u32>,
    /// Find the smallest rate of each app's bucket at which the storm ends within this time.
    #[arg(long, value_name = "D", value_parser = parse_duration, conflicts_with_all = ["rate", "seeds"])]
    pub within: Option<Duration>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with figures and charts to this file.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    pub html: Option<PathBuf>,
}

impl SimulateArgs {
    /// Rate of each app's bucket.
    pub fn rate(&self) -> Rate {
        self.rate.unwrap_or(Rate::per_second(RATE))
    }
}

fn parse_pods(text: &str) -> Result<NonZeroU32, String> {
    let pods = text.parse().ok().filter(|pods: &NonZeroU32| pods.get() <= PODS_MAX);
    pods.ok_or_else(|| format!("expected a number from 1 to {PODS_MAX}"))
}

fn parse_horizon(text: &str) -> Result<Duration, String> {
    let horizon = parse_duration(text).map_err(|error: QuantityError| error.to_string())?;
    let (shortest, longest) = HORIZON_BOUNDS;
    if (shortest..=longest).contains(&horizon) {
        Ok(horizon)
    } else {
        Err(format!("expected a duration from {}s to {}m", shortest.as_secs(), longest.as_secs() / 60))
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}
