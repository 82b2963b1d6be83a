//! The plain ACL service, as it stood before the incident: every call goes to the backend at once and waits there for
//! its turn. Whoever leaves is worked for all the same, and asks again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use podgate_proto::{
    upstream::{AppliedGrant, ApplyRequest, acl_backend_service_client::AclBackendServiceClient},
    v1::{
        AuthorizeRequest, AuthorizeResponse, CheckRequest, CheckResponse, DestinationDecision,
        ExplainRequest, ExplainResponse, GrantOrigin, Granted, Lease, ReleaseRequest, ReleaseResponse,
        RenewRequest, RenewResponse, Verdict,
        authorization_service_server::{AuthorizationService, AuthorizationServiceServer},
        authorize_response::Outcome,
    },
};
use tokio::{net::TcpListener, runtime, sync::Semaphore};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::{
    child::Addresses, cli::incident::PlainAclArgs, clock, incident::backend::CALLS_MAX, json_file,
    listener::listen,
};

/// The service.
struct PlainAcl {
    backend: AclBackendServiceClient<Channel>,
    /// Its queue: as long as the backend takes calls, which is to say, without any bound that helps.
    room: Arc<Semaphore>,
    grants: AtomicU64,
}

/// Serves until the process ends.
pub fn serve(args: &PlainAclArgs) -> io::Result<()> {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let addresses = Addresses { grpc: listener.local_addr()?, http: None };
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let backend = Channel::from_shared(format!("http://{}", args.backend))
            .map_err(io::Error::other)?
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(io::Error::other)?;
        let service = PlainAcl {
            backend: AclBackendServiceClient::new(backend),
            room: Arc::new(Semaphore::new(CALLS_MAX as usize)),
            grants: AtomicU64::new(0),
        };
        let incoming = TcpIncoming::from(TcpListener::from_std(listener)?).with_nodelay(Some(true));
        json_file::write(&args.address_file, &addresses)?;
        Server::builder()
            .add_service(AuthorizationServiceServer::new(service))
            .serve_with_incoming(incoming)
            .await
            .map_err(io::Error::other)
    })
}

#[tonic::async_trait]
impl AuthorizationService for PlainAcl {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(Status::unavailable("the queue is full"));
        };
        let grant_id = format!("{:016x}", self.grants.fetch_add(1, Ordering::Relaxed));
        let mut backend = self.backend.clone();
        let asked = ApplyRequest {
            grants: vec![AppliedGrant {
                grant_id: grant_id.clone(),
                generation: 1,
                ..AppliedGrant::default()
            }],
        };
        // A task of its own: dropped with the call, it would spare the backend what nobody waits for any more.
        let work = tokio::spawn(async move {
            let applied = backend.apply(asked).await;
            drop(room);
            applied
        });
        work.await.map_err(|_| Status::internal("the work was not finished"))??;
        Ok(Response::new(granted(request.into_inner(), grant_id)))
    }

    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Err(not_here())
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(not_here())
    }

    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        Err(not_here())
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(not_here())
    }
}

/// Everything that was asked for, from now on.
fn granted(request: AuthorizeRequest, grant_id: String) -> AuthorizeResponse {
    let decision = |destination| DestinationDecision {
        destination: Some(destination),
        verdict: Verdict::Allowed.into(),
        ..DestinationDecision::default()
    };
    let granted = Granted {
        decisions: request.destinations.into_iter().map(decision).collect(),
        lease: Some(Lease { grant_id, generation: 1, ..Lease::default() }),
        // Fails only for a machine that runs for longer than there are numbers.
        admitted_at: prost_types::Duration::try_from(Duration::from_nanos(clock::boot_ns())).ok(),
        origin: GrantOrigin::Fresh.into(),
        shadow: false,
    };
    AuthorizeResponse { outcome: Some(Outcome::Granted(granted)), policy_revision: String::new() }
}

fn not_here() -> Status {
    Status::unimplemented("the plain service only authorizes")
}
