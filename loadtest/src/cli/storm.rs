//! The command line of `storm`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use podgate_client::Endpoint;

use crate::{
    cli::{
        arrivals::{Arrivals, Overload},
        retry::RetryArgs,
    },
    quantity::{Rate, parse_duration},
};

/// Each app's rate unless given.
pub(crate) const RATE: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// Each app's burst unless given.
pub(crate) const BURST: u32 = 20;
/// The largest burst that a profile, or the capacity, may have.
pub(crate) const BURST_MAX: u32 = 1_000_000;
/// Time after which a pod of a storm, or of an overload, gives up unless given.
const BUDGET: Duration = Duration::from_mins(9);
const BUDGET_OF_OVERLOAD: Duration = Duration::from_secs(10);

/// Flags of `storm`.
#[derive(Debug, Clone, Args)]
pub struct StormArgs {
    /// Virtual pods, each with its own connection, address and uid.
    #[arg(long, value_name = "N", default_value = "2000")]
    pub pods: NonZeroU32,
    /// Apps that the pods belong to, in equal parts.
    #[arg(long, value_name = "A", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub apps: u32,
    /// Time within which the pods arrive, evenly at random.
    #[arg(long, value_name = "S", default_value = "1s", value_parser = parse_duration)]
    pub spread: Duration,
    /// Rate of each app's bucket: a number a second, or 50/s, 600/m, 36000/h. [default: 50; with --overload C]
    #[arg(long, value_name = "R")]
    pub rate: Option<Rate>,
    /// Burst of each app's bucket. [default: 20; with --overload one second's worth of C]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)))]
    pub burst: Option<u32>,
    /// When a pod asks again.
    #[command(flatten)]
    pub retry: RetryArgs,
    /// Time after which a pod gives up. [default: 9m; with --overload 10s]
    #[arg(long, alias = "timeout", value_name = "D", value_parser = parse_duration)]
    pub budget: Option<Duration>,
    /// Time for a call, after which it counts as failed; for a connection too, where this is less than its 2 s.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    pub call_timeout: Duration,
    /// Seed of everything random: addresses, uids, apps, arrivals and waits.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// Destinations of its profile that each pod names, 0 to 4; 0 asks for all that the profile allows.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub destinations: u8,
    /// Rate of the capacity that all apps share. Without it, one that never binds (but what --endpoint has is its own).
    #[arg(long, value_name = "R")]
    pub capacity_rate: Option<Rate>,
    /// Burst of the capacity that all apps share.
    #[arg(long, value_name = "B", requires = "capacity_rate", value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)))]
    pub capacity_burst: Option<u32>,

    /// In place of N pods, new pods arrive for the --duration, X times as many a second as the --capacity admits.
    #[arg(
        long, value_name = "X", value_parser = parse_factor, requires = "capacity", requires = "duration",
        conflicts_with_all = ["pods", "spread", "capacity_rate", "kill_gateway_after"]
    )]
    pub overload: Option<f64>,
    /// With --overload: the capacity that all apps share; its burst is one second's worth.
    #[arg(long, value_name = "C", requires = "overload")]
    pub capacity: Option<Rate>,
    /// With --overload: for how long new pods arrive.
    #[arg(long, value_name = "D", requires = "overload", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Other apps that ask steadily, before the storm and during it, each call as a new pod.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub background_apps: Option<u32>,
    /// Calls a second of each of them.
    #[arg(long, value_name = "R", default_value = "10", requires = "background_apps", value_parser = parse_background_rate)]
    pub background_rate: Rate,

    /// Worker threads of the gateway child.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "endpoint")]
    pub workers: NonZeroU32,
    /// Whether generator and gateway child get a core each. [default: off; with --overload on]
    #[arg(long, value_enum, conflicts_with = "endpoint")]
    pub pin: Option<Pin>,
    /// Cores' worth of CPU time that the gateway child may use, such as 0.1 (a control group; needs the right to make one).
    #[arg(long, value_name = "Q", conflicts_with = "endpoint", value_parser = parse_cpu_quota)]
    pub cpu_quota: Option<f64>,
    /// An ACL service behind the gateway child, http://HOST:PORT, which must learn of each grant before its pod does.
    #[arg(long, value_name = "URI", value_parser = plain_endpoint, conflicts_with = "endpoint")]
    pub upstream: Option<Endpoint>,
    /// A running gateway to storm, http://HOST:PORT, instead of a child.
    #[arg(long, value_name = "URI", value_parser = plain_endpoint)]
    pub endpoint: Option<Endpoint>,
    /// With --endpoint: don't apply the profiles; the gateway has them (apps storm-00000, storm-00001, …, and
    /// storm-bg-00000, … of the background).
    #[arg(long, requires = "endpoint")]
    pub no_apply: bool,
    /// Kill the gateway (SIGKILL) this long after the storm's start, start it again on the same ports and store, and
    /// verify in the end that no acknowledged grant is gone.
    #[arg(long, value_name = "D", value_parser = parse_duration, conflicts_with = "endpoint")]
    pub kill_gateway_after: Option<Duration>,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with figures and charts to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl StormArgs {
    /// How pods arrive.
    pub fn arrivals(&self) -> Arrivals {
        match (self.overload, self.capacity, self.duration) {
            (Some(factor), Some(capacity), Some(duration)) => {
                Arrivals::Overload(Overload { factor, capacity, duration })
            }
            // The flags of an overload are there together, or not at all.
            _ => Arrivals::Storm { pods: self.pods, spread: self.spread },
        }
    }

    /// Rate of each app's bucket.
    pub fn rate(&self) -> Rate {
        self.rate.unwrap_or_else(|| match self.arrivals() {
            Arrivals::Storm { .. } => Rate::per_second(RATE),
            Arrivals::Overload(overload) => overload.capacity,
        })
    }

    /// Burst of each app's bucket.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or_else(|| match self.arrivals() {
            Arrivals::Storm { .. } => BURST,
            Arrivals::Overload(overload) => overload.capacity_burst(),
        })
    }

    /// Time after which a pod gives up.
    pub fn budget(&self) -> Duration {
        self.budget.unwrap_or(match self.arrivals() {
            Arrivals::Storm { .. } => BUDGET,
            Arrivals::Overload(_) => BUDGET_OF_OVERLOAD,
        })
    }

    /// Whether generator and gateway get a core each. Another's gateway is left where it is.
    pub fn pin(&self) -> Pin {
        match (self.pin, self.arrivals(), &self.endpoint) {
            (Some(pin), _, _) => pin,
            (None, Arrivals::Overload(_), None) => Pin::On,
            (None, Arrivals::Overload(_), Some(_)) | (None, Arrivals::Storm { .. }, _) => Pin::Off,
        }
    }
}

/// Whether generator and gateway child get a core each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pin {
    /// Each its own, where there are two.
    On,
    /// Wherever the kernel puts them.
    Off,
}

/// Storms are made in plain text, on loopback or a test network.
fn plain_endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint =
        text.parse().map_err(|error: podgate_client::EndpointError| error.to_string())?;
    if endpoint.to_string().starts_with("http://") {
        Ok(endpoint)
    } else {
        Err("expected http://HOST:PORT: storms are made in plain text".to_owned())
    }
}

fn parse_factor(text: &str) -> Result<f64, String> {
    number_within(text, 0.01, 1000.0)
}

fn parse_cpu_quota(text: &str) -> Result<f64, String> {
    number_within(text, 0.01, 64.0)
}

fn number_within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

/// Less than one a second would take too long for a p99, and more than 100 would be a storm.
fn parse_background_rate(text: &str) -> Result<Rate, String> {
    let rate: Rate = text.parse().map_err(|error: crate::quantity::QuantityError| error.to_string())?;
    if (1.0..=100.0).contains(&rate.per_s()) {
        Ok(rate)
    } else {
        Err("expected a rate from 1 to 100 a second".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, Policy};

    impl StormArgs {
        /// The flags of a command line, for the tests of whatever reads them.
        pub(crate) fn of(line: &str) -> Self {
            let words = ["podgate-loadtest", "storm"].into_iter().chain(line.split_whitespace());
            match Cli::try_parse_from(words).unwrap().command {
                Command::Storm(args) => args,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_overload_has_defaults_of_its_own() {
        let storm = StormArgs::of("");
        assert_eq!((storm.rate().per_s(), storm.burst(), storm.budget()), (50.0, 20, BUDGET));
        assert_eq!((storm.pin(), storm.retry.policy), (Pin::Off, Policy::Booked));
        let overload = StormArgs::of("--overload 2.5 --capacity 600/m --duration 4s");
        assert_eq!((overload.rate().per_s(), overload.burst()), (10.0, 10));
        assert_eq!((overload.budget(), overload.pin()), (BUDGET_OF_OVERLOAD, Pin::On));
        let Arrivals::Overload(arrivals) = overload.arrivals() else { panic!("{overload:?}") };
        assert_eq!(arrivals.pods().get(), 100);
        let given =
            StormArgs::of("--overload 2 --capacity 9 --duration 4s --rate 7 --burst 3 --budget 1s --pin off");
        assert_eq!((given.rate().per_s(), given.burst(), given.budget().as_secs()), (7.0, 3, 1));
        assert_eq!(given.pin(), Pin::Off);
        let running = StormArgs::of("--overload 2 --capacity 9 --duration 4s --endpoint http://127.0.0.1:1");
        assert_eq!(running.pin(), Pin::Off);
    }
}
