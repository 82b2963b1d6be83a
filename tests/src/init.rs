//! The init container's program as a child process.

use std::{fs::File, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use crate::{
    binary::Binary,
    eventually::{eventually, within},
    home::Home,
};

const OUT: &str = "init.out";
const GRANT: &str = "grant.json";
const TERMINATION: &str = "termination.json";

/// A run of `podgate-init` that has not begun.
#[derive(Debug)]
pub struct Init {
    home: Home,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

/// A run under way. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    home: Home,
    child: Child,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    home: Home,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
}

impl Init {
    /// A pod of namespace and service account `shop`, for the app `app`.
    pub fn for_app(app: &str, endpoint: &str) -> Self {
        Self::bare()
            .argument("--app", app)
            .argument("--endpoint", endpoint)
            .variable("POD_UID", "0d1c-7")
            .variable("POD_NAME", "shop-7f-x7k2p")
            .variable("POD_NAMESPACE", "shop")
            .variable("POD_SERVICE_ACCOUNT", "shop")
            .variable("POD_IP", "127.0.0.1")
            .variable("NODE_NAME", "node-3")
    }

    /// Without anything but the files that it writes.
    pub fn bare() -> Self {
        let home = Home::new();
        let path = |name: &str| home.path(name).display().to_string();
        let arguments =
            vec!["--grant-file".into(), path(GRANT), "--termination-log".into(), path(TERMINATION)];
        Self { home, arguments, variables: Vec::new() }
    }

    /// With this flag.
    #[must_use]
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// With this variable; the last of a name holds.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The temporary directory.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Begins the run.
    ///
    /// # Panics
    ///
    /// Panics if it does not start.
    pub fn start(self) -> Running {
        let out = File::create(self.home.path(OUT)).unwrap_or_else(|error| panic!("no output file: {error}"));
        let mut command = Binary::Init.command();
        command.args(self.arguments).envs(self.variables).stdout(out).stderr(Stdio::inherit());
        let child = command.spawn().unwrap_or_else(|error| panic!("podgate-init does not start: {error}"));
        Running { home: self.home, child }
    }

    /// Runs it to its end.
    pub async fn run(self) -> Finished {
        self.start().finished().await
    }
}

impl Running {
    /// Waits until it has said something.
    pub async fn until_said(&self, words: &str) {
        let said = || self.home.read(OUT).is_some_and(|out| out.contains(words));
        eventually(words, async || said().then_some(())).await;
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Panics if it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let sent = pid.map(|pid| kill_process(pid, signal));
        assert!(matches!(sent, Some(Ok(()))), "podgate-init cannot be signalled: {sent:?}");
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// Panics if it does not end.
    pub async fn finished(mut self) -> Finished {
        match within("the end of podgate-init", self.child.wait()).await {
            Ok(status) => Finished { home: self.home, code: status.code() },
            Err(error) => panic!("the end of podgate-init is unknown: {error}"),
        }
    }
}

impl Finished {
    /// What it said.
    pub fn out(&self) -> String {
        self.home.read(OUT).unwrap_or_default()
    }

    /// The grant that it wrote, if it did.
    pub fn grant(&self) -> Option<Value> {
        self.json(GRANT)
    }

    /// The termination message.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn termination(&self) -> Value {
        self.json(TERMINATION).unwrap_or_else(|| panic!("no termination message; it said: {}", self.out()))
    }

    fn json(&self, name: &str) -> Option<Value> {
        let text = self.home.read(name)?;
        Some(
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} is no JSON ({error}): {text}")),
        )
    }
}
