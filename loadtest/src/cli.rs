//! The command line, whole: a contract.

mod arrivals;
pub mod incident;
mod retry;
mod simulate;
mod storm;
mod watch;

use std::{ffi::OsString, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    bench::mode::Modes,
    cli::incident::{BackendArgs, IncidentArgs, PlainAclArgs},
    quantity::parse_duration,
};

pub use crate::cli::{
    arrivals::{Arrivals, Overload},
    retry::{Policy, RetryArgs},
    simulate::SimulateArgs,
    storm::{Pin, StormArgs},
    watch::WatchArgs,
};

/// Proves on real sockets what a podgate gateway holds, and tells beforehand what it will hold.
///
/// Exit codes: 0 all bounds held, 1 a promise was broken, 2 wrong usage, 3 the run could not be made,
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "podgate-loadtest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lets N virtual pods arrive at once, or more than the gateway can admit for a while, and reports how they fared.
    Storm(StormArgs),
    /// Shows the collapse and the cure side by side: retries against a plain ACL service, and podgate before the same
    /// slow backend.
    Incident(IncidentArgs),
    /// Plays a storm through in simulated time, with the gateway's engine and the client's schedule: 100,000 pods in
    /// seconds, with what goes wrong, the same for every run of a seed.
    Simulate(SimulateArgs),
    /// Measures calls a second, latency and CPU time a call, beside a bare tonic echo.
    Bench(BenchArgs),
    /// Measures how soon a new watcher has all grants, and how far behind it is while they change.
    Watch(WatchArgs),
    /// Writes profiles for any number of apps, from a seed.
    Generate(GenerateArgs),
    /// A real gateway as a child process: the rest is its command line.
    #[command(hide = true)]
    Gateway(GatewayArgs),
    /// The bare tonic echo as a child process.
    #[command(hide = true)]
    Echo(EchoArgs),
    /// A slow ACL backend as a child process.
    #[command(hide = true)]
    Backend(BackendArgs),
    /// A plain ACL service as a child process.
    #[command(hide = true)]
    PlainAcl(PlainAclArgs),
}

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// What to call: common, repeat, fresh, check, denied, throttled, or all of them in turn.
    #[arg(long, value_name = "M", default_value = "all")]
    pub mode: Modes,
    /// Connections, each from its own address.
    #[arg(long, value_name = "C", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub connections: u32,
    /// Calls in flight on each connection.
    #[arg(long, value_name = "F", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub in_flight: u32,
    /// Measured time for each mode and server.
    #[arg(long, value_name = "D", default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Measure a bare tonic echo of the same messages too, in turns of 2 s, and print the ratios.
    #[arg(long)]
    pub baseline: bool,
    /// Worker threads of the gateway and of the echo.
    #[arg(long, value_name = "N", default_value = "1")]
    pub workers: NonZeroU32,
    /// Addresses that the gateway has seen, and tracks, before the measurement.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub addresses: u32,
    /// Grants that the gateway holds before the measurement, each of a pod at an address of its own; mode check asks for these.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub grants: u32,
    /// Seed of addresses and uids.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// Write the figures to this file: one object, or with --mode all an array of them.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Flags of `generate`.
#[derive(Debug, Clone, Args)]
pub struct GenerateArgs {
    /// Apps, a profile each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub apps: u32,
    /// Rules a profile.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub rules: u32,
    /// Seed: the same seed and rules give app i the same profile, however many apps there are.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub seed: u64,
    /// Directory to write to. Made if it is not there; one that is not empty must be of an earlier `generate`.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Profiles a file.
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub per_file: u32,
}

/// Flags of the hidden `gateway`.
#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// The process to die with.
    #[arg(long)]
    pub parent: u32,
    /// The gateway's arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Flags of the hidden `echo`.
#[derive(Debug, Clone, Args)]
pub struct EchoArgs {
    /// The process to die with.
    #[arg(long)]
    pub parent: u32,
    /// Worker threads, a `current_thread` runtime and a listener each.
    #[arg(long)]
    pub workers: NonZeroU32,
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// The answer to give.
    #[arg(long)]
    pub answer: PathBuf,
    /// Where to say, once ready, which address it is.
    #[arg(long)]
    pub address_file: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn takes_the_contracts_flags() {
        let line = "podgate-loadtest storm --pods 2000 --apps 20 --spread 1s --rate 50 --burst 20 --policy immediate \
                    --base 1s --cap 30s --attempts 0 --seed 7 --endpoint http://127.0.0.1:7420 --json out.json";
        let Command::Storm(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not a storm")
        };
        assert_eq!((args.pods.get(), args.apps, args.retry.attempts, args.seed), (2000, 20, 0, 7));
        let line =
            "podgate-loadtest bench --mode fresh --connections 8 --in-flight 32 --duration 10s --baseline";
        assert!(Cli::try_parse_from(line.split_whitespace()).is_ok());
    }

    #[test]
    fn forwards_the_gateways_arguments_as_they_are() {
        let line = "podgate-loadtest gateway --parent 7 -- serve --listen 127.0.0.1:0 --help";
        let Command::Gateway(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!("not a gateway")
        };
        assert_eq!(args.arguments, ["serve", "--listen", "127.0.0.1:0", "--help"]);
    }

    #[test]
    fn says_what_was_expected() {
        for (line, expected) in [
            ("storm --spread 1x", "expected a duration such as 400ms, 1s, 2m or 1m30s"),
            ("storm --rate 0", "expected a rate such as 50"),
            ("storm --pods 0", "zero"),
            ("storm --endpoint https://h:1", "http://HOST:PORT"),
            ("storm --polcy jitter", "--policy"),
            ("storm --no-apply", "--endpoint"),
            ("storm --endpoint http://h:1 --kill-gateway-after 1s", "cannot be used with"),
            ("storm --overload 10 --duration 1s", "--capacity"),
            ("storm --overload 10 --capacity 9", "--duration"),
            ("storm --capacity 9", "--overload"),
            ("storm --overload 10 --capacity 9 --duration 1s --pods 5", "cannot be used with"),
            ("storm --overload 0 --capacity 9 --duration 1s", "from 0.01 to 1000"),
            ("storm --background-rate 5", "--background-apps"),
            ("storm --background-apps 1 --background-rate 30/m", "from 1 to 100 a second"),
            ("storm --cpu-quota 0", "from 0.01 to 64"),
            ("simulate --loss 1.5", "from 0 to 1"),
            ("simulate --horizon 1s", "from 2s to 60m"),
            ("simulate --within 2m --rate 5", "cannot be used with"),
            ("simulate --within 2m --seeds 5", "cannot be used with"),
            ("simulate --pods 2000000", "1000000"),
            ("bench --mode fish", "common, repeat, fresh, check, denied, throttled or all"),
            ("storm --upstream http://h:1 --endpoint http://h:2", "cannot be used with"),
            ("incident --backend-time 2s", "expected 1ms to 1s"),
            ("generate --apps 3", "--out"),
        ] {
            let words = std::iter::once("podgate-loadtest").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
