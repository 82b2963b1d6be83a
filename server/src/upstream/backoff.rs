//! How long to wait before something is sent again: twice as long each time, and jittered.

use std::time::Duration;

use rand::RngExt as _;

/// The first wait and the longest one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The first.
    pub(crate) shortest: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The wait after so many failed attempts before this one: from U(w/2, w), w twice as long each time.
    pub(crate) fn wait(self, attempts: u32) -> Duration {
        let wait = self.shortest.saturating_mul(1 << attempts.min(20)).min(self.longest);
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let backoff = Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(1) };
        for (attempts, ms) in [(0, 100), (1, 200), (3, 800), (4, 1_000), (40, 1_000)] {
            let waits: Vec<_> = (0..200).map(|_| backoff.wait(attempts)).collect();
            let most = Duration::from_millis(ms);
            assert!(waits.iter().all(|wait| (most / 2..=most).contains(wait)), "{attempts}: {waits:?}");
            assert!(waits.iter().max().unwrap().saturating_sub(*waits.iter().min().unwrap()) > most / 4);
        }
    }
}
