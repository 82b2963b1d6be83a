//! `envoy.service.auth.v3.Authorization`: may this connection, or this request, pass?

use std::sync::Arc;

use podgate_proto::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption},
        service::auth::v3::{
            CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            authorization_server::Authorization, check_response::HttpResponse,
        },
        r#type::v3::{HttpStatus, StatusCode},
    },
    vendored::google::rpc,
};
use prost_types::{Struct, Value, value::Kind};
use tonic::{Code, Request, Response, Status};

use crate::{
    gate::{Gate, grants::Checked},
    grpc::{
        caller_of,
        envoy::passage::{self, Filter},
    },
};

/// Tells the sender of a request why it was denied.
const REASON_HEADER: &str = "x-podgate-reason";
const NO_GRANT: &str = "NO_GRANT";

/// The service over the gate.
#[derive(Clone, Debug)]
pub struct Check(pub Arc<Gate>);

#[tonic::async_trait]
impl Authorization for Check {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let caller = caller_of(&request)?;
        let (metadata, _, message) = request.into_parts();
        let (filter, passage) = passage::read(&metadata, message.attributes)?;
        let checked = self.0.check_passage(&caller, &passage)?;
        count(filter, &checked);
        Ok(Response::new(match checked {
            Checked::Allowed(held, rule) => {
                let rule = rule.map(|rule| rule.rule.to_string()).unwrap_or_default();
                let told = [("grant", held.id.to_string()), ("app", held.app.to_string()), ("rule", rule)];
                passes(filter, "ALLOWED", told)
            }
            Checked::Common(rule) => passes(filter, "COMMON", [("rule", rule.rule.to_string())]),
            Checked::NoGrant => denied(filter),
        }))
    }
}

fn count(filter: Filter, checked: &Checked) {
    let filter = match filter {
        Filter::Network => "network",
        Filter::Http => "http",
    };
    let verdict = match checked {
        Checked::Allowed(..) => "allowed",
        Checked::Common(_) => "common",
        Checked::NoGrant => "denied",
    };
    metrics::counter!("podgate_envoy_checks_total", "filter" => filter, "verdict" => verdict).increment(1);
}

fn passes<const N: usize>(filter: Filter, verdict: &str, told: [(&str, String); N]) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: match filter {
            Filter::Http => Some(HttpResponse::OkResponse(OkHttpResponse::default())),
            Filter::Network => None,
        },
        dynamic_metadata: Some(metadata(verdict, told)),
    }
}

fn denied(filter: Filter) -> CheckResponse {
    let message = "no living grant lets this address through";
    let header = |key: &str, value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value: value.to_owned(), ..HeaderValue::default() }),
        ..HeaderValueOption::default()
    };
    CheckResponse {
        status: Some(rpc::Status {
            code: Code::PermissionDenied.into(),
            message: message.to_owned(),
            ..rpc::Status::default()
        }),
        http_response: match filter {
            Filter::Http => Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
                status: Some(HttpStatus { code: StatusCode::Forbidden.into() }),
                headers: vec![header(REASON_HEADER, NO_GRANT), header("content-type", "text/plain")],
                body: format!("{message}\n"),
            })),
            Filter::Network => None,
        },
        dynamic_metadata: Some(metadata("DENIED", [("reason", NO_GRANT.to_owned())])),
    }
}

/// What Envoy can write into its access log, `%DYNAMIC_METADATA(envoy.filters.network.ext_authz:app)%`.
fn metadata<const N: usize>(verdict: &str, told: [(&str, String); N]) -> Struct {
    let all = [("verdict", verdict.to_owned())].into_iter().chain(told);
    let value = |text| Value { kind: Some(Kind::StringValue(text)) };
    Struct { fields: all.map(|(name, text)| (name.to_owned(), value(text))).collect() }
}
