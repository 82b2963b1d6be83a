//! Who arrives in a storm, and when: all of it from the seed.

use std::{net::Ipv4Addr, num::NonZeroU32, time::Duration};

use crate::seed::SplitMix64;

/// One virtual pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualPod {
    /// Index of its app.
    pub app: u32,
    /// Its uid.
    pub uid: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// When it arrives, after the storm's start.
    pub arrival: Duration,
    /// Seed of its waits.
    pub seed: u64,
}

/// Draws the pods, by arrival. Apps get equal parts (give or take one pod); addresses and uids are distinct.
pub fn population(pods: NonZeroU32, apps: u32, spread: Duration, seed: u64) -> Vec<VirtualPod> {
    let mut random = SplitMix64::new(seed, 1);
    let mut app_of: Vec<u32> = (0..pods.get()).map(|pod| pod % apps).collect();
    random.shuffle(&mut app_of);
    let spread_ns = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
    let mut drawn: Vec<VirtualPod> = app_of
        .into_iter()
        .zip(Addresses::new(seed))
        .map(|(app, address)| VirtualPod {
            app,
            uid: random.uuid(),
            address,
            arrival: Duration::from_nanos(random.below(spread_ns)),
            seed: random.next_u64(),
        })
        .collect();
    drawn.sort_by_key(|pod| pod.arrival);
    drawn
}

/// Distinct loopback addresses 127.x.y.z in a seeded order. 127.0.0.0/16 is left out, where services of this machine
/// listen, and so are .0 and .255. There are 16,581,120.
#[derive(Debug, Clone)]
pub struct Addresses {
    next: u64,
    step: u64,
    left: u64,
}

const ADDRESSES: u64 = 255 * 256 * 254;

impl Addresses {
    /// The order of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed, 2);
        // A step without a common divisor visits every address once.
        let step = loop {
            let step = 1 + random.below(ADDRESSES - 1);
            if gcd(step, ADDRESSES) == 1 {
                break step;
            }
        };
        Self { next: random.below(ADDRESSES), step, left: ADDRESSES }
    }
}

impl Iterator for Addresses {
    type Item = Ipv4Addr;

    fn next(&mut self) -> Option<Ipv4Addr> {
        self.left = self.left.checked_sub(1)?;
        let index = self.next;
        self.next = (self.next + self.step) % ADDRESSES;
        let (x, y, z) = (1 + index / (256 * 254), index / 254 % 256, 1 + index % 254);
        Some(Ipv4Addr::new(127, x as u8, y as u8, z as u8))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_address_comes_once() {
        let mut seen = vec![false; 1 << 24];
        let mut count = 0;
        for address in Addresses::new(3) {
            let [first, second, _, last] = address.octets();
            assert!(first == 127 && second != 0 && last != 0 && last != 255, "{address}");
            let seen = &mut seen[(u32::from(address) & 0xFF_FFFF) as usize];
            assert!(!*seen, "{address} twice");
            *seen = true;
            count += 1;
        }
        assert_eq!(count, ADDRESSES);
    }

    #[test]
    fn the_seed_decides() {
        let draw = |seed| population(NonZeroU32::new(50).unwrap(), 7, Duration::from_secs(1), seed);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    proptest! {
        #[test]
        fn a_population_is_fair_and_distinct(pods in 1_u32..400, apps in 1_u32..50, spread_ms in 0_u64..3000, seed: u64) {
            let spread = Duration::from_millis(spread_ms);
            let drawn = population(NonZeroU32::new(pods).unwrap(), apps, spread, seed);
            prop_assert_eq!(drawn.len(), pods as usize);
            prop_assert!(drawn.iter().all(|pod| pod.arrival <= spread));
            prop_assert!(drawn.is_sorted_by_key(|pod| pod.arrival));
            let addresses: HashSet<_> = drawn.iter().map(|pod| pod.address).collect();
            let uids: HashSet<_> = drawn.iter().map(|pod| &pod.uid).collect();
            prop_assert_eq!((addresses.len(), uids.len()), (drawn.len(), drawn.len()));
            for app in 0..apps {
                let count = drawn.iter().filter(|pod| pod.app == app).count() as u32;
                prop_assert!(count == pods / apps || count == pods / apps + 1);
            }
        }
    }
}
