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

/// The theoretical arrival time of each address, in nanoseconds since the limiter began, in 64 maps that grow by
/// doubling: 33 bytes a place, and so at most 76 an address. Each map has a 64th of the bound for its own; addresses
/// that find theirs full share one arrival time until an eviction has made room.
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

    fn shard_of(&self, key: &AddressKey) -> &Mutex<FxHashMap<AddressKey, u64>> {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(key);
        // The top bits of the product that FxHash makes, which it turns to here: the only ones that depend on every bit
        // of an address. The maps go by those below and around them.
        &self.shards[(hash >> 20) as usize % SHARDS]
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
        let mut shard = self.0.shard_of(key).lock().unwrap_or_else(PoisonError::into_inner);
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
    use std::time::Duration;

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

    /// Notes a first call from an address.
    fn note(addresses: &SharedAddresses, key: AddressKey) {
        let passed: Result<(), ()> =
            addresses.measure_and_replace(&key, |_| Ok(((), Nanos::from(Duration::from_secs(3600)))));
        passed.unwrap();
    }

    fn heap_bytes(addresses: &Addresses) -> usize {
        // hashbrown keeps a control byte a place, one group of 16 beyond them, and fills seven of eight places at most.
        let bytes = |capacity: usize| {
            let places = (capacity * 8 / 7).next_power_of_two();
            places * (size_of::<(AddressKey, u64)>() + 1) + 16
        };
        addresses.shards.iter().map(|shard| bytes(shard.lock().unwrap().capacity())).sum()
    }

    #[test]
    fn a_million_addresses_take_at_most_128_bytes_each() {
        const MOST: usize = 1_000_000;
        let addresses = SharedAddresses(Arc::new(Addresses::new(NonZeroUsize::new(MOST).unwrap())));
        let (mut most_each, mut looked_at) = (0.0f64, 0);
        for number in 0..MOST as u32 {
            note(&addresses, AddressKey::new(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), &[]));
            // Where the maps double, and at the end.
            if number >= 100_000 && number % 50_000 == 0 || number + 1 == MOST as u32 {
                let each = heap_bytes(&addresses.0) as f64 / f64::from(number + 1);
                (most_each, looked_at) = (most_each.max(each), looked_at + 1);
            }
        }
        assert!(most_each <= 128.0 && looked_at == 19, "{most_each} bytes an address");
        // What does not fit its own map is counted, and is little: the maps fill evenly.
        let (tracked, overflowed) = (addresses.0.len() as u64, addresses.0.overflowed());
        assert_eq!(tracked + overflowed, MOST as u64);
        assert!(overflowed < MOST as u64 / 100, "{overflowed} of {MOST} addresses overflowed");
    }

    #[test]
    fn addresses_fill_the_maps_evenly_however_they_are_numbered() {
        type Numbering = fn(u32) -> IpAddr;
        // There is room for a fifth more than come, so that only a crooked spread overflows.
        const COMING: u32 = 65_536;
        fn v4(number: u32) -> IpAddr {
            IpAddr::from(number.to_be_bytes())
        }
        fn v6(number: u32, shift: u32) -> IpAddr {
            IpAddr::from(((0x2001_0db8_u128 << 96) ^ (u128::from(number) << shift)).to_be_bytes())
        }
        let numberings: [(&str, Numbering); 7] = [
            ("v4, one after the other", v4),
            ("v4, every 256th", |number| v4(number << 8)),
            ("v4, every 65,536th", |number| v4(number << 16)),
            ("v6, by /64", |number| v6(number, 64)),
            ("v6, by /56", |number| v6(number, 72)),
            ("v6, by /48", |number| v6(number, 80)),
            ("v6, by /32", |number| v6(number, 96)),
        ];
        for (name, address) in numberings {
            let most = NonZeroUsize::new(COMING as usize * 6 / 5).unwrap();
            let addresses = SharedAddresses(Arc::new(Addresses::new(most)));
            for number in 0..COMING {
                note(&addresses, AddressKey::new(address(number), &[]));
            }
            assert_eq!((addresses.0.len(), addresses.0.overflowed()), (COMING as usize, 0), "{name}");
        }
    }

    #[test]
    fn who_overflows_is_tracked_again_when_there_is_room() {
        let addresses = SharedAddresses(Arc::new(Addresses::new(NonZeroUsize::MIN)));
        let key = |last: u8| AddressKey::new(IpAddr::from([10, 0, 0, last]), &[]);
        let first = |seen: Option<Nanos>| match seen {
            None => Ok(((), Nanos::from(Duration::from_nanos(100)))),
            Some(_) => Err(()),
        };
        let same_shard =
            |last: &u8| std::ptr::eq(addresses.0.shard_of(&key(*last)), addresses.0.shard_of(&key(0)));
        let others: Vec<u8> = (1..=255).filter(same_shard).take(2).collect();
        assert_eq!(addresses.measure_and_replace(&key(0), first), Ok(()));
        // The map holds one: the next has the shared place to itself, and a third finds it taken.
        assert_eq!(addresses.measure_and_replace(&key(others[0]), first), Ok(()));
        assert_eq!(addresses.measure_and_replace(&key(others[1]), first), Err(()));
        assert_eq!((addresses.0.len(), addresses.0.overflowed()), (1, 2));
        for shard in 0..addresses.0.shards() {
            addresses.0.evict(shard, 100);
        }
        assert_eq!(addresses.measure_and_replace(&key(others[1]), first), Ok(()));
        assert_eq!((addresses.0.len(), addresses.0.overflowed()), (1, 2));
    }
}
