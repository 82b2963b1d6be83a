//! `envoy.service.ratelimit.v3.RateLimitService`: is there room for one more request?

use std::sync::Arc;

use podgate_engine::{
    quota::RateUnit,
    rate_limiter::{Asked, Decided, Ruling, Standing},
    rate_limits::DOMAIN_BYTES_MAX,
};
use podgate_proto::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::{Code, DescriptorStatus, RateLimit, rate_limit::Unit},
        rate_limit_service_server::RateLimitService,
    },
};
use tonic::{Request, Response, Status};

use crate::{
    gate::{Gate, Refusal},
    grpc::{caller_of, convert::fields::Fields},
};

/// Most descriptors of a call.
const DESCRIPTORS_MAX: usize = 64;
/// Most entries of a descriptor.
const ENTRIES_MAX: usize = 32;

/// The service over the gate.
#[derive(Clone, Debug)]
pub struct ShouldRateLimit(pub Arc<Gate>);

#[tonic::async_trait]
impl RateLimitService for ShouldRateLimit {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let asked = read(&request)?;
        let decided = self.0.rate_limit(&caller, &request.domain, &asked)?;
        count(&request.domain, &decided);
        Ok(Response::new(RateLimitResponse {
            overall_code: code(decided.ruling).into(),
            statuses: decided.standings.iter().map(|standing| status(standing.as_ref())).collect(),
            ..RateLimitResponse::default()
        }))
    }
}

fn read(request: &RateLimitRequest) -> Result<Vec<Asked<'_>>, Refusal> {
    let mut fields = Fields::default();
    if request.domain.is_empty() || request.domain.len() > DOMAIN_BYTES_MAX {
        let bytes = request.domain.len();
        fields.violation("domain", format!("{bytes} bytes; expected 1 to {DOMAIN_BYTES_MAX}"));
    }
    let count = request.descriptors.len();
    if count == 0 || count > DESCRIPTORS_MAX {
        fields.violation("descriptors", format!("{count} descriptors; expected 1 to {DESCRIPTORS_MAX}"));
    }
    for (at, descriptor) in request.descriptors.iter().enumerate().take(DESCRIPTORS_MAX) {
        let count = descriptor.entries.len();
        if count == 0 || count > ENTRIES_MAX {
            let expected = format!("{count} entries; expected 1 to {ENTRIES_MAX}");
            fields.violation(format_args!("descriptors[{at}].entries"), expected);
        }
    }
    fields.finish(Some(()))?;
    let hits = request.hits_addend.max(1);
    Ok(request.descriptors.iter().map(|descriptor| asked(descriptor, hits)).collect())
}

fn asked(descriptor: &RateLimitDescriptor, hits: u32) -> Asked<'_> {
    let hits = match descriptor.hits_addend {
        // Nothing is given back; it is only looked at.
        _ if descriptor.is_negative_hits => 0,
        Some(own) => u32::try_from(own).unwrap_or(u32::MAX),
        None => hits,
    };
    Asked { entries: descriptor.entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect(), hits }
}

fn code(ruling: Ruling) -> Code {
    match ruling {
        Ruling::Within | Ruling::Shadowed => Code::Ok,
        Ruling::Over => Code::OverLimit,
    }
}

fn status(standing: Option<&Standing>) -> DescriptorStatus {
    let Some(standing) = standing else {
        return DescriptorStatus { code: Code::Ok.into(), ..DescriptorStatus::default() };
    };
    let rate = standing.quota.rate;
    let unit = match rate.unit() {
        RateUnit::Second => Unit::Second,
        RateUnit::Minute => Unit::Minute,
        RateUnit::Hour => Unit::Hour,
    };
    DescriptorStatus {
        code: code(standing.ruling).into(),
        current_limit: Some(RateLimit {
            name: standing.name.to_string(),
            requests_per_unit: rate.count().get(),
            unit: unit.into(),
        }),
        limit_remaining: standing.remaining,
        duration_until_reset: prost_types::Duration::try_from(standing.resets_in).ok(),
        quota: None,
    }
}

/// Only what a document names becomes a label: a domain that none has is counted under no name.
fn count(domain: &str, decided: &Decided) {
    let known = if decided.standings.iter().any(Option::is_some) { domain } else { "" };
    let result = match decided.ruling {
        Ruling::Within | Ruling::Shadowed => "within",
        Ruling::Over => "over",
    };
    let labels = [("domain", known.to_owned()), ("result", result.to_owned())];
    metrics::counter!("podgate_rate_limit_calls_total", &labels).increment(1);
    for standing in decided.standings.iter().flatten() {
        let result = match standing.ruling {
            Ruling::Within => continue,
            Ruling::Shadowed => "shadowed",
            Ruling::Over => "over",
        };
        let labels = [
            ("domain", known.to_owned()),
            ("limit", standing.name.to_string()),
            ("result", result.to_owned()),
        ];
        metrics::counter!("podgate_rate_limit_over_total", &labels).increment(1);
    }
}
