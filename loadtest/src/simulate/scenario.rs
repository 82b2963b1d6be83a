//! What is simulated: the storm, the limits, the clients, and what goes wrong.

use std::{num::NonZeroU32, time::Duration};

use podgate_client::RetryPolicy;
use podgate_engine::{
    desk::DeskLimits,
    quota::{Quota, horizon_max},
};

use crate::{
    cli::{Policy, SimulateArgs},
    quantity::Rate,
    storm::{
        capacity::Capacity,
        optimum::{Demand, optimum_s},
    },
};

/// Time for one call on an open connection, as the client library has it.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What the desk is bounded by, as the gateway is unless set otherwise.
pub(crate) const DESK_LIMITS: DeskLimits = DeskLimits { parked_max: 8_192, bookings_max: 1_000_000 };

/// A storm to simulate, for any seed.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) pods: NonZeroU32,
    pub(crate) apps: u32,
    pub(crate) spread: Duration,
    pub(crate) rate: Rate,
    pub(crate) burst: u32,
    /// Rate and burst as the engine has them.
    pub(crate) quota: Quota,
    pub(crate) capacity: Capacity,
    pub(crate) capacity_quota: Quota,
    pub(crate) horizon: Duration,
    pub(crate) policy: Policy,
    pub(crate) retry: RetryPolicy,
    pub(crate) latency: Duration,
    pub(crate) mishaps: Mishaps,
    pub(crate) restarts: u32,
}

/// What goes wrong, each as a share of the pods, or of the calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mishaps {
    pub(crate) loss: f64,
    pub(crate) no_shows: f64,
    pub(crate) crashes: f64,
    pub(crate) slow: f64,
}

impl Scenario {
    /// As the command line has it, with `rate` in each app's bucket.
    pub(crate) fn new(args: &SimulateArgs, rate: Rate) -> Self {
        let capacity = match args.capacity_rate {
            Some(rate) => Capacity::bound(rate, args.capacity_burst),
            None => Capacity::ample(
                f64::from(args.apps) * rate.per_s(),
                f64::from(args.apps) * f64::from(args.burst),
            ),
        };
        let quota = quota(rate, args.burst);
        Self {
            pods: args.pods,
            apps: args.apps,
            spread: args.spread,
            rate,
            burst: args.burst,
            quota,
            capacity,
            capacity_quota: self::quota(capacity.rate(), capacity.burst()),
            horizon: args.horizon.min(horizon_max(quota.rate)),
            policy: args.retry.policy,
            retry: args.retry.within(args.budget),
            latency: args.latency,
            mishaps: Mishaps {
                loss: args.loss,
                no_shows: args.no_shows,
                crashes: args.crashes,
                slow: args.slow,
            },
            restarts: args.restarts,
        }
    }

    /// T* for so many pods of each app, where a call takes so long there and back.
    pub(crate) fn optimum_s(&self, pods_of_apps: &[u32], round_trip: Duration) -> f64 {
        let app = |count: &u32| Demand { count: *count, rate_per_s: self.rate.per_s(), burst: self.burst };
        let shared = match self.capacity {
            Capacity::Bound { rate, burst } => {
                Some(Demand { count: pods_of_apps.iter().sum(), rate_per_s: rate.per_s(), burst })
            }
            Capacity::Ample { .. } => None,
        };
        optimum_s(self.spread, pods_of_apps.iter().map(app).chain(shared), round_trip)
    }
}

/// Both are read by the same rules; a rate of the command line is one that a profile could have.
fn quota(rate: Rate, burst: u32) -> Quota {
    let (Ok(rate), Some(burst)) = (rate.to_string().parse(), NonZeroU32::new(burst)) else {
        unreachable!("the command line takes no other rates and bursts than profiles do")
    };
    Quota { rate, burst }
}
