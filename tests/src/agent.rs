//! The nftables agent as a child process, and the firewall that it keeps.

use std::{
    fs::File,
    process::{Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use crate::{
    binary::{Binary, Ended},
    eventually::{eventually, within},
    home::Home,
};

const LOG: &str = "agent.log";

/// An agent that is not running.
#[derive(Debug)]
pub struct AgentSetup {
    home: Home,
    arguments: Vec<String>,
}

/// A running agent. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    setup: AgentSetup,
    child: Child,
}

impl AgentSetup {
    /// An agent that guards something, and watches the gateway at a port of loopback.
    pub fn new(guard: &str, gateway_port: u16) -> Self {
        Self { home: Home::new(), arguments: Vec::new() }
            .flag("--guard", guard)
            .flag("--gateway", &format!("http://127.0.0.1:{gateway_port}"))
            .flag("--name", "agent-of-a-test")
    }

    /// With this flag.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Loads the chain that it prints into the firewall.
    ///
    /// # Panics
    ///
    /// Panics if it prints none, or nft does not take it.
    pub async fn load_ruleset(&self) {
        let printed = self.run_with("--print-ruleset").await;
        assert_eq!(printed.code, Some(0), "{}", printed.err);
        self.home.write("ruleset.nft", printed.out);
        nft(&["-f", &self.home.path("ruleset.nft").display().to_string()]);
    }

    /// Runs it to its end, with one flag more.
    pub async fn run_with(&self, flag: &str) -> Ended {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).chain([flag]).collect();
        Binary::Agent.run(&arguments, &[]).await
    }

    /// Starts it, and waits until all that is granted is in force.
    pub async fn start(self) -> Agent {
        let agent = self.spawn();
        agent.until_said("all that is granted is in force").await;
        agent
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn spawn(self) -> Agent {
        let log = File::create(self.home.path(LOG)).unwrap_or_else(|error| panic!("no log file: {error}"));
        let mut command = Binary::Agent.command();
        command.args(&self.arguments).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("the agent does not start: {error}"));
        Agent { setup: self, child }
    }
}

impl Agent {
    /// What it has logged since it was started.
    pub fn log(&self) -> String {
        self.setup.home.read(LOG).unwrap_or_default()
    }

    /// Waits until it has logged something.
    pub async fn until_said(&self, words: &str) {
        eventually(words, async || self.log().contains(words).then_some(())).await;
    }

    /// Waits until it has logged something so many times.
    pub async fn until_said_times(&self, words: &str, times: usize) {
        eventually(words, async || (self.log().matches(words).count() >= times).then_some(())).await;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Panics if it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let sent = pid.map(|pid| kill_process(pid, signal));
        assert!(matches!(sent, Some(Ok(()))), "the agent cannot be signalled: {sent:?}");
    }

    /// Kills it (SIGKILL).
    pub async fn kill(self) -> AgentSetup {
        self.end_by(Signal::KILL).await.1
    }

    /// Sends it a signal that ends it, and waits until it has ended.
    ///
    /// # Panics
    ///
    /// Panics if it does not end.
    pub async fn end_by(mut self, signal: Signal) -> (ExitStatus, AgentSetup) {
        self.signal(signal);
        match within("the agent's end", self.child.wait()).await {
            Ok(status) => (status, self.setup),
            Err(error) => panic!("the agent's end is unknown: {error}"),
        }
    }
}

impl AgentSetup {
    /// What it has logged in its last run.
    pub fn log(&self) -> String {
        self.home.read(LOG).unwrap_or_default()
    }
}

/// Runs nft in this thread's namespace, and returns what it says.
///
/// # Panics
///
/// Panics if it fails.
pub fn nft(arguments: &[&str]) -> String {
    let output = Command::new("/usr/sbin/nft").args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("nft: {error}; `./test` installs it (Debian: nftables)"));
    assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
