//! ProfileService and CommonPortsService: one way to get, list, apply and delete, for both kinds of documents.

use std::sync::Arc;

use podgate_engine::{
    common_ports::CommonPorts,
    name::DocumentName,
    policy::PolicySet,
    profile::{Profile, Sourced},
};
use podgate_proto::v1::{
    self, common_ports_service_server::CommonPortsService, profile_service_server::ProfileService,
};
use tonic::{Request, Response, Status};

use crate::{
    authn::Caller,
    gate::{
        DocumentError, Gate, Refusal,
        documents::{ApiDocument, Effect},
        require_operator,
    },
    grpc::{
        caller_of,
        convert::{document::DocumentMessage, fields::Fields},
    },
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Both services over the gate.
#[derive(Clone, Debug)]
pub struct Documents(pub Arc<Gate>);

/// Reads a page size.
pub(crate) fn page_size(fields: &mut Fields, asked: i32) -> usize {
    match usize::try_from(asked) {
        Ok(0) => PAGE_DEFAULT,
        Ok(size) => size.min(PAGE_MAX),
        Err(_) => {
            fields.violation("page_size", "expected 0 to 1000");
            PAGE_DEFAULT
        }
    }
}

/// A kind of document as a policy holds it, sorted by name.
trait Listed: ApiDocument {
    fn all(policy: &PolicySet) -> &[Sourced<Self>];
    fn name_of(&self) -> &str;
}

impl Listed for Profile {
    fn all(policy: &PolicySet) -> &[Sourced<Self>] {
        policy.profiles()
    }

    fn name_of(&self) -> &str {
        self.name.as_str()
    }
}

impl Listed for CommonPorts {
    fn all(policy: &PolicySet) -> &[Sourced<Self>] {
        policy.common()
    }

    fn name_of(&self) -> &str {
        self.name.as_str()
    }
}

struct Page<M> {
    documents: Vec<M>,
    next: String,
    total: i32,
}

impl Documents {
    fn get<M: DocumentMessage<Document: Listed>>(&self, caller: &Caller, name: &str) -> Result<M, Status> {
        require_operator(caller)?;
        let in_force = self.0.policies().in_force()?;
        let all = in_force.as_ref().map(|in_force| M::Document::all(in_force.policy())).unwrap_or_default();
        match all.binary_search_by(|document| document.document.name_of().cmp(name)) {
            Ok(at) => Ok(M::write(&all[at])),
            Err(_) => {
                let kind = M::Document::NOUN;
                Err(DocumentError::NotFound { kind, name: name.to_owned() }.into())
            }
        }
    }

    fn list<M: DocumentMessage<Document: Listed>>(
        &self,
        caller: &Caller,
        size: i32,
        token: &str,
        prefix: &str,
    ) -> Result<Page<M>, Status> {
        require_operator(caller)?;
        let mut fields = Fields::default();
        let size = page_size(&mut fields, size);
        if !token.is_empty() {
            fields.keep("page_token", DocumentName::check(token));
        }
        fields.finish(Some(()))?;
        let in_force = self.0.policies().in_force()?;
        let all = in_force.as_ref().map(|in_force| M::Document::all(in_force.policy())).unwrap_or_default();
        let from = all.partition_point(|document| document.document.name_of() < prefix);
        let matching = &all[from..];
        let end = matching.partition_point(|document| document.document.name_of().starts_with(prefix));
        let matching = &matching[..end];
        // A page's token is the last name of the page before: names that come and go meanwhile do no harm.
        let from =
            matching.partition_point(|document| !token.is_empty() && document.document.name_of() <= token);
        let page = &matching[from..(from + size).min(matching.len())];
        let is_last = from + page.len() == matching.len();
        let next = page.last().filter(|_| !is_last).map(|last| last.document.name_of().to_owned());
        Ok(Page {
            documents: page.iter().map(M::write).collect(),
            next: next.unwrap_or_default(),
            total: i32::try_from(matching.len()).unwrap_or(i32::MAX),
        })
    }

    async fn apply<M: DocumentMessage<Document: Listed> + 'static>(
        &self,
        caller: &Caller,
        message: Option<M>,
        etag: String,
        effect: Effect,
    ) -> Result<M, Status> {
        require_operator(caller)?;
        let mut fields = Fields::default();
        if message.is_none() {
            fields.violation(M::FIELD, "missing");
        }
        let message = fields.finish(message)?.bare();
        let document = message.read().map_err(|faults| DocumentError::Faulty(M::in_request(faults)))?;
        let gate = Arc::clone(&self.0);
        let encoded = message.encode_to_vec();
        let applied = blocking(move || gate.apply_document(document, encoded, &etag, effect)).await??;
        Ok(M::write(&applied))
    }

    async fn delete<T: ApiDocument>(
        &self,
        caller: &Caller,
        name: String,
        etag: String,
    ) -> Result<(), Status> {
        require_operator(caller)?;
        let gate = Arc::clone(&self.0);
        blocking(move || gate.delete_document::<T>(&name, &etag)).await??;
        Ok(())
    }
}

/// Runs what waits for the disk, or compiles a policy, beside the calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Draining.into())
}

fn effect(validate_only: bool) -> Effect {
    if validate_only { Effect::ValidateOnly } else { Effect::Apply }
}

#[tonic::async_trait]
impl ProfileService for Documents {
    async fn get(
        &self,
        request: Request<v1::ProfileServiceGetRequest>,
    ) -> Result<Response<v1::ProfileServiceGetResponse>, Status> {
        let profile = self.get(&caller_of(&request)?, &request.get_ref().name)?;
        Ok(Response::new(v1::ProfileServiceGetResponse { profile: Some(profile) }))
    }

    async fn list(
        &self,
        request: Request<v1::ProfileServiceListRequest>,
    ) -> Result<Response<v1::ProfileServiceListResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::ProfileServiceListRequest { page_size, page_token, name_prefix } = request.into_inner();
        let page = self.list(&caller, page_size, &page_token, &name_prefix)?;
        Ok(Response::new(v1::ProfileServiceListResponse {
            profiles: page.documents,
            next_page_token: page.next,
            total_size: page.total,
        }))
    }

    async fn apply(
        &self,
        request: Request<v1::ProfileServiceApplyRequest>,
    ) -> Result<Response<v1::ProfileServiceApplyResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::ProfileServiceApplyRequest { profile, etag, validate_only } = request.into_inner();
        let profile = Some(self.apply(&caller, profile, etag, effect(validate_only)).await?);
        Ok(Response::new(v1::ProfileServiceApplyResponse { profile }))
    }

    async fn delete(
        &self,
        request: Request<v1::ProfileServiceDeleteRequest>,
    ) -> Result<Response<v1::ProfileServiceDeleteResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::ProfileServiceDeleteRequest { name, etag } = request.into_inner();
        self.delete::<Profile>(&caller, name, etag).await?;
        Ok(Response::new(v1::ProfileServiceDeleteResponse {}))
    }
}

#[tonic::async_trait]
impl CommonPortsService for Documents {
    async fn get(
        &self,
        request: Request<v1::CommonPortsServiceGetRequest>,
    ) -> Result<Response<v1::CommonPortsServiceGetResponse>, Status> {
        let common_ports = self.get(&caller_of(&request)?, &request.get_ref().name)?;
        Ok(Response::new(v1::CommonPortsServiceGetResponse { common_ports: Some(common_ports) }))
    }

    async fn list(
        &self,
        request: Request<v1::CommonPortsServiceListRequest>,
    ) -> Result<Response<v1::CommonPortsServiceListResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::CommonPortsServiceListRequest { page_size, page_token, name_prefix } = request.into_inner();
        let page = self.list(&caller, page_size, &page_token, &name_prefix)?;
        Ok(Response::new(v1::CommonPortsServiceListResponse {
            common_ports: page.documents,
            next_page_token: page.next,
            total_size: page.total,
        }))
    }

    async fn apply(
        &self,
        request: Request<v1::CommonPortsServiceApplyRequest>,
    ) -> Result<Response<v1::CommonPortsServiceApplyResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::CommonPortsServiceApplyRequest { common_ports, etag, validate_only } = request.into_inner();
        let common_ports = Some(self.apply(&caller, common_ports, etag, effect(validate_only)).await?);
        Ok(Response::new(v1::CommonPortsServiceApplyResponse { common_ports }))
    }

    async fn delete(
        &self,
        request: Request<v1::CommonPortsServiceDeleteRequest>,
    ) -> Result<Response<v1::CommonPortsServiceDeleteResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::CommonPortsServiceDeleteRequest { name, etag } = request.into_inner();
        self.delete::<CommonPorts>(&caller, name, etag).await?;
        Ok(Response::new(v1::CommonPortsServiceDeleteResponse {}))
    }
}
