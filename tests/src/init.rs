//! The init container's program as a child process: as an init container, as a sidecar, and what is run beside it.

use std::{fs::File, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use crate::{
    binary::{Binary, Ended},
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
    init: Init,
    child: Child,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    init: Init,
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

    /// The same as a sidecar.
    pub fn sidecar(app: &str, endpoint: &str) -> Self {
        Self::for_app(app, endpoint).command("sidecar")
    }

    /// Without anything but the files that it writes.
    pub fn bare() -> Self {
        let home = Home::new();
        let path = |name: &str| home.path(name).display().to_string();
        let (grant, termination) = (path(GRANT), path(TERMINATION));
        Self { home, arguments: Vec::new(), variables: Vec::new() }
            .variable("PODGATE_GRANT_FILE", &grant)
            .variable("PODGATE_TERMINATION_LOG", &termination)
    }

    /// With this command.
    #[must_use]
    pub fn command(mut self, name: &str) -> Self {
        self.arguments.insert(0, name.to_owned());
        self
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
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).envs(variables).stdout(out).stderr(Stdio::inherit());
        let child = command.spawn().unwrap_or_else(|error| panic!("podgate-init does not start: {error}"));
        Running { init: self, child }
    }

    /// Runs it to its end.
    pub async fn run(self) -> Finished {
        self.start().finished().await
    }

    /// Runs the program with the variables of this one, as a probe or a hook does.
    pub async fn beside(&self, arguments: &[&str]) -> Ended {
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Binary::Init.run(arguments, &variables.collect::<Vec<_>>()).await
    }
}

impl Running {
    /// Waits until it has said something.
    pub async fn until_said(&self, words: &str) {
        self.until_said_times(words, 1).await;
    }

    /// Waits until it has said something so many times.
    pub async fn until_said_times(&self, words: &str, times: usize) {
        let said = || self.out().matches(words).count() >= times;
        eventually(words, async || said().then_some(())).await;
    }

    /// What it has said so far.
    pub fn out(&self) -> String {
        self.init.home.read(OUT).unwrap_or_default()
    }

    /// The grant that it has written, if it has.
    pub fn grant(&self) -> Option<Value> {
        json(&self.init.home, GRANT)
    }

    /// Runs the program beside it, with its variables, as a probe or a hook does.
    pub async fn beside(&self, arguments: &[&str]) -> Ended {
        self.init.beside(arguments).await
    }

    /// Kills it (SIGKILL), and leaves its files for another start.
    ///
    /// # Panics
    ///
    /// Panics if it does not end.
    pub async fn kill(mut self) -> Init {
        self.signal(Signal::KILL);
        match within("the end of podgate-init", self.child.wait()).await {
            Ok(_) => self.init,
            Err(error) => panic!("the end of podgate-init is unknown: {error}"),
        }
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
            Ok(status) => Finished { init: self.init, code: status.code() },
            Err(error) => panic!("the end of podgate-init is unknown: {error}"),
        }
    }
}

impl Finished {
    /// What it said.
    pub fn out(&self) -> String {
        self.init.home.read(OUT).unwrap_or_default()
    }

    /// The grant that it wrote, if it did.
    pub fn grant(&self) -> Option<Value> {
        json(&self.init.home, GRANT)
    }

    /// Writes the grant anew, as it was.
    pub fn put_grant_back(&self, grant: &Value) {
        self.init.home.write(GRANT, grant.to_string());
    }

    /// Runs the program after it, with its variables and its files, as a hook does.
    pub async fn beside(&self, arguments: &[&str]) -> Ended {
        self.init.beside(arguments).await
    }

    /// The termination message.
    ///
    /// # Panics
    ///
    /// Panics if there is none.
    pub fn termination(&self) -> Value {
        let said = || panic!("no termination message; it said: {}", self.out());
        json(&self.init.home, TERMINATION).unwrap_or_else(said)
    }
}

fn json(home: &Home, name: &str) -> Option<Value> {
    let text = home.read(name)?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name} is no JSON ({error}): {text}")))
}
