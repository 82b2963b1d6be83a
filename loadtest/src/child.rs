//! Servers as child processes: this program, started again under a hidden command, and ended with it.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::CpuSet,
};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::affinity;

/// Time for a server to become ready.
const START_MAX: Duration = Duration::from_mins(1);
/// How often a starting server is looked at.
const START_LOOK: Duration = Duration::from_millis(5);
/// Last lines of a dead server's log that are shown.
const LOG_LINES_MAX: usize = 20;

/// What goes wrong with a child.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("the {name} could not be started: {source}")]
    NotStarted {
        /// Which server.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("the {name} ended by itself ({status}); the last lines of its log:\n{log}")]
    Died {
        /// Which server.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of its log, indented.
        log: String,
    },
    /// It did not become ready in time.
    #[error("the {name} was not ready after {} s; the last lines of its log:\n{log}", START_MAX.as_secs())]
    NotReady {
        /// Which server.
        name: &'static str,
        /// The end of its log, indented.
        log: String,
    },
}

/// How to start a server; can be started again after its end.
#[derive(Debug, Clone)]
pub struct ServerCommand {
    /// The hidden command, which names the server in messages too.
    pub name: &'static str,
    /// Its arguments; `--address-file FILE` is added.
    pub arguments: Vec<OsString>,
    /// Its working directory, where its log and address file lie as well.
    pub directory: PathBuf,
    /// What it may use.
    pub confinement: Confinement,
}

/// What a server may use of the machine; by default, all.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// The cores that it may run on.
    pub cores: Option<CpuSet>,
    /// The file that takes the ids of those who are to be in the control group that bounds its CPU time.
    pub group_members: Option<PathBuf>,
}

/// What a server's address file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Where it speaks gRPC.
    pub grpc: SocketAddr,
    /// Where it speaks HTTP, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
}

/// A server that runs as a child process. Dropped, it is killed; and it dies with this process, however that ends.
#[derive(Debug)]
pub struct ServerChild {
    /// Where it listens.
    pub addresses: Addresses,
    /// Its process id.
    pub pid: u32,
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl ServerCommand {
    /// Starts it and waits until it is ready.
    ///
    /// To be called on the main thread: the kernel ends the child when the *thread* that started it ends.
    pub async fn start(&self) -> Result<ServerChild, ChildError> {
        let not_started = |source| ChildError::NotStarted { name: self.name, source };
        let address_file = self.directory.join(format!("{}-address.json", self.name));
        match fs::remove_file(&address_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(not_started(error)),
            Ok(()) | Err(_) => {}
        }
        let log = self.directory.join(format!("{}.log", self.name));
        let output = File::options().create(true).append(true).open(&log).map_err(not_started)?;
        // A child may run where the thread that started it could.
        let stay = self.confinement.cores.as_ref().map(affinity::stay_on).transpose().map_err(not_started)?;
        let child = Command::new(std::env::current_exe().map_err(not_started)?)
            .arg(self.name)
            .args(["--parent", &std::process::id().to_string()])
            .args(&self.arguments)
            .arg("--address-file")
            .arg(&address_file)
            .current_dir(&self.directory)
            // A PODGATE_* variable of the person's shell is not meant for this server.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(not_started)?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        drop(stay);
        // A child that has not been waited for has an id.
        let pid = child.id().ok_or_else(|| not_started(io::Error::other("it has no process id")))?;
        if let Some(members) = &self.confinement.group_members {
            fs::write(members, pid.to_string()).map_err(not_started)?;
        }
        let starting = Starting { name: self.name, log, child };
        tokio::time::timeout(START_MAX, starting.until_ready(pid, &address_file))
            .await
            .unwrap_or_else(|_| Err(ChildError::NotReady { name: self.name, log: self.log_end() }))
    }

    fn log_end(&self) -> String {
        last_lines(&self.directory.join(format!("{}.log", self.name)))
    }
}

struct Starting {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Starting {
    async fn until_ready(mut self, pid: u32, address_file: &Path) -> Result<ServerChild, ChildError> {
        let name = self.name;
        loop {
            if let Some(status) =
                self.child.try_wait().map_err(|source| ChildError::NotStarted { name, source })?
            {
                return Err(ChildError::Died { name, status, log: last_lines(&self.log) });
            }
            // The file appears whole: it is renamed into place.
            if let Ok(text) = fs::read_to_string(address_file) {
                let addresses = serde_json::from_str(&text)
                    .map_err(|error| ChildError::NotStarted { name, source: io::Error::from(error) })?;
                return Ok(ServerChild { addresses, pid, name, log: self.log, child: self.child });
            }
            tokio::time::sleep(START_LOOK).await;
        }
    }
}

impl ServerChild {
    /// Waits until it ends by itself, which it should not.
    pub async fn death(&mut self) -> ChildError {
        match self.child.wait().await {
            Ok(status) => ChildError::Died { name: self.name, status, log: last_lines(&self.log) },
            Err(source) => ChildError::NotStarted { name: self.name, source },
        }
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }
}

/// Called by a child first of all: ties its life to that of `parent`.
pub fn die_with(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let actual = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if actual == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other(format!("process {parent}, which should be the parent of this one, is gone")))
    }
}

/// The last lines of a log, indented; what cannot be read is said in their place.
fn last_lines(log: &Path) -> String {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) => return format!("  (not readable: {error})"),
    };
    let mut lines = VecDeque::new();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        if lines.len() == LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(format!("  {}", String::from_utf8_lossy(&line)));
    }
    if lines.is_empty() { "  (it is empty)".to_owned() } else { Vec::from(lines).join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_end_of_a_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("x.log");
        assert!(last_lines(&log).contains("not readable"));
        fs::write(&log, "").unwrap();
        assert_eq!(last_lines(&log), "  (it is empty)");
        fs::write(&log, (0..30).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n")).unwrap();
        let shown = last_lines(&log);
        assert!(shown.starts_with("  line 10\n") && shown.ends_with("\n  line 29"), "{shown}");
    }

    #[test]
    fn refuses_another_parent() {
        assert!(die_with(u32::MAX).is_err());
        set_parent_process_death_signal(None).unwrap();
    }

    #[test]
    fn reads_the_gateways_address_file() {
        let text = r#"{"grpc":"127.0.0.1:41234","http":"127.0.0.1:41235","pid":1234}"#;
        let addresses: Addresses = serde_json::from_str(text).unwrap();
        assert_eq!((addresses.grpc.port(), addresses.http.map(|http| http.port())), (41234, Some(41235)));
    }
}
