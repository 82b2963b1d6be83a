//! The backend: an ACL service that takes its time for each grant, one after the other, as a child process.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use podgate_proto::upstream::{
    ApplyRequest, ApplyResponse, RevokeRequest, RevokeResponse,
    acl_backend_service_server::{AclBackendService, AclBackendServiceServer},
};
use tokio::{net::TcpListener, runtime, time::Instant};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    child::Addresses,
    cli::incident::BackendArgs,
    clock,
    incident::{
        counts::{self, Counts},
        serial::Serial,
    },
    json_file,
    listener::listen,
};

/// Grants that it remembers; past them it refuses.
const GRANTS_MAX: usize = 1_000_000;
/// Calls at once on a connection: every caller of the plain service is one.
pub(super) const CALLS_MAX: u32 = 1_000_000;

/// The service.
struct Backend(Mutex<Books>);

/// What it knows.
struct Books {
    serial: Serial,
    /// The generation of each grant, and when it was or will be in force.
    grants: HashMap<String, (u64, Instant)>,
}

/// Serves until the process ends.
pub fn serve(args: &BackendArgs) -> io::Result<()> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (grpc, told) = (listen(any)?, listen(any)?);
    let addresses = Addresses { grpc: grpc.local_addr()?, http: Some(told.local_addr()?) };
    let backend = Arc::new(Backend::new(Serial::new(args.work)));
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let looking = Arc::clone(&backend);
        let telling = counts::tell(TcpListener::from_std(told)?, move || looking.counts());
        let incoming = TcpIncoming::from(TcpListener::from_std(grpc)?).with_nodelay(Some(true));
        let serving = Server::builder()
            .max_concurrent_streams(Some(CALLS_MAX))
            .add_service(AclBackendServiceServer::from_arc(backend))
            .serve_with_incoming(incoming);
        // Both listen already.
        json_file::write(&args.address_file, &addresses)?;
        tokio::select! {
            ended = serving => ended.map_err(io::Error::other),
            ended = telling => ended,
        }
    })
}

impl Backend {
    fn new(serial: Serial) -> Self {
        Self(Mutex::new(Books { serial, grants: HashMap::new() }))
    }

    fn counts(&self) -> Counts {
        let now = Instant::from_std(clock::now());
        let books = self.books();
        Counts { done: books.serial.done(now), waiting: books.serial.waiting(now) }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing in there panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Takes the grants of a call, and tells when all of them are in force; none where they are too many. One that is
    /// known in this generation or a later one costs no work.
    fn take(&mut self, request: ApplyRequest, now: Instant) -> Option<Instant> {
        let mut all_at = now;
        for grant in request.grants {
            let known = self.grants.get(&grant.grant_id);
            let in_force_at = match known {
                Some((generation, at)) if *generation >= grant.generation => *at,
                Some(_) | None => {
                    if known.is_none() && self.grants.len() >= GRANTS_MAX {
                        return None;
                    }
                    let at = self.serial.take(1, now);
                    self.grants.insert(grant.grant_id, (grant.generation, at));
                    at
                }
            };
            all_at = all_at.max(in_force_at);
        }
        Some(all_at)
    }
}

#[tonic::async_trait]
impl AclBackendService for Backend {
    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        let now = Instant::from_std(clock::now());
        let taken = self.books().take(request.into_inner(), now);
        let all_at =
            taken.ok_or_else(|| Status::resource_exhausted("the backend remembers no more grants"))?;
        tokio::time::sleep_until(all_at).await;
        Ok(Response::new(ApplyResponse::default()))
    }

    /// Costs nothing: no run of an incident measures the end of grants.
    async fn revoke(&self, _: Request<RevokeRequest>) -> Result<Response<RevokeResponse>, Status> {
        Ok(Response::new(RevokeResponse::default()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use podgate_proto::upstream::AppliedGrant;

    use super::*;

    const WORK: Duration = Duration::from_millis(5);

    fn grants(ids: &[(&str, u64)]) -> ApplyRequest {
        let grant = |(id, generation): &(&str, u64)| AppliedGrant {
            grant_id: (*id).to_owned(),
            generation: *generation,
            ..AppliedGrant::default()
        };
        ApplyRequest { grants: ids.iter().map(grant).collect() }
    }

    #[test]
    fn each_grant_costs_its_work_however_they_are_batched() {
        let backend = Backend::new(Serial::new(WORK));
        let start = Instant::from_std(clock::now());
        let mut books = backend.books();
        assert_eq!(books.take(grants(&[("a", 1), ("b", 1)]), start), Some(start + WORK * 2));
        assert_eq!(books.take(grants(&[("c", 1)]), start), Some(start + WORK * 3));
    }

    #[test]
    fn what_is_known_costs_nothing_but_waits_for_its_turn() {
        let backend = Backend::new(Serial::new(WORK));
        let start = Instant::from_std(clock::now());
        let mut books = backend.books();
        books.take(grants(&[("a", 2), ("b", 2)]), start);
        assert_eq!(books.take(grants(&[("a", 2)]), start), Some(start + WORK));
        assert_eq!(books.take(grants(&[("b", 1)]), start), Some(start + WORK * 2));
        let later = start + WORK * 10;
        assert_eq!(books.take(grants(&[("a", 1)]), later), Some(later));
        assert_eq!(books.take(grants(&[("a", 3)]), later), Some(later + WORK));
        assert_eq!(books.serial.done(later + WORK), 3);
    }
}
