//! The optimum T*: no scheme that keeps the rates can end a storm earlier.

use std::time::Duration;

/// A bucket that admissions have to pass: so many of them, at this rate and burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Admissions.
    pub count: u32,
    /// Rate, a second.
    pub rate_per_s: f64,
    /// Burst.
    pub burst: u32,
}

/// max(S, (n − B)/R over all buckets) + one round trip, in seconds (design §2).
pub fn optimum_s(spread: Duration, demands: impl IntoIterator<Item = Demand>, round_trip: Duration) -> f64 {
    let drained_s = |demand: Demand| f64::from(demand.count.saturating_sub(demand.burst)) / demand.rate_per_s;
    demands.into_iter().map(drained_s).fold(spread.as_secs_f64(), f64::max) + round_trip.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_bucket_decides_or_else_the_arrivals() {
        let app = |count| Demand { count, rate_per_s: 50.0, burst: 20 };
        let second = Duration::from_secs(1);
        let optimum =
            |demands: &[Demand]| optimum_s(second, demands.iter().copied(), Duration::from_millis(2));
        assert!((optimum(&[app(100), app(60)]) - 1.602).abs() < 1e-12);
        assert!((optimum(&[app(20), app(5)]) - 1.002).abs() < 1e-12);
        let capacity = Demand { count: 160, rate_per_s: 10.0, burst: 10 };
        assert!((optimum(&[app(100), app(60), capacity]) - 15.002).abs() < 1e-12);
    }
}
