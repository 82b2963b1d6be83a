//! What the pods went through, counted.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use crate::{
    figures::Durations,
    over_admission::{level_max, over_admission_max},
    timeline::{Admissions, CallCounts, Series, Timeline},
};

/// Bins of the histogram of the time to a grant.
const GRANT_BINS: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// What rounding may add to a level, in tokens.
pub(crate) const ROUNDING: f64 = 1e-6;

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
    /// The load tester had no room for it.
    TurnedAway,
}

impl GaveUp {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::Misconfigured => "misconfigured",
            Self::TurnedAway => "turned_away",
        }
    }
}

/// Everything counted.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) call_latency: Durations,
    pub(crate) time_to_grant: Durations,
    pub(crate) start_lag: Durations,
    /// How late calls were sent, the first ones and those after a wait.
    pub(crate) lateness: Durations,
    pub(crate) calls_per_pod_max: u32,
    pub(crate) authorized: u32,
    pub(crate) repeated: u32,
    pub(crate) denied: u32,
    pub(crate) gave_up: BTreeMap<GaveUp, u32>,
    /// What the first pod of each kind was told.
    pub(crate) gave_up_reasons: BTreeMap<GaveUp, String>,
    pub(crate) last_authorized: Duration,
    /// Those that were authorized before the end of an overload.
    pub(crate) authorized_in_time: u32,
    /// Admissions whose instant lies outside their call; `None` where that cannot be told.
    pub(crate) outside_call: Option<u32>,
    /// End of an overload, after the start.
    overload_end: Option<Duration>,
    admitted_at_ns: Vec<Vec<u64>>,
    grants: Vec<String>,
    authorized_by_time: Series,
    calls_by_time: Series,
    calls_per_pod: CallCounts,
}

/// How the admissions of all apps kept their bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounds {
    /// The most by which those of one app passed B + R·Δ, in tokens.
    pub(crate) over_admission: f64,
    /// Apps of which those in some window passed B + R·Δ + 0.2·R + 1.
    pub(crate) violations: u32,
    /// The app that came nearest its bound, or passed it furthest.
    pub(crate) nearest: Option<Admissions>,
}

impl Tally {
    pub(crate) fn new(apps: u32, clock: BootClock, overload_end: Option<Duration>) -> Self {
        Self {
            call_latency: Durations::new(),
            time_to_grant: Durations::new(),
            start_lag: Durations::new(),
            lateness: Durations::new(),
            calls_per_pod_max: 0,
            authorized: 0,
            repeated: 0,
            denied: 0,
            gave_up: BTreeMap::new(),
            gave_up_reasons: BTreeMap::new(),
            last_authorized: Duration::ZERO,
            authorized_in_time: 0,
            outside_call: match clock {
                BootClock::Shared => Some(0),
                BootClock::Foreign => None,
            },
            overload_end,
            admitted_at_ns: vec![Vec::new(); apps as usize],
            grants: Vec::new(),
            authorized_by_time: Series::new(),
            calls_by_time: Series::new(),
            calls_per_pod: CallCounts::default(),
        }
    }

    /// A pod began, so much later than it should have.
    pub(crate) fn started(&mut self, lag: Duration) {
        self.start_lag.record(lag);
    }

    /// A call was sent, or the dialing for it begun, so much later than it should have been.
    pub(crate) fn sent(&mut self, lateness: Duration) {
        self.lateness.record(lateness);
    }

    /// A call ended `at` since the storm's start, so long after it should have been sent.
    pub(crate) fn called(&mut self, at: Duration, latency: Duration) {
        self.call_latency.record(latency);
        self.calls_by_time.record(at);
    }

    /// A pod of `app` ended with a grant.
    pub(crate) fn authorized(&mut self, app: u32, calls: u32, authorized: Authorized) {
        self.ended(calls);
        self.authorized += 1;
        self.last_authorized = self.last_authorized.max(authorized.at);
        self.authorized_in_time += u32::from(self.overload_end.is_some_and(|end| authorized.at <= end));
        self.authorized_by_time.record(authorized.at);
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

    /// An admission of `app` of which no pod tells, because its answer, or its pod, may be lost.
    pub(crate) fn admitted(&mut self, app: u32, admitted_at_ns: u64) {
        self.admitted_at_ns[app as usize].push(admitted_at_ns);
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
        self.calls_per_pod.record(calls);
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

    /// One round trip: that of the quickest call. Others may have been held open until their turn.
    pub(crate) fn round_trip(&self) -> Duration {
        Duration::from_secs_f64(self.call_latency.quantile_us(0.0).unwrap_or(0.0) / 1e6)
    }

    /// The ids of all grants that were told, once.
    pub(crate) fn take_grants(&mut self) -> Vec<String> {
        std::mem::take(&mut self.grants)
    }

    /// Looks at the admissions of all apps, whose buckets are alike.
    pub(crate) fn bounds(&self, rate_per_s: f64, burst: u32) -> Bounds {
        let mut bounds = Bounds { over_admission: 0.0, violations: 0, nearest: None };
        let mut highest = 0.0;
        for (app, at_ns) in self.admitted_at_ns.iter().enumerate() {
            let mut sorted = at_ns.clone();
            sorted.sort_unstable();
            let level = level_max(&sorted, rate_per_s);
            let over = level - f64::from(burst);
            bounds.violations += u32::from(over > over_admission_max(rate_per_s) + ROUNDING);
            if level > highest {
                highest = level;
                bounds.over_admission = over.max(0.0);
                bounds.nearest = Some(Admissions::new(app as u32, rate_per_s, burst, &sorted));
            }
        }
        bounds
    }

    /// The series of what was counted; those of the background are added by whoever has one.
    pub(crate) fn timeline(&self, bounds: &Bounds) -> Timeline {
        Timeline {
            authorized: self.authorized_by_time.clone(),
            calls: self.calls_by_time.clone(),
            admissions: bounds.nearest.clone(),
            time_to_grant: self.time_to_grant.bins(GRANT_BINS),
            calls_per_pod: self.calls_per_pod.rows(),
            background_worst_ms: None,
        }
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
