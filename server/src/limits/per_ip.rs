//! The limit on calls of one address: governor's GCRA over the bounded store.

use std::{net::IpAddr, sync::Arc, time::Duration};

use governor::{Quota, RateLimiter, clock::Clock as _, middleware::NoOpMiddleware};
use ipnet::Ipv6Net;
use podgate_engine::time::Moment;

use crate::{
    clock::{BootClock, BootInstant},
    config::values::PerIp,
    limits::addresses::{AddressKey, Addresses, SharedAddresses},
};

/// Limits calls by source address.
#[derive(Debug)]
pub struct PerIpLimit {
    limiter: RateLimiter<AddressKey, SharedAddresses, BootClock, NoOpMiddleware<BootInstant>>,
    addresses: Arc<Addresses>,
    pod_cidrs: Box<[Ipv6Net]>,
    began: Moment,
}

impl PerIpLimit {
    /// A limit by these settings. An interval of zero cannot be: a rate has an upper bound.
    pub fn new(settings: &PerIp) -> Self {
        let addresses = Arc::new(Addresses::new(settings.addresses_max));
        let interval = settings.quota.rate.interval();
        let quota = Quota::with_period(interval)
            .unwrap_or_else(|| Quota::per_second(settings.quota.burst))
            .allow_burst(settings.quota.burst);
        let limiter = RateLimiter::new(quota, SharedAddresses(Arc::clone(&addresses)), BootClock);
        let began = BootClock.now().0;
        Self { limiter, addresses, pod_cidrs: settings.pod_cidrs.clone().into(), began }
    }

    /// Counts a call, or tells how long its address has to wait.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let key = AddressKey::new(address, &self.pod_cidrs);
        self.limiter.check_key(&key).map_err(|refusal| refusal.wait_time_from(BootClock.now()))
    }

    /// Forgets the addresses of one of the shards that are as good as new; returns how many shards there are.
    pub fn evict(&self, shard: usize, now: Moment) -> usize {
        self.addresses.evict(shard, u64::try_from(now.since(self.began).as_nanos()).unwrap_or(u64::MAX));
        self.addresses.shards()
    }

    /// Addresses tracked now, and calls counted in the shared overflow so far.
    pub fn usage(&self) -> (usize, u64) {
        (self.addresses.len(), self.addresses.overflowed())
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use super::*;

    fn limit(addresses_max: usize) -> PerIpLimit {
        PerIpLimit::new(&PerIp {
            quota: podgate_engine::quota::Quota {
                rate: "1/h".parse().unwrap(),
                burst: NonZeroU32::new(3).unwrap(),
            },
            addresses_max: NonZeroUsize::new(addresses_max).unwrap(),
            pod_cidrs: Vec::new(),
        })
    }

    #[test]
    fn each_address_has_its_own_burst() {
        let limit = limit(1_000);
        for last in 0..10 {
            let address = IpAddr::from([10, 0, 0, last]);
            for _ in 0..3 {
                assert_eq!(limit.check(address), Ok(()));
            }
            assert!(limit.check(address).unwrap_err() > Duration::from_secs(3_000));
        }
        assert_eq!(limit.usage(), (10, 0));
    }

    #[test]
    fn beyond_the_bound_addresses_share_one_bucket_and_are_counted() {
        let limit = limit(64);
        let mut passed = 0;
        for number in 0..10_000u32 {
            passed += usize::from(limit.check(IpAddr::from(number.to_be_bytes())).is_ok());
        }
        let (tracked, overflowed) = limit.usage();
        assert!(tracked <= 64, "{tracked} addresses tracked");
        assert_eq!(overflowed, 10_000 - tracked as u64);
        assert_eq!(passed, tracked + 3);
    }

    #[test]
    fn addresses_that_are_as_good_as_new_are_forgotten() {
        let limit = limit(1_000);
        limit.check(IpAddr::from([10, 0, 0, 1])).unwrap();
        let later = |hours: i64| limit.began.offset(hours * 3_600_000_000_000);
        for shard in 0..limit.evict(0, limit.began) {
            limit.evict(shard, limit.began);
        }
        assert_eq!(limit.usage().0, 1);
        for shard in 0..limit.evict(0, limit.began) {
            limit.evict(shard, later(2));
        }
        assert_eq!(limit.usage().0, 0);
    }
}
