//! What the pods went through, counted.

use std::{collections::BTreeMap, time::Duration};

use crate::{figures::Durations, over_admission::over_admission};

/// Whether the gateway's boot clock is this machine's too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootClock {
    /// Same machine: `admitted_at` can be compared with the time of the call.
    Shared,
    /// Another machine.
    Foreign,
}

/// How a pod got its grant.
#[derive(Debug, Clone)]
pub(crate) struct Authorized {
    /// Time since the storm's start.
    pub(crate) at: Duration,
    /// Time since the pod's arrival.
    pub(crate) waited: Duration,
    /// The admission; none where everything was a common port.
    pub(crate) admission: Option<Admission>,
    /// The grant.
    pub(crate) grant_id: Option<String>,
}

/// When a pod was admitted, and the call that said so, by the boot clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// When the gateway says that it was.
    pub(crate) admitted_at_ns: u64,
    /// When the call was sent. For a repeated grant, whose first answer may have been lost: the pod's first call.
    pub(crate) sent_ns: u64,
    /// When the answer was there.
    pub(crate) received_ns: u64,
    /// Whether the grant is of this call.
    pub(crate) freshness: Freshness,
}

/// Whether a grant is of the call that was answered with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It is.
    Fresh,
    /// It is of an earlier call.
    Repeated,
}

/// Why a pod gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum GaveUp {
    /// Refused for its rate to the end.
    Throttled,
    /// No gateway decided.
    Unavailable,
    /// The gateway wants to know who calls.
    Unauthenticated,
    /// The gateway refuses the request.
    Misconfigured,
}

impl GaveUp {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// Everything counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) call_latency: Durations,
    pub(crate) time_to_grant: Durations,
    pub(crate) start_lag: Durations,
    pub(crate) calls_per_pod_max: u32,
    pub(crate) authorized: u32,
    pub(crate) repeated: u32,
    pub(crate) denied: u32,
    pub(crate) gave_up: BTreeMap<GaveUp, u32>,
    /// What the first pod of each kind was told.
    pub(crate) gave_up_reasons: BTreeMap<GaveUp, String>,
    pub(crate) last_authorized: Duration,
    /// Admissions whose instant lies outside their call; `None` where that cannot be told.
    pub(crate) outside_call: Option<u32>,
    admitted_at_ns: Vec<Vec<u64>>,
    grants: Vec<String>,
}

impl Tally {
    pub(crate) fn new(apps: u32, clock: BootClock) -> Self {
        Self {
            call_latency: Durations::new(),
            time_to_grant: Durations::new(),
            start_lag: Durations::new(),
            calls_per_pod_max: 0,
            authorized: 0,
            repeated: 0,
            denied: 0,
            gave_up: BTreeMap::new(),
            gave_up_reasons: BTreeMap::new(),
            last_authorized: Duration::ZERO,
            outside_call: match clock {
                BootClock::Shared => Some(0),
                BootClock::Foreign => None,
            },
            admitted_at_ns: vec![Vec::new(); apps as usize],
            grants: Vec::new(),
        }
    }

    /// A pod began, so much later than it should have.
    pub(crate) fn started(&mut self, lag: Duration) {
        self.start_lag.record(lag);
    }

    /// A call ended, so long after it should have been sent.
    pub(crate) fn called(&mut self, latency: Duration) {
        self.call_latency.record(latency);
    }

    /// A pod of `app` ended with a grant.
    pub(crate) fn authorized(&mut self, app: u32, calls: u32, authorized: Authorized) {
        self.ended(calls);
        self.authorized += 1;
        self.last_authorized = self.last_authorized.max(authorized.at);
        self.time_to_grant.record(authorized.waited);
        self.grants.extend(authorized.grant_id);
        let Some(admission) = authorized.admission else { return };
        self.repeated += u32::from(admission.freshness == Freshness::Repeated);
        self.admitted_at_ns[app as usize].push(admission.admitted_at_ns);
        // A repeated grant may be older than this storm, where the gateway is.
        let after_send =
            admission.freshness == Freshness::Repeated || admission.sent_ns <= admission.admitted_at_ns;
        let inside = after_send && admission.admitted_at_ns <= admission.received_ns;
        if let (Some(outside), false) = (&mut self.outside_call, inside) {
            *outside += 1;
        }
    }

    /// A pod ended denied.
    pub(crate) fn denied(&mut self, calls: u32) {
        self.ended(calls);
        self.denied += 1;
    }

    /// A pod gave up.
    pub(crate) fn gave_up(&mut self, why: GaveUp, reason: &str, calls: u32) {
        self.ended(calls);
        *self.gave_up.entry(why).or_default() += 1;
        self.gave_up_reasons.entry(why).or_insert_with(|| reason.to_owned());
    }

    fn ended(&mut self, calls: u32) {
        self.calls_per_pod_max = self.calls_per_pod_max.max(calls);
    }

    pub(crate) fn gave_up_total(&self) -> u32 {
        self.gave_up.values().sum()
    }

    /// Pods that came to an end.
    pub(crate) fn decided(&self) -> u32 {
        self.authorized + self.denied + self.gave_up_total()
    }

    pub(crate) fn calls_total(&self) -> u64 {
        self.call_latency.count()
    }

    pub(crate) fn call_latency_median(&self) -> Duration {
        Duration::from_secs_f64(self.call_latency.quantile_us(0.5).unwrap_or(0.0) / 1e6)
    }

    /// The ids of all grants that were told, once.
    pub(crate) fn take_grants(&mut self) -> Vec<String> {
        std::mem::take(&mut self.grants)
    }

    /// The most over all apps, in tokens.
    pub(crate) fn over_admission(&self, rate_per_s: f64, burst: u32) -> f64 {
        let of_app = |at_ns: &Vec<u64>| {
            let mut sorted = at_ns.clone();
            sorted.sort_unstable();
            over_admission(&sorted, rate_per_s, burst)
        };
        self.admitted_at_ns.iter().map(of_app).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorized(admitted_at_ns: u64, freshness: Freshness) -> Authorized {
        Authorized {
            at: Duration::from_millis(admitted_at_ns),
            waited: Duration::from_millis(1),
            admission: Some(Admission { admitted_at_ns, sent_ns: 10, received_ns: 20, freshness }),
            grant_id: Some(admitted_at_ns.to_string()),
        }
    }

    #[test]
    fn an_admission_lies_inside_its_call() {
        let mut tally = Tally::new(1, BootClock::Shared);
        for (at, outside) in [(10, 0), (20, 0), (9, 1), (21, 2)] {
            tally.authorized(0, 1, authorized(at, Freshness::Fresh));
            assert_eq!(tally.outside_call, Some(outside), "{at}");
        }
        tally.authorized(0, 1, authorized(5, Freshness::Repeated));
        assert_eq!(tally.outside_call, Some(2));
        tally.authorized(0, 1, authorized(21, Freshness::Repeated));
        assert_eq!((tally.outside_call, tally.repeated, tally.authorized), (Some(3), 2, 6));
        let mut foreign = Tally::new(1, BootClock::Foreign);
        foreign.authorized(0, 1, authorized(9, Freshness::Fresh));
        assert_eq!(foreign.outside_call, None);
    }

    #[test]
    fn counts_ends_and_finds_the_worst_app() {
        let mut tally = Tally::new(2, BootClock::Foreign);
        tally.authorized(0, 2, authorized(15, Freshness::Fresh));
        for _ in 0..4 {
            tally.authorized(1, 3, authorized(12, Freshness::Fresh));
        }
        tally.denied(1);
        tally.gave_up(GaveUp::Throttled, "rate", 16);
        tally.gave_up(GaveUp::Throttled, "other", 4);
        assert_eq!((tally.decided(), tally.gave_up_total(), tally.calls_per_pod_max), (8, 2, 16));
        assert_eq!(tally.gave_up_reasons[&GaveUp::Throttled], "rate");
        assert_eq!(tally.last_authorized, Duration::from_millis(15));
        assert!((tally.over_admission(1.0, 3) - 1.0).abs() < 1e-6);
        assert_eq!(tally.take_grants().len(), 5);
    }
}
