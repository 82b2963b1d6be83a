//! The bound from outside: by how much admissions passed B + R·Δ.

/// The most by which the admissions in any window Δ passed B + R·Δ, in tokens, or 0 where none did.
///
/// `admitted_at_ns` is sorted.
pub fn over_admission(admitted_at_ns: &[u64], rate_per_s: f64, burst: u32) -> f64 {
    (level_max(admitted_at_ns, rate_per_s) - f64::from(burst)).max(0.0)
}

/// The most that the gateway may go beyond B + R·Δ in any window: 0.2·R + 1, for tickets that come up to 200 ms late
/// (design §3).
pub fn over_admission_max(rate_per_s: f64) -> f64 {
    0.2 * rate_per_s + 1.0
}

/// The largest n − R·Δ of any window that begins and ends at an admission; no other window can be worse.
///
/// It is the highest point of a leaky level, found in one pass: the level drains with the rate between two admissions,
/// never below zero, and each raises it by one. `admitted_at_ns` is sorted.
pub fn level_max(admitted_at_ns: &[u64], rate_per_s: f64) -> f64 {
    let mut level = 0.0_f64;
    let mut level_max = 0.0_f64;
    let mut before_ns = None;
    for &at_ns in admitted_at_ns {
        let elapsed_ns = before_ns.map_or(0, |before_ns| at_ns.saturating_sub(before_ns));
        level = (level - rate_per_s * elapsed_ns as f64 / 1e9).max(0.0) + 1.0;
        level_max = level_max.max(level);
        before_ns = Some(at_ns);
    }
    level_max
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word: every window.
    fn by_definition(admitted_at_ns: &[u64], rate_per_s: f64, burst: u32) -> f64 {
        let mut worst = 0.0_f64;
        for first in 0..admitted_at_ns.len() {
            for last in first..admitted_at_ns.len() {
                let delta_s = (admitted_at_ns[last] - admitted_at_ns[first]) as f64 / 1e9;
                let count = (last - first + 1) as f64;
                worst = worst.max(count - (f64::from(burst) + rate_per_s * delta_s));
            }
        }
        worst
    }

    #[test]
    fn a_kept_rate_passes_nothing_and_one_too_many_is_one() {
        let at_ns = [0, 0, 0, 100_000_000, 200_000_000];
        assert!(over_admission(&at_ns, 10.0, 3) < 1e-9);
        assert!((over_admission(&at_ns, 10.0, 2) - 1.0).abs() < 1e-9);
        assert!(over_admission(&[], 10.0, 1) < 1e-9);
    }

    proptest! {
        #[test]
        fn one_pass_finds_what_every_window_shows(
            mut at_ns in prop::collection::vec(0_u64..3_000_000_000, 0..60),
            base_ns in 0_u64..1_000_000_000_000_000,
            rate in 1_u32..200,
            burst in 1_u32..20,
        ) {
            at_ns.sort_unstable();
            for at in &mut at_ns {
                *at += base_ns;
            }
            let expected = by_definition(&at_ns, f64::from(rate), burst);
            prop_assert!((over_admission(&at_ns, f64::from(rate), burst) - expected).abs() < 1e-6);
        }
    }
}
