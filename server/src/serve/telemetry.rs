//! Logs and metrics.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::{Config, values::LogFormat},
    gate::Gate,
    grpc::service::Flow,
    serve::places::Places,
};

/// Buckets of durations, in seconds.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Buckets of counts.
const COUNTS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Sends log lines to standard error: text on a terminal, else JSON, unless it is set.
pub fn log(config: &Config) {
    let filter = EnvFilter::new(&config.log_level);
    let is_json = match config.log_format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    // A second call in one process (the load tester starts gateways as processes, tests do not) changes nothing.
    let started = if is_json {
        registry.with(fmt::layer().json().flatten_event(true).with_writer(io::stderr)).try_init()
    } else {
        let colours = io::stderr().is_terminal();
        registry.with(fmt::layer().with_ansi(colours).with_writer(io::stderr)).try_init()
    };
    drop(started);
}

/// Installs the recorder of metrics.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &COUNTS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("podgate_decisions_total", "Authorize calls answered, by outcome");
    describe_counter!("podgate_refusals_total", "Calls refused, by reason");
    describe_counter!("podgate_connections_refused_total", "Connections refused, by reason");
    describe_counter!(
        "podgate_connections_idle_total",
        "Connections closed because nobody asked anything on them"
    );
    describe_counter!(
        "podgate_permits_lapsed_total",
        "Connections that took too long over their first request"
    );
    describe_counter!("podgate_turns_total", "Callers that asked for a token, by what they were told");
    describe_counter!("podgate_tickets_total", "Tickets that came back, by what they were worth");
    describe_counter!("podgate_shed_total", "Calls shed because too many were in flight, by lane");
    describe_gauge!("podgate_parked", "Calls that wait for a near slot");
    describe_gauge!("podgate_bookings_open", "Slots that are booked and whose holders have not come yet");
    describe_gauge!("podgate_bookings_bytes", "Memory that bookings take");
    describe_gauge!("podgate_no_shows", "Bookings whose holders did not come, so far");
    describe_counter!("podgate_store_busy_total", "Writes refused because too many were waiting");
    describe_counter!("podgate_store_failures_total", "Groups of writes that failed");
    describe_counter!("podgate_policy_reloads_total", "Readings of changed profiles, by result");
    describe_gauge!(
        "podgate_policy_faults",
        "Faults of the profiles on disk; 0: what is on disk is in force"
    );
    describe_gauge!("podgate_policy_profiles", "Profiles in force");
    describe_gauge!("podgate_policy_common_ports", "Common-ports documents in force");
    describe_gauge!("podgate_policy_rate_limits", "Rate-limits documents in force");
    describe_counter!(
        "podgate_envoy_checks_total",
        "Connections and requests that Envoys asked about, by verdict"
    );
    describe_counter!(
        "podgate_rate_limit_calls_total",
        "Calls about rate limits, by domain and what they came to"
    );
    describe_counter!("podgate_rate_limit_over_total", "Descriptors that found no room, by domain and limit");
    describe_gauge!("podgate_rate_limit_values", "Buckets that rate limits keep for single values");
    describe_gauge!(
        "podgate_rate_limit_values_shared",
        "Descriptors so far whose values found no bucket of their own and shared one"
    );
    describe_gauge!("podgate_grants", "Living grants");
    describe_counter!("podgate_renewals_total", "Leases that their holders asked to extend, by outcome");
    describe_counter!("podgate_redecided_total", "Grants that a change of policy narrowed or took back");
    describe_gauge!("podgate_occupancies", "Addresses whose former holders are remembered");
    describe_counter!(
        "podgate_occupancies_forgotten_total",
        "Addresses whose former holders were forgotten early, because too many are remembered"
    );
    describe_gauge!("podgate_connections", "Connections held");
    describe_gauge!("podgate_calls_in_flight", "Calls being worked on");
    describe_gauge!("podgate_addresses_tracked", "Addresses in the per-IP limiter");
    describe_gauge!("podgate_addresses_overflowed", "Calls counted in the per-IP limiter's shared bucket");
    describe_gauge!("podgate_store_bytes", "Size of the store's file");
    describe_histogram!("podgate_store_commit_seconds", "Time of a commit of the store");
    describe_histogram!("podgate_store_group_commands", "Writes in one commit of the store");
    describe_gauge!("podgate_watchers", "Enforcers and others that watch grants");
    describe_gauge!("podgate_watch_lag", "Changes that the watcher furthest behind has not been told of");
    describe_gauge!("podgate_journal_changes", "Changes of grants kept for those that watch");
    describe_counter!("podgate_watch_snapshots_total", "Snapshots begun for watchers, by why");
    describe_counter!("podgate_barriers_total", "Grants that waited for enforcers, by what came of it");
    describe_counter!("podgate_upstream_calls_total", "Calls of the upstream, by call and result");
    describe_counter!("podgate_upstream_grants_total", "Grants that the upstream was told of, by result");
    describe_gauge!("podgate_upstream_pending", "Grants and ends that the upstream has not acknowledged");
    describe_gauge!("podgate_upstream_breaker", "Breaker of the upstream: 0 closed, 1 half-open, 2 open");
    describe_histogram!("podgate_upstream_call_seconds", "Time of a call of the upstream");
}

/// What is measured when somebody looks.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// The gate.
    pub gate: Arc<Gate>,
    /// Calls in flight.
    pub flow: Arc<Flow>,
    /// Connections held.
    pub places: Arc<Places>,
}

impl Gauges {
    /// Measures.
    pub fn update(&self) {
        let (tracked, overflowed) = self.gate.per_ip().usage();
        metrics::gauge!("podgate_grants").set(self.gate.store().grants().len() as f64);
        if let Some(bytes) = self.gate.store().bytes() {
            metrics::gauge!("podgate_store_bytes").set(bytes as f64);
        }
        metrics::gauge!("podgate_occupancies").set(self.gate.store().grants().occupancies() as f64);
        metrics::gauge!("podgate_connections").set(self.places.held() as f64);
        metrics::gauge!("podgate_calls_in_flight").set(self.flow.in_flight() as f64);
        let (open, no_shows, bytes) = self.gate.booking().usage();
        metrics::gauge!("podgate_parked").set(self.gate.booking().parked() as f64);
        metrics::gauge!("podgate_bookings_open").set(open as f64);
        metrics::gauge!("podgate_bookings_bytes").set(bytes as f64);
        metrics::gauge!("podgate_no_shows").set(no_shows as f64);
        metrics::gauge!("podgate_addresses_tracked").set(tracked as f64);
        metrics::gauge!("podgate_addresses_overflowed").set(overflowed as f64);
        let (values, shared) = self.gate.policies().rates().usage();
        metrics::gauge!("podgate_rate_limit_values").set(values as f64);
        metrics::gauge!("podgate_rate_limit_values_shared").set(shared as f64);
        let journal = self.gate.store().journal();
        let (watchers, lag) = self.gate.enforcers().usage(journal.head());
        metrics::gauge!("podgate_watchers").set(watchers as f64);
        metrics::gauge!("podgate_watch_lag").set(lag as f64);
        metrics::gauge!("podgate_journal_changes").set(journal.len() as f64);
        if let Some(upstream) = self.gate.upstream() {
            metrics::gauge!("podgate_upstream_pending").set(upstream.intake().pending() as f64);
            metrics::gauge!("podgate_upstream_breaker").set(f64::from(upstream.intake().breaker_phase()));
        }
    }
}
