//! A stage for whole runs: a gateway that answers as scripted, and a directory of their own.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use podgate_proto::v1::{
    self,
    authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
};
use tokio::{net::TcpListener, sync::watch};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{Process, Signal, run};

pub(crate) type Answer = Result<v1::authorize_response::Outcome, Status>;

/// The fixed time of day.
pub(crate) fn second_to_midnight() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_798_761_599)
}

/// Gives one answer after the other, the last one to every further call, and keeps the requests.
#[derive(Clone)]
struct Gateway {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<v1::AuthorizeRequest>>>,
    lifecycle: Arc<Mutex<Lifecycle>>,
}

/// The other calls: what is answered, and what was asked. A renewal without an answer of its own is not served.
#[derive(Default)]
pub(crate) struct Lifecycle {
    pub(crate) renewals: VecDeque<Result<v1::Lease, Status>>,
    pub(crate) explained: Option<v1::ExplainResponse>,
    pub(crate) renewed: Vec<v1::RenewRequest>,
    pub(crate) released: Vec<v1::ReleaseRequest>,
}

#[tonic::async_trait]
impl AuthorizationService for Gateway {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        let outcome = Some(answer.unwrap()?);
        Ok(Response::new(v1::AuthorizeResponse { outcome, policy_revision: "5d0c9a1b2e3f4a5b".to_owned() }))
    }
    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let mut lifecycle = self.lifecycle.lock().unwrap();
        lifecycle.renewed.push(request.into_inner());
        let answer = lifecycle.renewals.pop_front().unwrap_or(Err(Status::unimplemented("renew")));
        Ok(Response::new(v1::RenewResponse { lease: Some(answer?) }))
    }
    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let mut lifecycle = self.lifecycle.lock().unwrap();
        let released = !lifecycle.released.contains(request.get_ref());
        lifecycle.released.push(request.into_inner());
        Ok(Response::new(v1::ReleaseResponse { released }))
    }
    async fn check(&self, _: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        Err(Status::unimplemented("check"))
    }
    async fn explain(&self, _: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        let explained = self.lifecycle.lock().unwrap().explained.clone();
        explained.map(Response::new).ok_or(Status::unimplemented("explain"))
    }
}

/// What a run has printed so far, for whoever waits for it.
#[derive(Clone, Default)]
struct Printed(watch::Sender<String>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|printed| printed.push_str(std::str::from_utf8(bytes).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run in a directory of its own.
pub(crate) struct Stage {
    pub(crate) directory: tempfile::TempDir,
    endpoint: String,
    pub(crate) asked: Arc<Mutex<Vec<v1::AuthorizeRequest>>>,
    pub(crate) lifecycle: Arc<Mutex<Lifecycle>>,
    printed: Printed,
}

/// What a run leaves behind.
pub(crate) struct Ended {
    pub(crate) code: u8,
    pub(crate) printed: String,
    /// Empty where there is none.
    pub(crate) last_word: String,
}

impl Stage {
    pub(crate) async fn with(answer: Answer) -> Self {
        Self::with_each([answer]).await
    }

    pub(crate) async fn with_each(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        let gateway = Gateway { answers, asked: Arc::default(), lifecycle: Arc::default() };
        let (asked, lifecycle) = (Arc::clone(&gateway.asked), Arc::clone(&gateway.lifecycle));
        let server =
            tonic::transport::Server::builder().add_service(AuthorizationServiceServer::new(gateway));
        tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));
        Self {
            directory: tempfile::tempdir().unwrap(),
            endpoint,
            asked,
            lifecycle,
            printed: Printed::default(),
        }
    }

    /// A port on which nobody listens.
    pub(crate) async fn without_gateway() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            endpoint,
            asked: Arc::default(),
            lifecycle: Arc::default(),
            printed: Printed::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        self.run_until(args, std::future::pending()).await
    }

    pub(crate) async fn run_until(&self, args: &[&str], signal: impl Future<Output = Signal>) -> Ended {
        self.run_at(second_to_midnight(), args, signal).await
    }

    pub(crate) async fn run_at(
        &self,
        now: SystemTime,
        args: &[&str],
        signal: impl Future<Output = Signal>,
    ) -> Ended {
        let log = self.path("termination-log");
        let fixed = ["--app", "hotel-order", "--endpoint", &self.endpoint, "--termination-log", &log];
        let fixed = match args {
            ["ready", ..] => &[],
            ["release", ..] => &fixed[2..4],
            _ => &fixed[..],
        };
        let vars = [
            ("POD_UID", "u-1"),
            ("POD_NAMESPACE", "hotel"),
            ("POD_NAME", "order-x7k2p"),
            ("POD_SERVICE_ACCOUNT", "order"),
            ("POD_IP", "127.0.0.1"),
        ];
        let mut out = self.printed.clone();
        // Of this run alone.
        out.0.send_modify(String::clear);
        let process = Process {
            args: args.iter().chain(fixed).map(Into::into).collect(),
            vars: vars.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            out: &mut out,
            now: &|| now,
            seed: 1,
        };
        let code = run(process, signal).await.code();
        Ended {
            code,
            printed: self.masked(&self.printed.0.borrow()),
            last_word: self.masked(&std::fs::read_to_string(log).unwrap_or_default()),
        }
    }

    /// SIGTERM, once the run has printed these words.
    pub(crate) async fn said(&self, words: &'static str) -> Signal {
        let mut printed = self.printed.0.subscribe();
        let said = printed.wait_for(|printed| printed.contains(words));
        tokio::time::timeout(Duration::from_secs(20), said).await.expect(words).unwrap();
        Signal::Terminate
    }

    /// The text without what differs from run to run: endpoint, directory and milliseconds.
    pub(crate) fn masked(&self, text: &str) -> String {
        let address = self.endpoint.trim_start_matches("http://");
        let text = text.replace(address, "GATEWAY").replace(self.directory.path().to_str().unwrap(), "DIR");
        let mut masked = String::new();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("ms").or_else(|| rest.find("\"waited_s\":0.")) {
            let waited = rest[at..].starts_with('"');
            let end = if waited { at + 13 } else { at };
            let before =
                if waited { &rest[..end] } else { rest[..at].trim_end_matches(|c: char| c.is_ascii_digit()) };
            masked.push_str(before);
            masked.push_str(if waited { "?" } else { "?ms" });
            rest = if waited {
                rest[end..].trim_start_matches(|c: char| c.is_ascii_digit())
            } else {
                &rest[at + 2..]
            };
        }
        masked + rest
    }
}

pub(crate) fn decision(
    host: &str,
    port: u32,
    verdict: v1::Verdict,
    reason: v1::DenialReason,
) -> v1::DestinationDecision {
    v1::DestinationDecision {
        destination: Some(v1::Destination { host: host.to_owned(), port, last_port: 0, protocol: 1 }),
        verdict: verdict.into(),
        rule: "order-db".to_owned(),
        document: "hotel-order".to_owned(),
        reason: reason.into(),
        explanation: if verdict == v1::Verdict::Denied {
            format!("no rule allows {host}")
        } else {
            String::new()
        },
    }
}

pub(crate) fn granted() -> v1::authorize_response::Outcome {
    v1::authorize_response::Outcome::Granted(v1::Granted {
        decisions: vec![decision("mysql", 3306, v1::Verdict::Allowed, v1::DenialReason::Unspecified)],
        lease: Some(v1::Lease {
            grant_id: "00000000000000aa".to_owned(),
            generation: 1,
            addresses: vec!["127.0.0.1".to_owned()],
            expires_at: Some(prost_types::Timestamp { seconds: 1_798_765_199, nanos: 0 }),
            renew_after: None,
        }),
        admitted_at: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        origin: v1::GrantOrigin::Fresh.into(),
        shadow: false,
    })
}

pub(crate) fn denied() -> v1::authorize_response::Outcome {
    v1::authorize_response::Outcome::Denied(v1::Denied::default())
}

pub(crate) fn deferred(delay_s: i64) -> v1::authorize_response::Outcome {
    v1::authorize_response::Outcome::Deferred(v1::Deferred {
        delay: Some(prost_types::Duration { seconds: delay_s, nanos: 0 }),
        ticket: b"secret".to_vec(),
    })
}

pub(crate) fn refused(code: Code, reason: &str, retry_after: Option<Duration>) -> Answer {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "podgate.io", std::collections::HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Err(Status::with_error_details(code, "refused", details))
}
