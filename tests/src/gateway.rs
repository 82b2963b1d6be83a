//! A gateway as a child process: how it is set up, started, killed, ended and started again.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{ExitStatus, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Child;

use crate::{
    binary::{Binary, Ended},
    eventually::{eventually, within},
    home::Home,
    page::{self, Page},
};

/// Where the profiles are, in the home.
const PROFILES: &str = "profiles";
const LOG: &str = "gateway.log";
const ADDRESSES: &str = "addresses.json";

/// A gateway that is not running: its files, its flags, and, after a run, its store.
#[derive(Debug)]
pub struct Setup {
    home: Home,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    addresses: Addresses,
}

/// A running gateway. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    setup: Setup,
    child: Child,
    pid: Pid,
    addresses: Addresses,
}

/// Where a gateway serves.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Setup {
    /// A gateway with an empty directory of profiles, one worker, and limits on calls that no test meets by accident.
    #[expect(clippy::new_without_default, reason = "a directory is made")]
    pub fn new() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let setup = Self {
            home: Home::new(),
            flags: Vec::new(),
            variables: Vec::new(),
            addresses: Addresses { grpc: any, http: any },
        };
        setup.home.write(format!("{PROFILES}/README.md"), "Profiles of a test.\n");
        setup
            .flag("--workers", "1")
            .flag("--per-ip-rate", "100000/s")
            .flag("--per-ip-burst", "100000")
            .flag("--log-format", "json")
    }

    /// With this file among its profiles.
    #[must_use]
    pub fn with_file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.home.write(format!("{PROFILES}/{name}"), text);
        self
    }

    /// With this flag; the last of a name holds.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        if let Some(at) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(at..at + 2);
        }
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// With this variable at its next start alone.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// At an address of its own, which is known before it starts.
    #[must_use]
    pub fn at_own_address(mut self) -> Self {
        let ip = IpAddr::V4(own_address());
        self.addresses = Addresses { grpc: (ip, 7420).into(), http: (ip, 7421).into() };
        self
    }

    /// Where it will serve gRPC, if it has an address of its own.
    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// The temporary directory.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Panics
    ///
    /// Panics if it ends before.
    pub async fn start(self) -> Gateway {
        let mut gateway = self.spawn();
        let text = eventually("the gateway's addresses", async || {
            gateway.expect_alive();
            gateway.setup.home.read(ADDRESSES)
        })
        .await;
        gateway.addresses = read_addresses(&text);
        gateway.setup.addresses = gateway.addresses;
        gateway
    }

    /// Starts it, and waits only until it answers over HTTP. Needs an address of its own.
    ///
    /// # Panics
    ///
    /// Panics if it ends before.
    pub async fn start_unready(self) -> Gateway {
        let mut gateway = self.spawn();
        eventually("the gateway's HTTP pages", async || {
            gateway.expect_alive();
            page::get(gateway.addresses.http, "/livez").await.ok()
        })
        .await;
        gateway
    }

    /// Starts it, where it is expected to end by itself.
    pub async fn run_to_end(&self) -> Ended {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Binary::Podgate.run(&arguments, &[]).await
    }

    /// With the store of another.
    #[must_use]
    pub fn with_store_of(self, other: &Gateway) -> Self {
        let store = other.setup.home.path("store").display().to_string();
        self.flag("--store", &store)
    }

    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.home.path(name).display().to_string();
        let mut arguments = vec!["serve".to_owned()];
        let own = [
            ("--profiles", path(PROFILES)),
            ("--store", path("store")),
            ("--listen", self.addresses.grpc.to_string()),
            ("--http", self.addresses.http.to_string()),
            ("--address-file", path(ADDRESSES)),
        ];
        for (flag, value) in own {
            if !self.flags.iter().any(|given| given == flag) {
                arguments.extend([flag.to_owned(), value]);
            }
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }

    fn spawn(mut self) -> Gateway {
        if self.home.read(ADDRESSES).is_some() {
            self.home.remove(ADDRESSES);
        }
        let log = File::options().create(true).append(true).open(self.home.path(LOG));
        let log = log.unwrap_or_else(|error| panic!("no log file: {error}"));
        let mut command = Binary::Podgate.command();
        command.args(self.arguments()).envs(self.variables.drain(..)).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.unwrap_or_else(|| panic!("the gateway has no pid"));
        let addresses = self.addresses;
        Gateway { setup: self, child, pid, addresses }
    }
}

impl Gateway {
    /// Where it serves gRPC.
    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// Where it serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Its gRPC address as a URI.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses.grpc)
    }

    /// Puts a file among its profiles, as a whole.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        self.setup.home.write(format!("{PROFILES}/{name}"), text);
    }

    /// Removes a file from its profiles.
    pub fn remove(&self, name: &str) {
        self.setup.home.remove(format!("{PROFILES}/{name}"));
    }

    /// The temporary directory.
    pub fn home(&self) -> &Home {
        &self.setup.home
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.setup.home.read(LOG).unwrap_or_default()
    }

    /// Gets one of its pages.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    pub async fn page(&self, path: &str) -> Page {
        match within(path, page::get(self.addresses.http, path)).await {
            Ok(page) => page,
            Err(error) => panic!("{path} is not answered: {error}"),
        }
    }

    /// The detail of its readiness.
    pub async fn readiness(&self) -> Value {
        self.page("/readyz").await.json()
    }

    /// The sum of a metric's samples, now.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        self.page("/metrics").await.metric(name, "")
    }

    /// Waits until its readiness is as wanted.
    pub async fn until_readiness(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || Some(self.readiness().await).filter(|detail| wanted(detail))).await
    }

    /// Waits until so many profiles are in force, and no file is faulty.
    pub async fn until_profiles(&self, count: u64) -> Value {
        self.until_readiness(&format!("{count} profiles in force"), |detail| {
            detail["policy"]["profiles"] == count && detail["faults_total"] == 0
        })
        .await
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Panics if it is gone.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.pid, signal) {
            panic!("the gateway cannot be signalled: {error}");
        }
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    ///
    /// Panics if it does not end.
    pub async fn ended(mut self) -> (ExitStatus, Setup) {
        let status = within("the gateway's end", self.child.wait()).await;
        (status.unwrap_or_else(|error| panic!("the gateway's end is unknown: {error}")), self.setup)
    }

    /// Kills it (SIGKILL): what it has acknowledged must be durable.
    pub async fn kill(self) -> Setup {
        self.signal(Signal::KILL);
        self.ended().await.1
    }

    /// Ends it (SIGTERM), and expects that it ends in order.
    ///
    /// # Panics
    ///
    /// Panics if it does not.
    pub async fn terminate(self) -> Setup {
        self.signal(Signal::TERM);
        let (status, setup) = self.ended().await;
        assert!(
            status.success(),
            "the gateway ended with {status}: {}",
            setup.home.read(LOG).unwrap_or_default()
        );
        setup
    }

    fn expect_alive(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the gateway ended with {status}: {}", self.log());
        }
    }
}

fn read_addresses(text: &str) -> Addresses {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let address = |name: &str| match value[name].as_str().map(str::parse) {
        Some(Ok(address)) => address,
        _ => panic!("the address file names no {name}: {text}"),
    };
    Addresses { grpc: address("grpc"), http: address("http") }
}

/// An address of loopback that no other running test has: by this process's id and a counter.
pub(crate) fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = (id() << 5 | COUNT.fetch_add(1, Ordering::Relaxed) & 0x1f) & 0x7f_ffff;
    let [_, b, c, d] = (number | 0x80_0000).to_be_bytes();
    Ipv4Addr::new(127, b, c, d)
}
