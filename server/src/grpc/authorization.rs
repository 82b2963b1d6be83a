//! AuthorizationService.

use std::{sync::Arc, time::Duration};

use podgate_engine::{decision::Ruling, digest::hex, grant::GrantId};
use podgate_proto::v1::{self, authorization_service_server::AuthorizationService};
use tonic::{Request, Response, Status, metadata::MetadataValue};

use crate::{
    authn::Caller,
    gate::{Authorized, Gate, Outcome, grants::Checked},
    grpc::{
        convert::{decision, fields::Fields, grant, request},
        service::{CALL_WITHIN_MAX, Waited},
        timeout,
    },
    wording,
};

/// AuthorizationService over the gate, for the caller of one connection.
#[derive(Clone, Debug)]
pub struct Authorization {
    gate: Arc<Gate>,
    caller: Caller,
}

impl Authorization {
    /// The service for a caller.
    pub fn new(gate: Arc<Gate>, caller: Caller) -> Self {
        Self { gate, caller }
    }
}

#[tonic::async_trait]
impl AuthorizationService for Authorization {
    async fn authorize(
        &self,
        request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<v1::AuthorizeResponse>, Status> {
        let has_barrier = request.get_ref().barrier;
        let timeout = request.metadata().get(timeout::HEADER).map(MetadataValue::as_bytes);
        let answer_within = timeout.and_then(timeout::parse).unwrap_or(CALL_WITHIN_MAX).min(CALL_WITHIN_MAX);
        let waited = request.extensions().get().map_or(Duration::ZERO, |Waited(waited)| *waited);
        let answer_within = answer_within.saturating_sub(waited);
        let (asked, patience) =
            request::authorize(request.into_inner(), self.caller.address, waited, answer_within)?;
        let authorized = if has_barrier {
            // On the heap: it is large, and few calls want it.
            Box::pin(self.gate.authorize_behind_barrier(&self.caller, &asked, &patience)).await?
        } else {
            self.gate.authorize(&self.caller, &asked, &patience).await?
        };
        let Authorized { settled, outcome, revision } = authorized;
        let decision = &settled.decision;
        let (origin, held) = match outcome {
            Outcome::Deferred { delay, ticket } => {
                let delay = prost_types::Duration::try_from(delay).ok();
                let deferred = v1::Deferred { delay, ticket };
                return Ok(answer(v1::authorize_response::Outcome::Deferred(deferred), revision));
            }
            Outcome::Common => (v1::GrantOrigin::Common, None),
            Outcome::Repeated(held) => (v1::GrantOrigin::Repeated, Some(held)),
            Outcome::Granted(held) => (v1::GrantOrigin::Fresh, Some(held)),
            Outcome::Denied(denial) => {
                let denied = v1::Denied {
                    decisions: decision::decisions(decision),
                    reason: decision::reason(denial).into(),
                    explanation: wording::ruling(&asked.app, &asked.subject, decision),
                };
                return Ok(answer(v1::authorize_response::Outcome::Denied(denied), revision));
            }
        };
        let granted = v1::Granted {
            decisions: decision::decisions(decision),
            lease: held.as_deref().map(grant::lease),
            admitted_at: held.as_deref().map(|held| grant::since_boot(held.admitted_at)),
            origin: origin.into(),
            shadow: decision.ruling == Ruling::Shadowed,
        };
        Ok(answer(v1::authorize_response::Outcome::Granted(granted), revision))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let v1::RenewRequest { grant_id, pod_uid, generation } = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.keep("grant_id", grant_id.parse::<GrantId>());
        let id = fields.finish(id)?;
        let held = self.gate.renew(&self.caller, id, pod_uid, generation).await?;
        Ok(Response::new(v1::RenewResponse { lease: Some(grant::lease(&held)) }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let v1::ReleaseRequest { grant_id, pod_uid, generation } = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.keep("grant_id", grant_id.parse::<GrantId>());
        let id = fields.finish(id)?;
        let released = self.gate.release(&self.caller, id, pod_uid, generation).await? > 0;
        Ok(Response::new(v1::ReleaseResponse { released }))
    }

    async fn check(&self, request: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        let v1::CheckRequest { cluster, address, destination } = request.into_inner();
        let mut fields = Fields::default();
        let cluster = fields.word("cluster", cluster, 63);
        let address = fields.address("address", &address);
        let destination = match destination {
            Some(destination) => fields.destination("destination", &destination),
            None => {
                fields.violation("destination", "missing");
                None
            }
        };
        let (address, destination) = fields.finish(address.zip(destination))?;
        let response = match self.gate.check(&self.caller, &cluster, address, &destination)? {
            Checked::Allowed(held, rule) => v1::CheckResponse {
                verdict: v1::Verdict::Allowed.into(),
                grant_id: held.id.to_string(),
                app: held.app.to_string(),
                rule: rule.map(|rule| rule.rule.to_string()).unwrap_or_default(),
                expires_at: Some(grant::timestamp(held.expires_at)),
                ..v1::CheckResponse::default()
            },
            Checked::Common(rule) => v1::CheckResponse {
                verdict: v1::Verdict::Common.into(),
                rule: rule.rule.to_string(),
                ..v1::CheckResponse::default()
            },
            Checked::NoGrant => v1::CheckResponse {
                verdict: v1::Verdict::Denied.into(),
                reason: v1::DenialReason::NoGrant.into(),
                ..v1::CheckResponse::default()
            },
        };
        Ok(Response::new(response))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let asked = request::explain(request.into_inner(), self.caller.address)?;
        let explained = self.gate.explain(&self.caller, &asked).map_err(Status::from)?;
        let decision = &explained.settled.decision;
        let (allowed, reason) = match decision.ruling {
            Ruling::Common | Ruling::Allowed | Ruling::Shadowed => (true, v1::DenialReason::Unspecified),
            Ruling::Denied(denial) => (false, decision::reason(denial)),
        };
        Ok(Response::new(v1::ExplainResponse {
            allowed,
            decisions: decision::decisions(decision),
            reason: reason.into(),
            explanation: wording::ruling(&asked.app, &asked.subject, decision),
            policy_revision: hex(explained.revision),
            bucket: explained.bucket.as_ref().map(decision::bucket),
        }))
    }
}

fn answer(outcome: v1::authorize_response::Outcome, revision: u64) -> Response<v1::AuthorizeResponse> {
    let outcome = Some(outcome);
    Response::new(v1::AuthorizeResponse { outcome, policy_revision: hex(revision) })
}
