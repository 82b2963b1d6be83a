//! The baseline: a bare tonic server that answers the same messages with one prebuilt answer, on the fastest runtime
//! set-up: a `current_thread` runtime and a listener of its own for each worker.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::Path,
    sync::Arc,
    thread,
};

use podgate_proto::v1::{
    AuthorizeRequest, AuthorizeResponse, CheckRequest, CheckResponse, ExplainRequest, ExplainResponse,
    ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse,
    authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
};
use tokio::{net::TcpListener, runtime};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    bench::answer::{Answer, Decoded, Method},
    child::Addresses,
    cli::EchoArgs,
    json_file,
    listener::listen,
};

/// Answers each method with what was prepared for it.
struct Echo {
    authorize: Option<Decoded<AuthorizeResponse>>,
    check: Option<Decoded<CheckResponse>>,
}

/// Serves until the process ends.
pub fn serve(args: &EchoArgs) -> io::Result<()> {
    let answer = Answer::read(&args.answer)?;
    let echo = Arc::new(match answer.method {
        Method::Authorize => Echo { authorize: Some(answer.decoded()?), check: None },
        Method::Check => Echo { authorize: None, check: Some(answer.decoded()?) },
    });
    let listeners = listeners(args.listen, args.workers)?;
    // All of them listen from here on.
    say_address(&args.address_file, &listeners)?;
    let workers: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let echo = Arc::clone(&echo);
            thread::spawn(move || work(listener, echo))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(())
}

/// One listener a worker on the same port; the kernel spreads the connections (SO_REUSEPORT).
fn listeners(address: SocketAddr, workers: NonZeroU32) -> io::Result<Vec<std::net::TcpListener>> {
    let mut bound = address;
    let mut listeners = Vec::new();
    for _ in 0..workers.get() {
        let listener = listen(bound)?;
        // Port 0 is chosen once.
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn say_address(file: &Path, listeners: &[std::net::TcpListener]) -> io::Result<()> {
    let grpc = match listeners.first() {
        Some(listener) => listener.local_addr()?,
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    };
    json_file::write(file, &Addresses { grpc, http: None })
}

fn work(listener: std::net::TcpListener, echo: Arc<Echo>) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let incoming = TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
        Server::builder()
            .add_service(AuthorizationServiceServer::from_arc(echo))
            .serve_with_incoming(incoming)
            .await
            .map_err(io::Error::other)
    })
}

#[tonic::async_trait]
impl AuthorizationService for Echo {
    async fn authorize(&self, _: Request<AuthorizeRequest>) -> Result<Response<AuthorizeResponse>, Status> {
        self.authorize.as_ref().ok_or_else(not_measured)?.give()
    }

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        self.check.as_ref().ok_or_else(not_measured)?.give()
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(not_measured())
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        Err(not_measured())
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("the echo answers only the method that is measured")
}
