//! One connection to one gateway, and one call on it. Neither outlasts its time, whatever the peer does.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use podgate_proto::v1::authorization_service_client::AuthorizationServiceClient;
use tokio::{net::TcpStream, time::timeout};
use tonic::transport::{Channel, Endpoint as Template};

use crate::{
    ClientConfig, Endpoint, Failure, FailureKind, Misconfigured, call::Call, course::Course, dial::DialTrace,
    endpoint::Scheme, first_flight::FirstFlight, status, text,
};

const USER_AGENT: &str = concat!("podgate-client/", env!("CARGO_PKG_VERSION"));
/// Largest header block of an answer, in bytes.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Calls that wait for the connection's task, at most.
const QUEUE_MAX: usize = 16;

/// A gateway as one can connect to it; shared by the clients of a process.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) endpoint: Endpoint,
    template: Template,
    dialer: Dialer,
}

/// By what way a connection comes about.
#[derive(Debug)]
enum Dialer {
    Tcp,
    /// Pipes inside the process, so that a test may pause the clock.
    #[cfg(test)]
    Memory(tokio::sync::mpsc::Sender<tokio::io::DuplexStream>),
}

/// An open connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: AuthorizationServiceClient<Channel>,
    trace: Arc<DialTrace>,
    /// Index of its gateway.
    pub(crate) gateway: usize,
}

/// What came of a call.
pub(crate) enum Called<T> {
    Answered(T),
    Failed(Failure),
    /// The connection was gone before anything was sent.
    Lost,
}

impl Gateway {
    pub(crate) fn new(
        endpoint: Endpoint,
        config: &ClientConfig,
        ca: Option<&[u8]>,
    ) -> Result<Self, Misconfigured> {
        let refused = |error: tonic::transport::Error| Misconfigured::Tls {
            endpoint: endpoint.to_string(),
            reason: text::shown(&status::innermost(&error)),
        };
        let template = Template::from_shared(endpoint.to_string())
            .and_then(|template| template.user_agent(USER_AGENT))
            .map_err(refused)?
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            .http2_max_local_error_reset_streams(1024)
            .buffer_size(QUEUE_MAX);
        let template = match endpoint.scheme() {
            Scheme::Http => template,
            Scheme::Https => encrypted(template, &endpoint, config, ca)?,
        };
        Ok(Self { endpoint, template, dialer: Dialer::Tcp })
    }

    /// Opens a connection within `limit`, from the look-up of the name to the end of the TLS handshake.
    pub(crate) async fn connect(
        &self,
        gateway: usize,
        local: Option<IpAddr>,
        limit: Duration,
    ) -> Result<Connection, Failure> {
        let trace = Arc::new(DialTrace::default());
        let connected = match (&self.dialer, self.endpoint.scheme()) {
            (Dialer::Tcp, Scheme::Http) => {
                let connector = self.connector(&trace, local, FirstFlight::new);
                timeout(limit, self.template.connect_with_connector(connector)).await
            }
            (Dialer::Tcp, Scheme::Https) => {
                let connector = self.connector(&trace, local, std::convert::identity);
                timeout(limit, self.template.connect_with_connector(connector)).await
            }
            #[cfg(test)]
            (Dialer::Memory(listener), _) => {
                let (listener, trace) = (listener.clone(), Arc::clone(&trace));
                let connector = tower::service_fn(move |_: http::Uri| {
                    let (listener, trace) = (listener.clone(), Arc::clone(&trace));
                    async move {
                        trace.claim()?;
                        let (ours, theirs) = tokio::io::duplex(64 << 10);
                        listener.send(theirs).await.map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                        trace.note_reached();
                        std::io::Result::Ok(TokioIo::new(ours))
                    }
                });
                timeout(limit, self.template.connect_with_connector(connector)).await
            }
        };
        let reason = match connected {
            Ok(Ok(channel)) => {
                let client = AuthorizationServiceClient::new(channel);
                return Ok(Connection { client, trace, gateway });
            }
            Ok(Err(error)) => text::shown(&status::innermost(&error)),
            Err(_) if trace.was_reached() => format!("no TLS handshake within {:.1} s", limit.as_secs_f64()),
            Err(_) => format!("no connection within {:.1} s", limit.as_secs_f64()),
        };
        let kind = if trace.was_reached() { FailureKind::Unavailable } else { FailureKind::Unreached };
        Err(Failure { kind, reason, retry_after: None })
    }

    /// Dials once, and wraps what comes of it.
    fn connector<S>(
        &self,
        trace: &Arc<DialTrace>,
        local: Option<IpAddr>,
        wrap: fn(TcpStream) -> S,
    ) -> impl tower::Service<
        http::Uri,
        Response = TokioIo<S>,
        Error = std::io::Error,
        Future: Future<Output = std::io::Result<TokioIo<S>>> + Send,
    >
    + Send
    + 'static
    + use<S>
    where
        S: Send + 'static,
    {
        let (endpoint, trace) = (self.endpoint.clone(), Arc::clone(trace));
        tower::service_fn(move |_: http::Uri| {
            let (endpoint, trace) = (endpoint.clone(), Arc::clone(&trace));
            async move {
                trace.claim()?;
                let stream = crate::dial::dial(&endpoint, local).await?;
                trace.note_reached();
                Ok(TokioIo::new(wrap(stream)))
            }
        })
    }

    /// A gateway at the other end of pipes.
    #[cfg(test)]
    pub(crate) fn in_memory(listener: tokio::sync::mpsc::Sender<tokio::io::DuplexStream>) -> Self {
        let endpoint: Endpoint = "http://gateway.test".parse().unwrap();
        let config = ClientConfig::new(vec![endpoint.clone()]);
        Self { dialer: Dialer::Memory(listener), ..Self::new(endpoint, &config, None).unwrap() }
    }
}

impl Connection {
    /// Calls once, within `limit`.
    pub(crate) async fn call<C: Call>(
        mut self,
        call: &C,
        course: &Course,
        limit: Duration,
    ) -> Called<C::Answer> {
        match timeout(limit, call.send(&mut self.client, course, limit)).await {
            Ok(Ok(response)) => match call.read(response.into_inner()) {
                Ok(answer) => Called::Answered(answer),
                Err(why) => {
                    Called::Failed(unavailable(format!("the gateway's answer makes no sense: {why}")))
                }
            },
            Ok(Err(_)) if self.trace.was_lost() => Called::Lost,
            // tonic's own timer may win the race against ours, and says so by this code; a gateway has no reason to.
            Ok(Err(status)) if status.code() == tonic::Code::Cancelled => Called::Failed(unanswered(limit)),
            Ok(Err(status)) => match call.answer_of(&status) {
                Some(answer) => Called::Answered(answer),
                None => Called::Failed(status::failure(&status)),
            },
            Err(_) => Called::Failed(unanswered(limit)),
        }
    }
}

fn unanswered(limit: Duration) -> Failure {
    unavailable(format!("no answer within {:.1} s", limit.as_secs_f64()))
}

fn unavailable(reason: String) -> Failure {
    Failure { kind: FailureKind::Unavailable, reason, retry_after: None }
}

#[cfg(any(feature = "tls-aws-lc", feature = "tls-ring"))]
fn encrypted(
    template: Template,
    endpoint: &Endpoint,
    config: &ClientConfig,
    ca: Option<&[u8]>,
) -> Result<Template, Misconfigured> {
    use tonic::transport::{Certificate, ClientTlsConfig};

    let ca = ca.ok_or_else(|| Misconfigured::NoAuthority { endpoint: endpoint.to_string() })?;
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    if let Some(name) = &config.server_name {
        tls = tls.domain_name(name);
    }
    template.tls_config(tls).map_err(|error| Misconfigured::Tls {
        endpoint: endpoint.to_string(),
        reason: text::shown(&status::innermost(&error)),
    })
}

#[cfg(not(any(feature = "tls-aws-lc", feature = "tls-ring")))]
fn encrypted(
    _template: Template,
    endpoint: &Endpoint,
    _config: &ClientConfig,
    _ca: Option<&[u8]>,
) -> Result<Template, Misconfigured> {
    Err(Misconfigured::NoTls { endpoint: endpoint.to_string() })
}
