//! HTTP: metrics and probes, on a port of their own.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::sync::watch;

use crate::serve::{telemetry::Gauges, workers::Shutdown};

/// Faults shown by `/readyz`.
const FAULTS_SHOWN_MAX: usize = 20;

/// What the pages need.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Renders metrics.
    pub metrics: PrometheusHandle,
    /// What is measured when somebody looks.
    pub gauges: Gauges,
    /// Whether the gateway is ending.
    pub shutdown: watch::Receiver<Shutdown>,
}

/// All pages.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Arc::new(pages))
}

async fn metrics(State(pages): State<Arc<Pages>>) -> Response {
    pages.gauges.update();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.render()).into_response()
}

/// 200 when calls are served. The detail also names faults that do not keep the gateway from serving: it then serves
/// the last good policy.
async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    let policies = pages.gauges.gate.policies();
    let faults = policies.faults();
    let is_draining = *pages.shutdown.borrow() != Shutdown::Serving;
    let policy = policies.in_force().ok().and_then(|in_force| {
        let policy = in_force.as_ref()?.policy();
        Some(json!({
            "revision": format!("{:016x}", policy.revision()),
            "profiles": policy.profiles().len(),
            "common_ports": policy.common().len(),
        }))
    });
    let is_ready = policy.is_some() && !is_draining;
    let detail = json!({
        "ready": is_ready,
        "draining": is_draining,
        "policy": policy,
        "faults_total": faults.len(),
        "faults": faults.iter().take(FAULTS_SHOWN_MAX).collect::<Vec<_>>(),
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(detail)).into_response()
}
