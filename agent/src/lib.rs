//! The nftables enforcer of podgate: watches the grants of what a host guards, and keeps sets of its firewall in step.
//!
//! What should be in the sets is decided by `books`, which is pure; `kernel` makes it so with `nft` and `conntrack`, and
//! `agent` stands between it and the gateway.
//!
//! In reading order:

mod cli;
mod exit_code;

mod agent;

mod door;
mod openings;

mod guards;
mod ledger;

mod books;
mod wire;

mod gateway;
mod kernel;
mod ruleset;

mod clock;
mod log;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing::{error, info};

use crate::{
    agent::Agent,
    books::{Books, Limits},
    cli::Cli,
    gateway::Gateway,
    guards::Guards,
    kernel::{Kernel, sets::Sets},
    log::causes,
};

/// Most grants that are remembered: as many as a gateway holds.
const GRANTS_MAX: usize = 1_000_000;

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Where nobody reads it there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit_code::MISCONFIGURED } else { exit_code::OK });
        }
    };
    if let Some(fault) = cli.fault() {
        return misconfigured(&fault);
    }
    let sets = Sets { table: cli.table.clone(), set: cli.set.clone(), elements_max: cli.set_size };
    if cli.print_ruleset {
        let text = ruleset::example(&sets, &Guards::new(cli.guards));
        let printed = io::stdout().lock().write_all(text.as_bytes());
        return ExitCode::from(if printed.is_ok() { exit_code::OK } else { exit_code::FAILED });
    }
    if let Err(fault) = log::begin(&cli.log_level) {
        return misconfigured(&fault);
    }
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(run(cli, sets))),
        Err(failure) => {
            error!(reason = %failure, "no runtime");
            ExitCode::from(exit_code::FAILED)
        }
    }
}

fn misconfigured(fault: &str) -> ExitCode {
    // Where nobody reads it there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "error: {fault}");
    ExitCode::from(exit_code::MISCONFIGURED)
}

async fn run(cli: Cli, sets: Sets) -> u8 {
    let limits = Limits { grants_max: GRANTS_MAX, elements_max: cli.set_size as usize };
    let gateway = Gateway {
        endpoint: cli.gateway,
        guards: Guards::new(cli.guards),
        cluster: cli.cluster,
        enforcer: cli.name.unwrap_or_else(|| own_name(&sets)),
        silence: cli.silence,
    };
    let kernel = Kernel { sets, nft: cli.nft, conntrack: cli.conntrack, connections: cli.connections };
    let begun = Agent::begin(gateway, kernel, Books::new(limits), cli.audit_every).await;
    let agent = match begun {
        Ok(agent) => agent,
        Err(failure) => {
            error!(reason = %causes(&failure), "ending");
            return exit_code::FAILED;
        }
    };
    if cli.once {
        return match agent.once().await {
            Ok(()) => exit_code::OK,
            Err(failure) => {
                error!(reason = %causes(&failure), "not everything is in force");
                exit_code::FAILED
            }
        };
    }
    tokio::select! {
        never = agent.run() => never,
        name = told_to_end() => {
            info!(signal = name, "ending: the sets stay as they are, and what is open stays open until its time is over");
            exit_code::OK
        }
    }
}

/// The host's name, and which of its sets this is.
fn own_name(sets: &Sets) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}/{}/{}", sets.table, sets.set)
}

/// Waits for a signal that ends the program; where the system refuses to deliver one, it is waited for in vain.
async fn told_to_end() -> &'static str {
    let wait = async |kind: SignalKind| match signal(kind) {
        Ok(mut stream) => stream.recv().await,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = wait(SignalKind::terminate()) => "SIGTERM",
        _ = wait(SignalKind::interrupt()) => "SIGINT",
    }
}
