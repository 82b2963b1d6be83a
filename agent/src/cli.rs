//! The command line, whole: a contract.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use podgate_client::Endpoint;
use podgate_engine::destination::Destination;

use crate::kernel::{Connections, sets::NftName};

/// Keeps an nftables set of this host in step with podgate's grants.
///
/// The set holds who may reach the guarded ports now: source address, protocol and port, each with the rest of its
/// grant's life as its timeout. The chain that looks into it is yours; `--print-ruleset` shows one.
///
/// Exit codes: 0 ended by a signal, or done with --once; 1 the firewall cannot be changed, or with --once not all is in
/// force; 2 wrong usage.
#[derive(Clone, Debug, Parser)]
#[command(name = "podgate-agent", version)]
pub(crate) struct Cli {
    /// The gateway, http://host:port (port 7420 unless given).
    #[arg(long, value_name = "URI", env = "PODGATE_AGENT_GATEWAY", default_value = "http://127.0.0.1:7420")]
    pub(crate) gateway: Endpoint,
    /// What this host guards, host:port[-last][/tcp|udp]: a name or address by which profiles know it. Repeat it, or
    /// separate by commas. All of them are one destination; run an agent with a set of its own for each other one.
    #[arg(
        long = "guard",
        value_name = "HOST:PORT",
        env = "PODGATE_AGENT_GUARDS",
        required = true,
        value_delimiter = ','
    )]
    pub(crate) guards: Vec<Destination>,
    /// Name of this enforcer, the same whenever it comes back and of no other: who asks for access with a barrier waits
    /// for it. Unless given, the host's name, the table's and the set's, with slashes between them.
    #[arg(long, value_name = "NAME", env = "PODGATE_AGENT_NAME", value_parser = word)]
    pub(crate) name: Option<String>,
    /// Only grants of this cluster; empty: of any.
    #[arg(
        long,
        value_name = "NAME",
        env = "PODGATE_AGENT_CLUSTER",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) cluster: String,
    /// Table of family inet that holds the sets; made where it is not there.
    #[arg(long, value_name = "NAME", env = "PODGATE_AGENT_TABLE", default_value = "podgate")]
    pub(crate) table: NftName,
    /// Name of the sets, to which 4 and 6 are added; made where they are not there, and the agent's alone.
    #[arg(long, value_name = "NAME", env = "PODGATE_AGENT_SET", default_value = "allowed")]
    pub(crate) set: NftName,
    /// Most elements in each of the two sets. Whoever finds no room stays out until there is some.
    #[arg(
        long,
        value_name = "N",
        env = "PODGATE_AGENT_SET_SIZE",
        default_value_t = 65_536,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub(crate) set_size: u32,
    /// What becomes of open connections that are not allowed any more.
    #[arg(long, value_name = "close|keep", env = "PODGATE_AGENT_CONNECTIONS", default_value = "close")]
    pub(crate) connections: Connections,
    /// A gateway that is silent for so long is dialed anew (1s to 1h).
    #[arg(
        long,
        value_name = "SPAN",
        env = "PODGATE_AGENT_SILENCE",
        default_value = "30s",
        value_parser = span
    )]
    pub(crate) silence: Duration,
    /// How often the sets are compared with what they should hold (1s to 1h).
    #[arg(
        long,
        value_name = "SPAN",
        env = "PODGATE_AGENT_AUDIT_EVERY",
        default_value = "60s",
        value_parser = span
    )]
    pub(crate) audit_every: Duration,
    /// The nft program.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/nft")]
    pub(crate) nft: PathBuf,
    /// The conntrack program; not needed with --connections keep.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/conntrack")]
    pub(crate) conntrack: PathBuf,
    /// What is logged: error, warn, info, debug or trace, or a filter such as info,podgate_agent=debug.
    #[arg(long, value_name = "FILTER", env = "PODGATE_AGENT_LOG", default_value = "info")]
    pub(crate) log_level: String,
    /// Take one snapshot, put it in force and end. Tries once.
    #[arg(long, conflicts_with = "print_ruleset")]
    pub(crate) once: bool,
    /// Print table, sets and a chain that uses them, as nft -f reads it, and end.
    #[arg(long)]
    pub(crate) print_ruleset: bool,
}

impl Cli {
    /// What is wrong with the command line and the parts of it cannot tell.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.gateway.to_string().starts_with("https:") {
            return Some("--gateway: the agent speaks no TLS yet; expected http://".to_owned());
        }
        (self.cluster.len() > 63).then(|| "--cluster: expected at most 63 bytes".to_owned())
    }
}

fn word(text: &str) -> Result<String, String> {
    if (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 253 printable ASCII characters without spaces".to_owned())
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let span = humantime::parse_duration(text).map_err(|error| format!("{error}; expected such as 30s"))?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3_600);
    if bounds.contains(&span) { Ok(span) } else { Err("expected 1s to 1h".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let read = |more: &[&str]| {
            let arguments = ["podgate-agent", "--guard", "db.svc:3306,10.9.0.5:3306"];
            Cli::try_parse_from(arguments.iter().chain(more))
        };
        let cli = read(&[]).unwrap();
        assert_eq!((cli.guards.len(), cli.fault()), (2, None));
        assert!(read(&["--gateway", "https://gateway"]).unwrap().fault().is_some());
        for wrong in [
            &["--guard", "db"][..],
            &["--set", "a;b"],
            &["--set-size", "0"],
            &["--silence", "1ms"],
            &["--connections", "perhaps"],
            &["--name", "db 1"],
            &["--once", "--print-ruleset"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(Cli::try_parse_from(["podgate-agent"]).is_err());
    }
}
