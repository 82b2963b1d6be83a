//! The binaries under test: where they are, and how one is run to its end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::eventually::within;

/// A program of this workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// The gateway.
    Podgate,
    /// The init container.
    Init,
    /// The nftables agent.
    Agent,
    /// The load tester.
    LoadTest,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Binary {
    fn name(self) -> &'static str {
        match self {
            Self::Podgate => "podgate",
            Self::Init => "podgate-init",
            Self::Agent => "podgate-agent",
            Self::LoadTest => "podgate-loadtest",
        }
    }

    /// Where it is: beside the test executable's directory, `target/<profile>/deps`.
    ///
    /// # Panics
    ///
    /// Panics if it has not been built.
    pub fn path(self) -> PathBuf {
        let name = self.name();
        let path = match std::env::current_exe().as_deref().map(Path::ancestors) {
            Ok(ancestors) => ancestors.skip(2).map(|directory| directory.join(name)).next(),
            Err(_) => None,
        };
        match path {
            Some(path) if path.is_file() => path,
            Some(path) => {
                panic!("{} is not there; build it first: cargo build --workspace --bins", path.display())
            }
            None => panic!("this test executable lies in no target directory, and so {name} is nowhere"),
        }
    }

    /// A command with an empty environment, ended by its own pid when its handle is dropped.
    pub fn command(self) -> Command {
        let mut command = Command::new(self.path());
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs it to its end, from the workspace's root.
    ///
    /// # Panics
    ///
    /// Panics if it does not start, or does not end.
    pub async fn run(self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = self.command();
        command.args(arguments).envs(variables.iter().copied()).current_dir(crate::workspace::root());
        let output = match within(self.name(), command.output()).await {
            Ok(output) => output,
            Err(error) => panic!("{} does not start: {error}", self.name()),
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}
