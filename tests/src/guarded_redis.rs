//! A real Redis behind a real HAProxy, and the adapter of `examples/upstream-haproxy` that opens it, as processes.

use std::{
    ffi::OsStr,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, UnixStream},
    process::{Child, Command},
};

use crate::{
    eventually::{eventually, within},
    gateway::own_address,
    home::Home,
    workspace::root,
};

/// What the proxy stands before.
pub const GUARDED: (&str, u32) = ("redis.shop.svc", 6379);
/// The map, as `haproxy.cfg` names it.
const MAP: &str = "granted.map";

/// Redis, and the proxy before it. Killed when dropped.
#[derive(Debug)]
pub struct GuardedRedis {
    home: Home,
    address: IpAddr,
    proxy: Child,
    _redis: Child,
}

/// The adapter. Killed when dropped.
#[derive(Debug)]
pub struct Adapter {
    child: Child,
    address: SocketAddr,
}

/// What a new connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Redis answered.
    Open,
    /// The proxy closed it.
    Closed,
}

impl GuardedRedis {
    /// Starts both; the proxy lets nobody through.
    pub async fn start() -> Self {
        let home = Home::new();
        home.write(MAP, "");
        let redis = start_redis(&home).await;
        let address = IpAddr::V4(own_address());
        let proxy = start_proxy(&home, address).await;
        Self { home, address, proxy, _redis: redis }
    }

    /// Starts the adapter, and waits until it listens.
    pub async fn adapter(&self) -> Adapter {
        let address = SocketAddr::new(self.address, 7430);
        let mut command = command(python());
        command.arg(root().join("examples/upstream-haproxy/adapter.py"));
        command.args(["--guards", &format!("{}:{}", GUARDED.0, GUARDED.1), "--map", MAP]);
        command.arg("--socket").arg(self.home.path("haproxy.sock"));
        let child = spawn(command.args(["--listen", &address.to_string()]), "the adapter");
        eventually("the adapter", async || TcpStream::connect(address).await.ok()).await;
        Adapter { child, address }
    }

    /// Kills the proxy, and starts another one, which knows nobody.
    ///
    /// # Panics
    ///
    /// Panics if the proxy does not end.
    pub async fn restart_proxy(&mut self) {
        if let Err(error) = within("the proxy's end", self.proxy.kill()).await {
            panic!("the proxy does not end: {error}");
        }
        self.proxy = start_proxy(&self.home, self.address).await;
    }

    /// Opens a connection from an address, and asks Redis for a sign of life.
    ///
    /// # Panics
    ///
    /// Panics if there is neither an answer nor an end.
    pub async fn ping_from(&self, from: &str) -> Passage {
        ping_from(from, SocketAddr::new(self.address, 6380)).await
    }

    /// Waits until connections from an address pass, or do not.
    pub async fn until(&self, from: &str, passage: Passage) {
        let what = format!("{passage:?} to {from}");
        eventually(&what, async || (self.ping_from(from).await == passage).then_some(())).await;
    }
}

impl Adapter {
    /// Where podgate calls it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// Panics if it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        match pid.map(|pid| kill_process(pid, signal)) {
            Some(Ok(())) => {}
            other => panic!("the adapter cannot be signalled: {other:?}"),
        }
    }

    /// Kills it.
    ///
    /// # Panics
    ///
    /// Panics if it does not end.
    pub async fn kill(mut self) {
        if let Err(error) = within("the adapter's end", self.child.kill()).await {
            panic!("the adapter does not end: {error}");
        }
    }
}

/// Opens a connection through what stands before a Redis, and asks that for a sign of life.
///
/// # Panics
///
/// Panics if there is neither an answer nor an end.
pub async fn ping_from(from: &str, to: SocketAddr) -> Passage {
    match within("an answer of Redis", ping(from, to)).await {
        Ok(answer) if answer.starts_with(b"+PONG") => Passage::Open,
        Ok(answer) if answer.is_empty() => Passage::Closed,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Passage::Closed,
        other => panic!("Redis is neither open nor closed to {from}: {other:?}"),
    }
}

/// Starts a Redis at `redis.sock` of a directory.
pub(crate) async fn start_redis(home: &Home) -> Child {
    let mut redis = tool("redis-server", "redis-server");
    redis.args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"]);
    let redis = spawn(redis.current_dir(home.path("")), "redis-server");
    until_listening(&home.path("redis.sock")).await;
    redis
}

async fn start_proxy(home: &Home, address: IpAddr) -> Child {
    let mut command = tool("haproxy", "haproxy");
    command.arg("-C").arg(home.path("")).arg("-f").arg(root().join("examples/upstream-haproxy/haproxy.cfg"));
    command.env("LISTEN", SocketAddr::new(address, 6380).to_string());
    command.env("REDIS", format!("unix@{}", home.path("redis.sock").display()));
    let child = spawn(&mut command, "haproxy");
    until_listening(&home.path("haproxy.sock")).await;
    child
}

async fn ping(from: &str, to: SocketAddr) -> io::Result<Vec<u8>> {
    let from: IpAddr = from.parse().map_err(io::Error::other)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = vec![0; 64];
    let length = stream.read(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn until_listening(socket: &Path) {
    let what = socket.display().to_string();
    eventually(&what, async || UnixStream::connect(socket).await.ok()).await;
}

/// The Python that `./test` provides with grpcio, or the system's.
fn python() -> PathBuf {
    let provided: PathBuf = root().join("target/tools/venv/bin/python");
    let python = if provided.is_file() { provided } else { PathBuf::from("python3") };
    let has_grpc = std::process::Command::new(&python)
        .args(["-c", "import grpc_tools"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    assert!(has_grpc, "{} has no grpcio-tools; `./test` installs it (PyPI)", python.display());
    python
}

/// A program that `./test` installs; this test fails without it.
fn tool(program: &str, package: &str) -> Command {
    let mut known = std::process::Command::new(program);
    known.arg("-v").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(known.status().is_ok(), "{program} is not there; `./test` installs it (Debian: {package})");
    command(program)
}

/// A command that is ended by its own pid when its handle is dropped.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) fn spawn(command: &mut Command, what: &str) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{what} does not start: {error}"))
}
