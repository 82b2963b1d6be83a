//! Rate-limiter state by address, bounded in memory: a store for governor.

use std::{
    collections::hash_map::Entry,
    hash::{BuildHasher as _, BuildHasherDefault},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use governor::{nanos::Nanos, state::StateStore};
use ipnet::Ipv6Net;
use rustc_hash::{FxHashMap, FxHasher};

/// Shards, so that worker threads seldom meet.
const SHARDS: usize = 64;

/// An address as the limiter counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u128);

impl AddressKey {
    /// v4 by address; v6 by address inside `pod_cidrs`, else by /64, which is what one host commonly has.
    pub fn new(address: IpAddr, pod_cidrs: &[Ipv6Net]) -> Self {
        match address {
            IpAddr::V4(v4) => Self(u128::from(v4.to_ipv6_mapped())),
            IpAddr::V6(v6) if pod_cidrs.iter().any(|range| range.contains(&v6)) => Self(u128::from(v6)),
            IpAddr::V6(v6) => Self(u128::from(v6) & !u128::from(u64::MAX)),
        }
    }
}

impl AddressKey {
    /// The address as a number: of IPv4, or else of IPv6.
    pub fn v4_or_v6(self) -> Result<u32, u128> {
        Ipv6Addr::from(self.0).to_ipv4_mapped().map(u32::from).ok_or(self.0)
    }
}

/// The theoretical arrival time of each address, in nanoseconds since the limiter began. Addresses beyond the bound
/// share one.
#[derive(Debug)]
pub struct Addresses {
    shards: Box<[Mutex<FxHashMap<AddressKey, u64>>]>,
    shard_max: usize,
    overflow: Mutex<Option<u64>>,
    overflowed: AtomicU64,
}

/// A shared handle, which governor can own.
#[derive(Clone, Debug)]
pub struct SharedAddresses(pub Arc<Addresses>);

impl Addresses {
    /// Tracks at most about `most` addresses.
    pub fn new(most: NonZeroUsize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_max: most.get().div_ceil(SHARDS),
            overflow: Mutex::default(),
            overflowed: AtomicU64::new(0),
        }
    }

    /// How many addresses are tracked.
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many calls were counted in the shared overflow.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Forgets the addresses of one shard that are as good as new at `now_ns` since the limiter began.
    ///
    /// Shard by shard, so that no caller waits for the whole.
    pub fn evict(&self, shard: usize, now_ns: u64) {
        let mut shard = self.shards[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        shard.retain(|_, arrival_ns| *arrival_ns > now_ns);
        if shard.capacity() > shard.len().saturating_mul(4).max(64) {
            shard.shrink_to_fit();
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        SHARDS
    }
}

impl StateStore for SharedAddresses {
    type Key = AddressKey;

    fn measure_and_replace<T, F, E>(&self, key: &AddressKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(key);
        let shard = &self.0.shards[(hash >> 40) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = shard.len() >= self.0.shard_max;
        match shard.entry(*key) {
            Entry::Occupied(mut entry) => {
                let (value, next) = decide(Some((*entry.get()).into()))?;
                entry.insert(next.as_u64());
                Ok(value)
            }
            Entry::Vacant(entry) if !is_full => {
                let (value, next) = decide(None)?;
                entry.insert(next.as_u64());
                Ok(value)
            }
            Entry::Vacant(_) => {
                self.0.overflowed.fetch_add(1, Ordering::Relaxed);
                let mut shared = self.0.overflow.lock().unwrap_or_else(PoisonError::into_inner);
                let (value, next) = decide((*shared).map(Into::into))?;
                *shared = Some(next.as_u64());
                Ok(value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v6_counts_by_64_outside_the_pod_ranges() {
        let pods: [Ipv6Net; 1] = ["fd00:1::/32".parse().unwrap()];
        let key = |text: &str| AddressKey::new(text.parse().unwrap(), &pods);
        assert_eq!(key("2001:db8::1"), key("2001:db8::2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("fd00:1::1"), key("fd00:1::2"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
