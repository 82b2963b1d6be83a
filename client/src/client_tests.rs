//! The client against gateways that answer as scripted, over pipes and with the clock paused, and against peers on
//! real sockets that misbehave.

use std::{collections::VecDeque, num::NonZeroU32};

use podgate_proto::v1::{
    self,
    authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
};
use tokio::{
    io::{AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex},
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::AbortHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{Appointments, Endpoint, GiveUp, Origin, Pace, Pod, Subject, Tenure, Ticket};

#[path = "appointment_tests.rs"]
mod appointments;
#[path = "lifecycle_tests.rs"]
mod lifecycle;

const SECOND: Duration = Duration::from_secs(1);

/// What a scripted gateway does with one call.
enum Deed {
    Grant,
    Deny,
    /// Books a turn; the ticket is this text.
    Defer(Duration, &'static str),
    Refuse(Code, Option<Duration>),
    Hang,
    /// The same as another, so much later.
    After(Duration, Box<Deed>),
}

/// What a gateway saw of one call.
struct Seen {
    at: Instant,
    wait_budget: Duration,
    keeps_appointments: bool,
    ticket: String,
    grpc_timeout: String,
    peer: Option<std::net::SocketAddr>,
}

#[derive(Clone, Default)]
struct Script(Arc<Mutex<Play>>);

#[derive(Default)]
struct Play {
    deeds: VecDeque<Deed>,
    /// What is done with the other calls.
    lifecycle: lifecycle::Play,
    seen: Vec<Seen>,
    connections: Vec<AbortHandle>,
}

impl Script {
    fn new(deeds: impl IntoIterator<Item = Deed>) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().deeds.extend(deeds);
        script
    }

    /// A gateway that plays this script at the other end of pipes.
    fn gateway(&self) -> Gateway {
        let (listener, mut accepted) = mpsc::channel::<DuplexStream>(8);
        let (incoming, streams) = mpsc::channel::<std::io::Result<DuplexStream>>(8);
        let script = self.clone();
        tokio::spawn(async move {
            while let Some(mut stream) = accepted.recv().await {
                // A wire between the two that a test can cut.
                let (mut near, far) = duplex(64 << 10);
                let wire = tokio::spawn(async move { copy_bidirectional(&mut stream, &mut near).await });
                script.0.lock().unwrap().connections.push(wire.abort_handle());
                incoming.send(Ok(far)).await.unwrap();
            }
        });
        let server =
            tonic::transport::Server::builder().add_service(AuthorizationServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(streams)));
        Gateway::in_memory(listener)
    }

    fn calls_at(&self, started: Instant) -> Vec<Duration> {
        self.0.lock().unwrap().seen.iter().map(|seen| seen.at - started).collect()
    }

    fn connections(&self) -> usize {
        self.0.lock().unwrap().connections.len()
    }

    fn cut_all(&self) {
        self.0.lock().unwrap().connections.iter().for_each(AbortHandle::abort);
    }
}

#[tonic::async_trait]
impl AuthorizationService for Script {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        let deed = {
            let mut play = self.0.lock().unwrap();
            play.seen.push(Seen {
                at: Instant::now(),
                grpc_timeout: request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned(),
                peer: request.remote_addr(),
                wait_budget: request.get_ref().wait_budget.unwrap().try_into().unwrap(),
                keeps_appointments: request.get_ref().keeps_appointments,
                ticket: String::from_utf8(request.get_ref().ticket.clone()).unwrap(),
            });
            play.deeds.pop_front().expect("a call that the script does not foresee")
        };
        let deed = match deed {
            Deed::After(delay, deed) => {
                sleep(delay).await;
                *deed
            }
            deed => deed,
        };
        let outcome = match deed {
            Deed::Grant => v1::authorize_response::Outcome::Granted(v1::Granted {
                origin: v1::GrantOrigin::Fresh.into(),
                lease: Some(v1::Lease { grant_id: "g".to_owned(), ..v1::Lease::default() }),
                ..v1::Granted::default()
            }),
            Deed::Deny => v1::authorize_response::Outcome::Denied(v1::Denied {
                explanation: "no profile has the name a".to_owned(),
                reason: v1::DenialReason::NoProfile.into(),
                ..v1::Denied::default()
            }),
            Deed::Defer(delay, ticket) => v1::authorize_response::Outcome::Deferred(v1::Deferred {
                delay: delay.try_into().ok(),
                ticket: ticket.into(),
            }),
            Deed::Refuse(code, retry_after) => {
                let mut details = ErrorDetails::new();
                if retry_after.is_some() {
                    details.set_retry_info(retry_after);
                }
                return Err(Status::with_error_details(code, "refused", details));
            }
            Deed::Hang => std::future::pending().await,
            Deed::After(..) => panic!("twice later"),
        };
        Ok(Response::new(v1::AuthorizeResponse {
            outcome: Some(outcome),
            ..v1::AuthorizeResponse::default()
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        lifecycle::renew(self, request.into_inner()).await
    }
    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        lifecycle::release(self, request.into_inner()).await
    }
    async fn check(&self, _: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        Err(Status::unimplemented("check"))
    }
    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        lifecycle::explain(self, request.into_inner()).await
    }
}

fn client_of(gateways: Vec<Gateway>, retry: RetryPolicy) -> Client {
    let shared = Shared { gateways, connect_timeout: 2 * SECOND, call_timeout: 10 * SECOND, retry };
    let client = Client::with_shared(Arc::new(shared), None, 7);
    client.held().gateway = 0;
    client
}

fn ask() -> Ask {
    let pod = Pod {
        namespace: "hotel".to_owned(),
        uid: "u-1".to_owned(),
        service_account: "order".to_owned(),
        ..Pod::default()
    };
    Ask {
        app: "hotel-order".to_owned(),
        subject: Subject::Pod(pod),
        destinations: Vec::new(),
        tenure: Tenure::Lasting,
    }
}

/// Asks, and gives the outcome and a word for each step.
async fn authorize(client: &Client) -> (Result<Granted, AuthorizeError>, Vec<String>) {
    let mut steps = Vec::new();
    let outcome = client.authorize(&ask(), |step| steps.push(word(&step))).await;
    (outcome, steps)
}

fn word(step: &Step) -> String {
    match step {
        Step::Connecting { .. } => "connect".to_owned(),
        Step::Calling { call, attempt, .. } => format!("call {call}/{attempt}"),
        Step::Answered { answer: Answer::Failed(failure), .. } => {
            format!("{:?}: {}", failure.kind, failure.reason)
        }
        Step::Answered { answer: Answer::Deferred { delay, ticket }, .. } => {
            format!("booked {} in {delay:?}", std::str::from_utf8(ticket.as_bytes()).unwrap())
        }
        Step::Answered { answer, .. } => format!("{answer:?}"),
        Step::Waiting { delay, why: Why::Pushback, .. } => format!("wait {delay:?} as told"),
        Step::Waiting { delay, why: Why::Appointment, .. } => format!("wait {delay:?} as booked"),
        Step::Waiting { why, .. } => format!("wait: {why:?}"),
    }
}

fn told(delay: Duration) -> Deed {
    Deed::Refuse(Code::ResourceExhausted, Some(delay))
}

#[tokio::test(start_paused = true)]
async fn the_servers_word_is_kept_to_the_millisecond_on_one_connection() {
    let script = Script::new([told(3 * SECOND), Deed::Grant]);
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    let started = Instant::now();
    let (granted, steps) = authorize(&client).await;
    let granted = granted.unwrap();
    assert_eq!((granted.calls, granted.attempts, granted.origin), (2, 1, Origin::Fresh));
    assert_eq!(
        steps,
        ["connect", "call 1/1", "Throttled: refused", "wait 3s as told", "call 2/1", "Granted"]
    );
    let at = script.calls_at(started);
    assert!(at[1] >= 3 * SECOND && at[1] < 3 * SECOND + Duration::from_millis(5), "{at:?}");
    assert_eq!(script.connections(), 1);
    let play = script.0.lock().unwrap();
    assert_eq!(play.seen[0].grpc_timeout, "10000000u");
    assert_eq!(play.seen[0].wait_budget, 540 * SECOND);
    assert!(play.seen[1].wait_budget <= 537 * SECOND && play.seen[1].wait_budget > 536 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_kept_through_a_long_wait() {
    let script = Script::new([told(6 * SECOND), Deed::Grant]);
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    assert!(authorize(&client).await.0.is_ok());
    assert_eq!(script.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_replaced_and_costs_no_call() {
    let script = Script::new([told(SECOND), Deed::Grant]);
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    let mut steps = Vec::new();
    let observe = |step: Step| {
        if matches!(step, Step::Waiting { .. }) {
            script.cut_all();
        }
        steps.push(word(&step));
    };
    assert_eq!(client.authorize(&ask(), observe).await.unwrap().calls, 2);
    assert_eq!(steps[3..], ["wait 1s as told", "call 2/1", "connect", "call 2/1", "Granted"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_to_wait_too_long_gives_up_at_once() {
    let script = Script::new([told(3600 * SECOND)]);
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    let started = Instant::now();
    let Err(AuthorizeError::Failed(CallError::Throttled(ended))) = authorize(&client).await.0 else {
        panic!("not throttled")
    };
    assert_eq!((ended.calls, ended.bound), (1, Some(GiveUp::TurnBeyondBudget)));
    assert!(started.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_is_final_ends_it_with_the_first_call() {
    for (deed, expected) in [
        (Deed::Deny, "denied: no profile has the name a"),
        (Deed::Refuse(Code::Unauthenticated, Some(SECOND)), "not authenticated: refused (calls: 1)"),
        (Deed::Refuse(Code::PermissionDenied, None), "misconfigured: refused (calls: 1)"),
        (Deed::Refuse(Code::InvalidArgument, None), "misconfigured: refused (calls: 1)"),
        (Deed::Refuse(Code::Unimplemented, None), "misconfigured: refused (calls: 1)"),
    ] {
        let script = Script::new([deed]);
        let client = client_of(vec![script.gateway()], RetryPolicy::default());
        assert_eq!(authorize(&client).await.0.unwrap_err().to_string(), expected);
        assert_eq!(script.0.lock().unwrap().seen.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_gateway_takes_over_from_one_that_is_unavailable() {
    let (gone, _) = mpsc::channel(1);
    let draining = Script::new([Deed::Refuse(Code::Unavailable, None)]);
    let well = Script::new([Deed::Grant, Deed::Grant]);
    let gateways = vec![Gateway::in_memory(gone), draining.gateway(), well.gateway()];
    let client = client_of(gateways, RetryPolicy::default());
    let (granted, steps) = authorize(&client).await;
    assert_eq!(granted.unwrap().calls, 2);
    assert_eq!(
        steps,
        [
            "connect",
            "Unreached: connection refused",
            "wait: Unreached",
            "connect",
            "call 1/1",
            "Unavailable: refused",
            "wait: OwnGuess",
            "connect",
            "call 2/2",
            "Granted",
        ]
    );
    assert_eq!(
        authorize(&client).await.1,
        ["call 1/1", "Granted"],
        "the connection is kept for the next request"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_hangs_costs_five_attempts_and_no_more_than_the_budget() {
    let script = Script::new((0..5).map(|_| Deed::Hang));
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) = authorize(&client).await.0 else {
        panic!("not unavailable")
    };
    assert_eq!((ended.reason.as_str(), ended.calls), ("no answer within 10.0 s", 5));
    assert_eq!(ended.bound, Some(GiveUp::Attempts));
    assert!(ended.elapsed >= 50 * SECOND && ended.elapsed < 66 * SECOND, "{:?}", ended.elapsed);

    let script = Script::new([Deed::Hang]);
    let client =
        client_of(vec![script.gateway()], RetryPolicy { budget: 4 * SECOND, ..RetryPolicy::default() });
    let started = Instant::now();
    let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) = authorize(&client).await.0 else {
        panic!("not unavailable")
    };
    assert_eq!(ended.bound, Some(GiveUp::Budget));
    assert!(started.elapsed().abs_diff(4 * SECOND) < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_request_never_leaves() {
    let script = Script::new([]);
    let client = client_of(vec![script.gateway()], RetryPolicy::default());
    let ask = Ask { app: "A".to_owned(), ..ask() };
    let Err(AuthorizeError::Failed(CallError::Misconfigured(ended))) = client.authorize(&ask, |_| ()).await
    else {
        panic!("sent")
    };
    assert_eq!(ended.calls, 0);
    assert!(ended.reason.starts_with("app: is \"A\""));
}

/// How a peer on a real socket misbehaves.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Silent,
    HalfClosing,
    Closing,
    Garbage,
    Http1,
}

async fn misbehaving(peer: Peer) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match peer {
                Peer::Silent => {}
                Peer::HalfClosing => stream.shutdown().await.unwrap(),
                Peer::Closing => continue,
                Peer::Garbage => stream.write_all(&[0xff; 4096]).await.unwrap(),
                Peer::Http1 => stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap(),
            }
            kept.push(stream);
        }
    });
    endpoint
}

#[tokio::test(start_paused = true)]
async fn no_peer_can_hold_a_call() {
    for peer in [Peer::Silent, Peer::HalfClosing, Peer::Closing, Peer::Garbage, Peer::Http1] {
        let config = ClientConfig::new(vec![misbehaving(peer).await]);
        let client = Client::new(&config, 1).unwrap();
        let begun = Instant::now();
        let mut waits = Duration::ZERO;
        let mut longest = Duration::ZERO;
        let outcome = client
            .authorize(&ask(), |step| match step {
                Step::Waiting { delay, .. } => waits += delay,
                Step::Answered { latency, .. } => longest = longest.max(latency),
                Step::Connecting { .. } | Step::Calling { .. } => {}
            })
            .await;
        assert!(
            matches!(outcome, Err(AuthorizeError::Failed(CallError::Unavailable(_)))),
            "{peer:?}: {outcome:?}"
        );
        assert!(longest <= 10 * SECOND + Duration::from_millis(10), "{peer:?}: {longest:?}");
        assert!(begun.elapsed() <= config.retry.budget, "{peer:?}");
        assert_eq!(outcome.unwrap_err().calls(), 5, "{peer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_blackhole_holds_a_dial_for_its_time_only() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Once the backlog is full, the kernel drops further SYNs.
    let moment = Duration::from_millis(100);
    let filling: Vec<_> = std::iter::repeat_with(|| std::net::TcpStream::connect_timeout(&address, moment))
        .take_while(Result::is_ok)
        .collect();
    assert!(!filling.is_empty());
    let config = ClientConfig::new(vec![format!("http://{address}").parse().unwrap()]);
    let retry = RetryPolicy { budget: 3 * SECOND, ..RetryPolicy::default() };
    let client = Client::new(&ClientConfig { retry, ..config }, 1).unwrap();
    let (outcome, steps) = authorize(&client).await;
    let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) = outcome else { panic!("{steps:?}") };
    assert_eq!(steps[..2], ["connect", "Unreached: no connection within 2.0 s"]);
    assert_eq!((ended.calls, ended.bound), (0, Some(GiveUp::Budget)));
    assert!(ended.elapsed <= 3 * SECOND + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_is_said_to_be_closed() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let retry = RetryPolicy { budget: SECOND, ..RetryPolicy::default() };
    let config =
        ClientConfig { retry, ..ClientConfig::new(vec![format!("http://{address}").parse().unwrap()]) };
    let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) =
        authorize(&Client::new(&config, 1).unwrap()).await.0
    else {
        panic!("somebody listens on {address}")
    };
    assert_eq!(ended.reason, format!("{address} can't be reached: Connection refused (os error 111)"));
}

/// Serves a script on a real socket.
async fn listening(script: &Script) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        tonic::transport::Server::builder().add_service(AuthorizationServiceServer::new(script.clone()));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
    address
}

#[tokio::test]
async fn a_sibling_calls_from_its_own_address() {
    let script = Script::new((0..50).map(|_| Deed::Grant));
    let endpoint = format!("http://{}", listening(&script).await).parse().unwrap();
    let first = Client::new(&ClientConfig::new(vec![endpoint]), 1).unwrap();
    let siblings: Vec<Client> =
        (0..50).map(|n| first.sibling(Some(format!("127.9.0.{n}").parse().unwrap()), n)).collect();
    for sibling in &siblings {
        authorize(sibling).await.0.unwrap();
    }
    let peers: Vec<String> =
        script.0.lock().unwrap().seen.iter().map(|seen| seen.peer.unwrap().ip().to_string()).collect();
    assert_eq!(peers, (0..50).map(|n| format!("127.9.0.{n}")).collect::<Vec<_>>());
    assert!(size_of::<Client>() < 512);
}

#[tokio::test]
async fn immediate_retries_wait_for_nobody() {
    let script = Script::new((0..99).map(|_| told(3600 * SECOND)).chain([Deed::Grant]));
    let endpoint = format!("http://{}", listening(&script).await).parse().unwrap();
    let retry = RetryPolicy {
        pace: Pace::Immediate,
        appointments: Appointments::Ignore,
        attempts_max: None,
        calls_max: NonZeroU32::MAX,
        ..RetryPolicy::default()
    };
    let client = Client::new(&ClientConfig { retry, ..ClientConfig::new(vec![endpoint]) }, 1).unwrap();
    let granted = authorize(&client).await.0.unwrap();
    assert_eq!((granted.calls, granted.attempts), (100, 100));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |config: &ClientConfig| Client::new(config, 1).unwrap_err().to_string();
    assert_eq!(refused(&ClientConfig::new(Vec::new())), "no endpoint is given");
    let mut config = ClientConfig::new(vec!["http://gateway:7420".parse().unwrap()]);
    config.ca_file = Some("/nonexistent/ca.pem".into());
    assert_eq!(refused(&config), "CA file /nonexistent/ca.pem: No such file or directory (os error 2)");
    let file = tempfile::NamedTempFile::new().unwrap();
    config.ca_file = Some(file.path().to_owned());
    assert_eq!(
        refused(&config),
        format!("CA file {}: holds no certificate; expected PEM", file.path().display())
    );
}

#[cfg(any(feature = "tls-aws-lc", feature = "tls-ring"))]
mod tls {
    use std::io::Write as _;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tonic::transport::{Identity, ServerTlsConfig};

    use super::*;

    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        file: tempfile::NamedTempFile,
    }

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(issuer.pem().as_bytes()).unwrap();
            Self { issuer, file }
        }

        fn identity(&self, name: &str) -> Identity {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            Identity::from_pem(certificate.pem(), key.serialize_pem())
        }
    }

    async fn listening(script: &Script, identity: Identity) -> Endpoint {
        // Where the workspace's features bring both providers, tonic's server can't choose; the second call loses.
        #[cfg(feature = "tls-aws-lc")]
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        #[cfg(not(feature = "tls-aws-lc"))]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tonic::transport::Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(AuthorizationServiceServer::new(script.clone()));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        endpoint
    }

    fn config(endpoint: Endpoint, authority: &Authority, server_name: Option<&str>) -> ClientConfig {
        ClientConfig {
            ca_file: Some(authority.file.path().to_owned()),
            server_name: server_name.map(ToOwned::to_owned),
            retry: RetryPolicy { attempts_max: NonZeroU32::new(1), ..RetryPolicy::default() },
            ..ClientConfig::new(vec![endpoint])
        }
    }

    #[tokio::test]
    async fn https_is_spoken_with_an_authority_from_a_file() {
        let (authority, script) = (Authority::new(), Script::new([Deed::Grant, Deed::Grant]));
        let endpoint = listening(&script, authority.identity("127.0.0.1")).await;
        let client = Client::new(&config(endpoint, &authority, None), 1).unwrap();
        assert_eq!(authorize(&client).await.0.unwrap().calls, 1);

        let endpoint = listening(&script, authority.identity("gateway.podgate.svc")).await;
        let named = Client::new(&config(endpoint, &authority, Some("gateway.podgate.svc")), 1).unwrap();
        assert_eq!(authorize(&named).await.0.unwrap().calls, 1);
    }

    #[tokio::test]
    async fn a_stranger_is_not_trusted() {
        let (authority, stranger, script) = (Authority::new(), Authority::new(), Script::new([]));
        for (identity, why) in [
            (stranger.identity("127.0.0.1"), "invalid peer certificate"),
            (authority.identity("elsewhere"), "certificate not valid for name \"127.0.0.1\""),
        ] {
            let endpoint = listening(&script, identity).await;
            let client = Client::new(&config(endpoint, &authority, None), 1).unwrap();
            let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) = authorize(&client).await.0
            else {
                panic!("trusted")
            };
            assert!(ended.reason.contains(why), "{}", ended.reason);
            assert_eq!(ended.calls, 1, "a gateway that was reached has had its work");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_nobody_answers_ends() {
        let authority = Authority::new();
        let silent = misbehaving(Peer::Silent).await.to_string().replace("http:", "https:");
        let client = Client::new(&config(silent.parse().unwrap(), &authority, None), 1).unwrap();
        let Err(AuthorizeError::Failed(CallError::Unavailable(ended))) = authorize(&client).await.0 else {
            panic!("answered")
        };
        assert_eq!((ended.reason.as_str(), ended.calls), ("no TLS handshake within 2.0 s", 1));
    }

    #[test]
    fn https_without_an_authority_is_refused() {
        let config = ClientConfig::new(vec!["https://gateway:7420".parse().unwrap()]);
        assert_eq!(
            Client::new(&config, 1).unwrap_err().to_string(),
            "https://gateway:7420 needs a CA file: no authority is trusted without one"
        );
    }
}

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
#[test]
fn https_without_tls_is_refused() {
    let config = ClientConfig::new(vec!["https://gateway:7420".parse().unwrap()]);
    assert!(matches!(Client::new(&config, 1), Err(Misconfigured::NoTls { .. })));
}
