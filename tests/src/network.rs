//! Two network namespaces with a cable between them: a host that is guarded, and the pods that call it.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    net::{TcpSocket, TcpStream},
    runtime,
    sync::oneshot,
};

use crate::eventually::within;

/// The guarded host's addresses.
pub const HOST: &str = "10.77.0.1";
/// Its other one.
pub const HOST_V6: &str = "fd77::1";
/// Addresses of pods.
pub const PODS: [&str; 3] = ["10.77.0.11", "10.77.0.12", "10.77.0.13"];
/// A pod's other address.
pub const POD_V6: &str = "fd77::11";

/// The namespaces, removed in the end.
#[derive(Debug)]
pub struct Network {
    host: Namespace,
    pods: Namespace,
}

#[derive(Debug)]
struct Namespace(String);

impl Network {
    /// Makes both, and moves this thread to the guarded host: what it starts and opens from now on is there. None where
    /// the machine makes no namespaces, which is told under the test's name.
    ///
    /// # Panics
    ///
    /// Panics if there is no `ip`, or if anything else fails.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub fn enter_host(test: &str) -> Option<Self> {
        let host = match Namespace::make("host") {
            Ok(host) => host,
            Err(why) => {
                eprintln!("!!! SKIPPED: {test}: this machine makes no network namespace: {why}");
                return None;
            }
        };
        let pods = Namespace::make("pods").unwrap_or_else(|why| panic!("a second namespace: {why}"));
        let network = Self { host, pods };
        network.lay_cable();
        network.host.enter().unwrap_or_else(|error| panic!("this thread does not move: {error}"));
        Some(network)
    }

    fn lay_cable(&self) {
        let (host, pods) = (&self.host.0, &self.pods.0);
        must(&format!("link add cable netns {host} type veth peer name cable netns {pods}"));
        must(&format!("-n {host} addr add {HOST}/24 dev cable"));
        must(&format!("-n {host} addr add {HOST_V6}/64 dev cable nodad"));
        for pod in PODS {
            must(&format!("-n {pods} addr add {pod}/24 dev cable"));
        }
        must(&format!("-n {pods} addr add {POD_V6}/64 dev cable nodad"));
        for namespace in [host, pods] {
            must(&format!("-n {namespace} link set lo up"));
            must(&format!("-n {namespace} link set cable up"));
        }
    }

    /// Does something where the pods are, on a thread of its own.
    ///
    /// # Panics
    ///
    /// Panics if it panics there.
    pub async fn among_pods<T: Send + 'static>(&self, work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = oneshot::channel();
        let pods = Namespace::clone_name(&self.pods);
        thread::spawn(move || {
            enter(&pods).unwrap_or_else(|error| panic!("no way to {pods}: {error}"));
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
            // Nobody waits any more where the test has failed.
            drop(sender.send(runtime.block_on(work())));
        });
        let answer = within("something among the pods", done).await;
        answer.unwrap_or_else(|_| panic!("what was done among the pods has failed"))
    }

    /// Opens a connection from a pod's address to a port of the host. It stays where it was opened, whoever uses it.
    pub async fn connect(&self, from: &str, to: &str, port: u16) -> io::Result<TcpStream> {
        let from: IpAddr = from.parse().map_err(io::Error::other)?;
        let to: IpAddr = to.parse().map_err(io::Error::other)?;
        let opened = self.among_pods(async move || {
            let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(SocketAddr::new(to, port)).await?.into_std()
        });
        TcpStream::from_std(opened.await?)
    }
}

impl Namespace {
    fn make(role: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("podgate-{}-{}-{role}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}")).map(|()| Self(name))
    }

    fn clone_name(&self) -> String {
        self.0.clone()
    }

    fn enter(&self) -> io::Result<()> {
        enter(&self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may be gone already, and the test's own failure says more.
        drop(ip(&format!("netns del {}", self.0)));
    }
}

fn enter(name: &str) -> io::Result<()> {
    let namespace = File::open(format!("/run/netns/{name}"))?;
    Ok(move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?)
}

#[track_caller]
fn must(arguments: &str) {
    if let Err(why) = ip(arguments) {
        panic!("ip {arguments}: {why}");
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| {
        panic!("ip does not start ({error}); `./test` installs it (Debian: iproute2)")
    });
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
