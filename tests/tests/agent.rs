//! The nftables agent before a real firewall, in network namespaces: packets pass with a grant, and are blocked without.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{io, net::SocketAddr, time::Duration};

use podgate_proto::v1::{
    AuthorizeRequest, AuthorizeResponse, GrantServiceRevokeRequest, authorize_response::Outcome,
    grant_service_revoke_request::Target,
};
use podgate_tests::{
    agent::{AgentSetup, nft},
    caller::Caller,
    eventually::{eventually, within},
    gateway::{Gateway, Setup},
    network::{HOST, HOST_V6, Network, POD_V6, PODS},
    refusal::reason,
    requests::authorize,
};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::Status;

/// What the host is known by, and where its service listens.
const GUARDED: (&str, u32) = ("db.shop.svc", 3306);
const GUARD: &str = "db.shop.svc:3306";
const PORT: u16 = 3306;

const PROFILE: &str = "
apiVersion: podgate.io/v1
kind: AppProfile
metadata: { name: APP }
spec:
  subjects:
    - serviceAccount: { namespace: shop, name: shop }
  allow:
    - { name: db, hosts: [db.shop.svc], ports: [3306] }
    - { name: others, hosts: ['*.shop.svc'], ports: [3307] }
    - { name: elsewhere, hosts: [other.shop.svc], ports: [3306] }
  lease: { maxAge: 1h }
";

fn leased(app: &str, lease: &str, on_unavailable: &str) -> String {
    let profile = PROFILE.replace("APP", app).replace("maxAge: 1h", lease);
    format!("{profile}  onUnavailable: {on_unavailable}\n")
}

/// A guarded host: gateway, service and firewall in one namespace, pods in another.
struct Host {
    network: Network,
    gateway: Gateway,
}

impl Host {
    async fn start(test: &str) -> Option<Self> {
        let network = Network::enter_host(test)?;
        let setup = Setup::new()
            .with_file("shop.yaml", PROFILE.replace("APP", "shop"))
            .with_file("till.yaml", PROFILE.replace("APP", "till"))
            .with_file("brief.yaml", leased("brief", "ttl: 1m, grace: 1h", "deny"))
            .with_file("graced.yaml", leased("graced", "ttl: 1m, grace: 1h", "lastGrant"));
        setup.home().write("podgate.yaml", "insecure: true\n");
        let config = setup.home().path("podgate.yaml").display().to_string();
        // A gateway that has just started would else wait for enforcers that may come back.
        let setup = setup.flag("--config", &config).flag("--enforcer-grace", "0s");
        let gateway = setup.flag("--listen", "[::]:0").start().await;
        for address in [HOST, HOST_V6] {
            serve_echo(TcpListener::bind((address, PORT)).await.unwrap());
        }
        Some(Self { network, gateway })
    }

    /// The agent, with the chain that it prints loaded already.
    async fn agent(&self) -> AgentSetup {
        let setup = AgentSetup::new(GUARD, self.gateway.grpc().port());
        setup.load_ruleset().await;
        setup
    }

    /// Asks for access as a pod.
    async fn authorize(&self, from: &str, request: AuthorizeRequest) -> Result<AuthorizeResponse, Status> {
        let host = if from.contains(':') { HOST_V6 } else { HOST };
        let gateway = SocketAddr::new(host.parse().unwrap(), self.gateway.grpc().port());
        let from = from.parse().unwrap();
        self.network
            .among_pods(async move || Caller::connect(gateway, from).await.authorize(request).await)
            .await
    }

    /// Gets a grant as a pod, once it is in force, and its id.
    async fn granted(&self, app: &str, from: &str, destinations: &[(&str, u32)]) -> String {
        let request = AuthorizeRequest { barrier: true, ..request(app, from, destinations) };
        id_of(self.authorize(from, request).await)
    }

    /// Gets a grant as a pod, whether it is in force or not, and its id.
    async fn recorded(&self, app: &str, from: &str, destinations: &[(&str, u32)]) -> String {
        id_of(self.authorize(from, request(app, from, destinations)).await)
    }

    async fn revoke(&self, target: Target) {
        let request =
            GrantServiceRevokeRequest { target: Some(target), ..GrantServiceRevokeRequest::default() };
        let portal = Caller::connect(self.loopback(), "127.0.0.1".parse().unwrap()).await;
        assert_eq!(portal.grants().revoke(request).await.unwrap().into_inner().revoked, 1);
    }

    fn loopback(&self) -> SocketAddr {
        SocketAddr::new("127.0.0.1".parse().unwrap(), self.gateway.grpc().port())
    }

    /// A new connection from a pod to the service.
    async fn connect(&self, from: &str) -> io::Result<TcpStream> {
        let host = if from.contains(':') { HOST_V6 } else { HOST };
        self.network.connect(from, host, PORT).await
    }

    async fn open(&self, from: &str) -> TcpStream {
        let mut stream =
            self.connect(from).await.unwrap_or_else(|error| panic!("{from} is blocked: {error}"));
        assert_eq!(echo(&mut stream).await.unwrap(), b'?');
        stream
    }

    async fn expect_blocked(&self, from: &str) {
        let blocked = self.connect(from).await.map_err(|error| error.kind());
        assert!(matches!(blocked, Err(io::ErrorKind::ConnectionRefused)), "{from}: {blocked:?}");
    }

    async fn until_blocked(&self, from: &str) {
        eventually("no new connections", async || self.connect(from).await.is_err().then_some(())).await;
    }
}

fn request(app: &str, from: &str, destinations: &[(&str, u32)]) -> AuthorizeRequest {
    authorize(app, &format!("uid-{}", from.replace([':', '.'], "-")), destinations)
}

fn id_of(answer: Result<AuthorizeResponse, Status>) -> String {
    match answer {
        Ok(AuthorizeResponse { outcome: Some(Outcome::Granted(granted)), .. }) => {
            granted.lease.unwrap().grant_id
        }
        other => panic!("not granted: {other:?}"),
    }
}

/// Answers each byte with itself.
fn serve_echo(listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
}

/// Sends a byte to the service and waits for it to come back.
async fn echo(stream: &mut TcpStream) -> io::Result<u8> {
    let there_and_back = async {
        stream.write_all(b"?").await?;
        stream.read_u8().await
    };
    within("an echo or its end", there_and_back).await
}

/// Waits until a connection has been cut.
async fn until_cut(stream: &mut TcpStream) {
    eventually("a connection that is cut", async || echo(stream).await.err()).await;
}

#[tokio::test]
async fn granted_means_open_and_revoked_means_cut() {
    let Some(host) = Host::start("granted_means_open_and_revoked_means_cut").await else { return };
    let agent = host.agent().await.start().await;
    let [pod, other, third] = PODS;
    host.expect_blocked(pod).await;
    // At once: the answer waits until it is in force.
    let grant = host.granted("shop", pod, &[GUARDED]).await;
    let mut stream = host.open(pod).await;
    host.expect_blocked(other).await;
    // In the kernel it lives as long as the grant.
    let listed = nft(&["list", "set", "inet", "podgate", "allowed4"]);
    assert!(
        listed.contains(&format!("{pod} . tcp . {PORT} timeout ")) && listed.contains("expires 59m"),
        "{listed}"
    );
    // What is granted for other hosts and ports opens nothing here.
    host.granted("shop", third, &[("db.shop.svc", 3307), ("other.shop.svc", 3306)]).await;
    host.expect_blocked(third).await;
    host.granted("shop", POD_V6, &[GUARDED]).await;
    let mut over_v6 = host.open(POD_V6).await;
    host.revoke(Target::GrantId(grant)).await;
    until_cut(&mut stream).await;
    host.expect_blocked(pod).await;
    assert_eq!(echo(&mut over_v6).await.unwrap(), b'?');
    // It comes back as easily.
    host.granted("shop", pod, &[GUARDED]).await;
    host.open(pod).await;
    assert!(!agent.log().contains("ERROR"), "{}", agent.log());
}

#[tokio::test]
async fn a_connection_goes_on_while_any_grant_allows_it() {
    let Some(host) = Host::start("a_connection_goes_on_while_any_grant_allows_it").await else { return };
    let _agent = host.agent().await.start().await;
    let [pod, other, _] = PODS;
    let first = host.granted("shop", pod, &[GUARDED]).await;
    let second = host.granted("till", pod, &[GUARDED]).await;
    host.granted("shop", other, &[GUARDED]).await;
    let (mut stream, mut others) = (host.open(pod).await, host.open(other).await);
    host.revoke(Target::GrantId(first)).await;
    // A grant that comes after the revocation is in force, and so is the revocation.
    host.granted("till", other, &[GUARDED]).await;
    assert_eq!(echo(&mut stream).await.unwrap(), b'?');
    host.open(pod).await;
    host.revoke(Target::GrantId(second)).await;
    until_cut(&mut stream).await;
    assert_eq!(echo(&mut others).await.unwrap(), b'?');
}

#[tokio::test]
async fn connections_that_are_to_be_kept_go_on() {
    let Some(host) = Host::start("connections_that_are_to_be_kept_go_on").await else { return };
    let _agent = host.agent().await.flag("--connections", "keep").start().await;
    let [pod, other, _] = PODS;
    let grant = host.granted("shop", pod, &[GUARDED]).await;
    let mut stream = host.open(pod).await;
    host.revoke(Target::GrantId(grant)).await;
    host.granted("shop", other, &[GUARDED]).await;
    host.expect_blocked(pod).await;
    // It is conntrack alone that cuts, and here it was not asked.
    assert_eq!(echo(&mut stream).await.unwrap(), b'?');
}

#[tokio::test]
async fn what_changed_while_the_agent_was_dead_is_made_good() {
    let Some(host) = Host::start("what_changed_while_the_agent_was_dead_is_made_good").await else { return };
    let agent = host.agent().await.start().await;
    let [stays, goes, comes] = PODS;
    host.granted("shop", stays, &[GUARDED]).await;
    let grant = host.granted("shop", goes, &[GUARDED]).await;
    let (mut staying, mut going) = (host.open(stays).await, host.open(goes).await);
    let setup = agent.kill().await;
    host.revoke(Target::GrantId(grant)).await;
    // Nobody enforces anything now: what is open stays open.
    assert_eq!(echo(&mut going).await.unwrap(), b'?');
    host.open(goes).await;
    host.recorded("shop", comes, &[GUARDED]).await;
    host.expect_blocked(comes).await;
    setup.start().await;
    until_cut(&mut going).await;
    host.expect_blocked(goes).await;
    host.open(comes).await;
    assert_eq!(echo(&mut staying).await.unwrap(), b'?');
}

#[tokio::test]
async fn without_a_gateway_what_is_open_stays_open() {
    let Some(host) = Host::start("without_a_gateway_what_is_open_stays_open").await else { return };
    let agent = host.agent().await.flag("--silence", "1s").start().await;
    let [pod, other, _] = PODS;
    host.granted("shop", pod, &[GUARDED]).await;
    let mut stream = host.open(pod).await;
    // It hangs, and then it dies.
    host.gateway.signal(Signal::STOP);
    agent.until_said("silent for 1 s").await;
    assert_eq!(echo(&mut stream).await.unwrap(), b'?');
    host.open(pod).await;
    host.gateway.signal(Signal::CONT);
    agent.until_said_times("\"watching\"", 2).await;
    host.granted("shop", other, &[GUARDED]).await;
    host.open(other).await;
    assert_eq!(echo(&mut stream).await.unwrap(), b'?');
    let Host { network, gateway } = host;
    let port = gateway.grpc().port();
    let setup = gateway.kill().await;
    agent.until_said("not reached").await;
    network.connect(pod, HOST, PORT).await.unwrap();
    let gateway = setup.flag("--listen", &format!("[::]:{port}")).start().await;
    agent.until_said_times("\"watching\"", 3).await;
    let host = Host { network, gateway };
    host.revoke(Target::Address(pod.to_owned())).await;
    until_cut(&mut stream).await;
    host.open(other).await;
    let (status, setup) = agent.end_by(Signal::TERM).await;
    assert_eq!(status.code(), Some(0), "{}", setup.log());
    assert!(setup.log().contains("the sets stay as they are"), "{}", setup.log());
    host.open(other).await;
    host.expect_blocked(pod).await;
}

#[tokio::test]
async fn without_a_gateway_a_lease_goes_on_for_its_grace() {
    let Some(host) = Host::start("without_a_gateway_a_lease_goes_on_for_its_grace").await else { return };
    let _agent = host.agent().await.start().await;
    let [pod, other, _] = PODS;
    for (app, from) in [("graced", pod), ("brief", other)] {
        let renewed = AuthorizeRequest { renews: true, barrier: true, ..request(app, from, &[GUARDED]) };
        id_of(host.authorize(from, renewed).await);
        host.open(from).await;
    }
    // The lease of a minute and the hour of grace, in the kernel; nobody has to be there for it.
    let listed = nft(&["list", "set", "inet", "podgate", "allowed4"]);
    assert!(listed.contains(&format!("{pod} . tcp . {PORT} timeout 1h")), "{listed}");
    assert!(!listed.contains(&format!("{other} . tcp . {PORT} timeout 1h")), "{listed}");
}

#[tokio::test]
async fn what_somebody_else_changes_is_put_right() {
    let Some(host) = Host::start("what_somebody_else_changes_is_put_right").await else { return };
    let agent = host.agent().await.start().await;
    let [pod, stranger, _] = PODS;
    host.granted("shop", pod, &[GUARDED]).await;
    let mut stream = host.open(pod).await;
    nft(&["flush", "set", "inet", "podgate", "allowed4"]);
    nft(&["add", "element", "inet", "podgate", "allowed4", &format!("{{ {stranger} . tcp . {PORT} }}")]);
    let mut strangers = host.open(stranger).await;
    agent.signal(Signal::HUP);
    agent.until_said("somebody else changes them").await;
    host.until_blocked(stranger).await;
    until_cut(&mut strangers).await;
    host.open(pod).await;
    assert_eq!(echo(&mut stream).await.unwrap(), b'?');
    // The whole table goes, as when nftables.service is restarted; the next grant finds sets to go to.
    nft(&["flush", "ruleset"]);
    host.granted("shop", stranger, &[GUARDED]).await;
    let listed = nft(&["list", "set", "inet", "podgate", "allowed4"]);
    assert!(listed.contains(pod) && listed.contains(stranger), "{listed}");
}

#[tokio::test]
async fn a_full_set_is_told_and_not_acknowledged() {
    let Some(host) = Host::start("a_full_set_is_told_and_not_acknowledged").await else { return };
    let agent = host.agent().await.flag("--set-size", "1").start().await;
    let [pod, other, _] = PODS;
    let grant = host.granted("shop", pod, &[GUARDED]).await;
    host.recorded("shop", other, &[GUARDED]).await;
    agent.until_said("a set is full").await;
    let mut pending =
        tonic::Request::new(AuthorizeRequest { barrier: true, ..request("shop", other, &[GUARDED]) });
    pending.set_timeout(Duration::from_secs(1));
    let gateway = SocketAddr::new(HOST.parse().unwrap(), host.gateway.grpc().port());
    let from = other.parse().unwrap();
    let refused = host
        .network
        .among_pods(async move || {
            Caller::connect(gateway, from).await.authorization().authorize(pending).await
        })
        .await;
    assert_eq!(reason(&refused.unwrap_err()), "ENFORCERS_PENDING");
    host.expect_blocked(other).await;
    host.open(pod).await;
    host.revoke(Target::GrantId(grant)).await;
    agent.until_said_times("all that is granted is in force", 2).await;
    host.open(other).await;
    host.expect_blocked(pod).await;
}

#[tokio::test]
async fn once_puts_a_snapshot_in_force_and_ends() {
    let Some(host) = Host::start("once_puts_a_snapshot_in_force_and_ends").await else { return };
    let setup = host.agent().await;
    let [pod, ..] = PODS;
    host.recorded("shop", pod, &[GUARDED]).await;
    host.expect_blocked(pod).await;
    let ended = setup.run_with("--once").await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    host.open(pod).await;
    let Host { network, gateway } = host;
    gateway.kill().await;
    let ended = setup.run_with("--once").await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("not reached"), "{}", ended.err);
    network.connect(pod, HOST, PORT).await.unwrap();
}

#[tokio::test]
async fn a_firewall_that_cannot_be_used_is_said_at_once() {
    let Some(host) = Host::start("a_firewall_that_cannot_be_used_is_said_at_once").await else { return };
    nft(&["add", "table", "inet", "podgate"]);
    nft(&["add", "set", "inet", "podgate", "allowed4", "{ type ipv4_addr; }"]);
    let setup = AgentSetup::new(GUARD, host.gateway.grpc().port());
    let ended = setup.run_with("--once").await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("File exists") && ended.err.contains("allowed4"), "{}", ended.err);
    let setup = AgentSetup::new(GUARD, 1).flag("--nft", "/nonexistent/nft");
    let ended = setup.run_with("--once").await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("/nonexistent/nft does not start"), "{}", ended.err);
}
