//! What is counted about the upstream. The handles are kept: looking one up costs more than counting.

use std::time::Duration;

use metrics::{Counter, Histogram};

use crate::upstream::backend::Fault;

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Apply with grants.
    Apply,
    /// Revoke.
    Revoke,
    /// Apply without grants: whether somebody is there.
    Probe,
}

/// The counters.
#[derive(Debug)]
pub(crate) struct Measures {
    apply: OfCall,
    revoke: OfCall,
    probe: OfCall,
    pub(crate) in_force: Counter,
    pub(crate) again: Counter,
    pub(crate) given_up: Counter,
    pub(crate) refused: Counter,
    pub(crate) ended: Counter,
}

#[derive(Debug)]
struct OfCall {
    ok: Counter,
    absent: Counter,
    broken: Counter,
    refused: Counter,
    seconds: Histogram,
}

impl Measures {
    pub(crate) fn new() -> Self {
        let grants = |result| metrics::counter!("podgate_upstream_grants_total", "result" => result);
        Self {
            apply: OfCall::new("apply"),
            revoke: OfCall::new("revoke"),
            probe: OfCall::new("probe"),
            in_force: grants("applied"),
            again: grants("again"),
            given_up: grants("given_up"),
            refused: grants("refused"),
            ended: grants("revoked"),
        }
    }

    /// A call has ended.
    pub(crate) fn note(&self, call: Call, took: Duration, fault: Option<&Fault>) {
        let of_call = match call {
            Call::Apply => &self.apply,
            Call::Revoke => &self.revoke,
            Call::Probe => &self.probe,
        };
        of_call.seconds.record(took.as_secs_f64());
        let counter = match fault {
            None => &of_call.ok,
            Some(Fault::Absent(_)) => &of_call.absent,
            Some(Fault::Broken(_)) => &of_call.broken,
            Some(Fault::Refused(_)) => &of_call.refused,
        };
        counter.increment(1);
    }
}

impl OfCall {
    fn new(call: &'static str) -> Self {
        let counter =
            |result| metrics::counter!("podgate_upstream_calls_total", "call" => call, "result" => result);
        Self {
            ok: counter("ok"),
            absent: counter("absent"),
            broken: counter("broken"),
            refused: counter("refused"),
            seconds: metrics::histogram!("podgate_upstream_call_seconds", "call" => call),
        }
    }
}
