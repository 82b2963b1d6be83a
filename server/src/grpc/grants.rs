//! GrantService.

use std::sync::Arc;

use podgate_engine::grant::GrantId;
use podgate_proto::v1::{
    self, grant_service_revoke_request::Target as Wanted, grant_service_server::GrantService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    gate::Gate,
    grpc::{
        caller_of,
        convert::{fields::Fields, grant},
        documents::page_size,
        watch,
    },
    store::Target,
};

/// Longest reason of a revocation, in bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// GrantService over the gate.
#[derive(Clone, Debug)]
pub struct Grants(pub Arc<Gate>);

#[tonic::async_trait]
impl GrantService for Grants {
    async fn list(
        &self,
        request: Request<v1::GrantServiceListRequest>,
    ) -> Result<Response<v1::GrantServiceListResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::GrantServiceListRequest { page_size: size, page_token, app, address } = request.into_inner();
        let mut fields = Fields::default();
        let size = page_size(&mut fields, size);
        let after = match page_token.as_str() {
            "" => None,
            token => fields.keep("page_token", token.parse::<GrantId>()),
        };
        let address = match address.as_str() {
            "" => None,
            text => fields.address("address", text),
        };
        fields.finish(Some(()))?;
        let (grants, next) = self.0.grants_page(&caller, after, size, |grant| {
            (app.is_empty() || *grant.app == *app)
                && address.is_none_or(|address| address == grant.subject.address)
        })?;
        Ok(Response::new(v1::GrantServiceListResponse {
            grants: grants.iter().map(|held| grant::grant(held)).collect(),
            next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn revoke(
        &self,
        request: Request<v1::GrantServiceRevokeRequest>,
    ) -> Result<Response<v1::GrantServiceRevokeResponse>, Status> {
        let caller = caller_of(&request)?;
        let v1::GrantServiceRevokeRequest { target, reason } = request.into_inner();
        let mut fields = Fields::default();
        if reason.len() > REASON_BYTES_MAX {
            fields.violation("reason", format!("expected at most {REASON_BYTES_MAX} bytes"));
        }
        let target = match target {
            Some(Wanted::GrantId(id)) => fields.keep("grant_id", id.parse()).map(Target::Grant),
            Some(Wanted::App(app)) if app.is_empty() => {
                fields.violation("app", "missing");
                None
            }
            Some(Wanted::App(app)) => Some(Target::App(app)),
            Some(Wanted::Address(text)) => fields.address("address", &text).map(Target::Address),
            None => {
                fields.violation("target", "missing; expected grant_id, app or address");
                None
            }
        };
        let target = fields.finish(target)?;
        let revoked = self.0.revoke(&caller, target, &reason).await?;
        Ok(Response::new(v1::GrantServiceRevokeResponse { revoked }))
    }

    type WatchStream = ReceiverStream<Result<v1::GrantServiceWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<v1::GrantServiceWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller_of(&request)?;
        Ok(Response::new(watch::begin(&self.0, &caller, request.into_inner()).await?))
    }
}
