//! Seeded randomness for delays: SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Spreads load; keeps no secret.

use std::time::Duration;

/// A small generator; equal seeds give equal sequences.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A delay drawn evenly from `floor` to `ceiling`; `ceiling` where that is below the floor.
    pub(crate) fn between(&mut self, floor: Duration, ceiling: Duration) -> Duration {
        let Some(width) = ceiling.checked_sub(floor) else { return ceiling };
        let width_ns = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX);
        let drawn_ns = (u128::from(self.bits()) * (u128::from(width_ns) + 1)) >> 64;
        floor + Duration::from_nanos(drawn_ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_paper() {
        // Reference values of the authors' C code for the seed 1234567.
        let mut jitter = Jitter::new(1_234_567);
        assert_eq!(
            [jitter.bits(), jitter.bits(), jitter.bits()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn draws_reach_both_ends_and_average_to_the_middle() {
        let (floor, ceiling) = (Duration::from_millis(100), Duration::from_millis(500));
        let mut jitter = Jitter::new(7);
        let drawn: Vec<Duration> = (0..10_000).map(|_| jitter.between(floor, ceiling)).collect();
        let mean = drawn.iter().sum::<Duration>() / 10_000;
        assert!(drawn.iter().all(|delay| (floor..=ceiling).contains(delay)));
        assert!(mean.abs_diff(Duration::from_millis(300)) < Duration::from_millis(5), "{mean:?}");
        assert!(*drawn.iter().min().unwrap() < floor + Duration::from_millis(1));
        assert!(*drawn.iter().max().unwrap() > Duration::from_millis(499));
    }
}
