//! Latencies as percentiles, medians, and numbers as a person reads them.

use std::{num::NonZeroU32, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::timeline::Bin;

/// The percentiles of a set of durations, in a unit that the field's name says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half were at most this.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// The longest duration that is told from a longer one: a week.
const LONGEST_US: u64 = 7 * 24 * 3600 * 1_000_000;

/// A set of durations, kept to the microsecond and to three digits, in bounded memory.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Durations {
    /// None so far.
    pub fn new() -> Self {
        match Histogram::new_with_max(LONGEST_US, 3) {
            Ok(histogram) => Self(histogram),
            // Fails for more than five digits, or a maximum below two.
            Err(_) => unreachable!("three digits up to a week are valid"),
        }
    }

    /// Adds one.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        // Fails only where the other's values do not fit, and all have the same range.
        let _ = self.0.add(&other.0);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The quantile (0 to 1), in microseconds; `None` of an empty set.
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile) as f64)
    }

    /// The percentiles, in units of so many microseconds; `None` of an empty set.
    pub fn percentiles(&self, unit_us: f64) -> Option<Percentiles> {
        let at = |quantile| self.quantile_us(quantile).map(|us| rounded(us / unit_us));
        Some(Percentiles { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, p999: at(0.999)?, max: at(1.0)? })
    }

    /// At most `bins` equally wide bins from zero to the longest, empty ones too; none of an empty set.
    pub fn bins(&self, bins: NonZeroU32) -> Vec<Bin> {
        if self.0.is_empty() {
            return Vec::new();
        }
        // The longest lies inside the last bin, and none is narrower than what is told apart.
        let width_us = (self.0.max() + 1).div_ceil(u64::from(bins.get())).max(1);
        let counted = self.0.iter_linear(width_us).map(|step| step.count_since_last_iteration());
        let upper_s = |index: usize| (index as u64 + 1) as f64 * width_us as f64 / 1e6;
        counted.enumerate().map(|(index, count)| Bin { upper_s: upper_s(index), count }).collect()
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self::new()
    }
}

/// The median, the lower one of an even number; `None` of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// To three decimals, as the JSON files show figures.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `2000` as `2,000`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds in the unit that reads best: `400 ms`, `1.60 s`, `85 s`.
pub fn spoken_s(seconds: f64) -> String {
    match seconds {
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.009_995 => format!("{:.2} ms", s * 1e3),
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 99.95 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_hundred() {
        let mut durations = Durations::new();
        assert_eq!(durations.percentiles(1.0), None);
        (1..=100).for_each(|ms| durations.record(Duration::from_millis(ms)));
        let percentiles = durations.percentiles(1000.0).unwrap();
        assert!((percentiles.p50 - 50.0).abs() < 0.1, "{percentiles:?}");
        assert!((percentiles.p90 - 90.0).abs() < 0.1, "{percentiles:?}");
        assert!((percentiles.p99 - 99.0).abs() < 0.1, "{percentiles:?}");
        assert!((percentiles.max - 100.0).abs() < 0.1, "{percentiles:?}");
        let mut both = Durations::new();
        both.merge(&durations);
        assert_eq!(both.percentiles(1000.0), Some(percentiles));
    }

    #[test]
    fn bins_hold_everything_once() {
        let mut durations = Durations::new();
        assert_eq!(durations.bins(NonZeroU32::MIN), []);
        for ms in [0, 1, 9, 10, 500, 999] {
            durations.record(Duration::from_millis(ms));
        }
        let bins = durations.bins(NonZeroU32::new(10).unwrap());
        let counts: Vec<_> = bins.iter().map(|bin| bin.count).collect();
        assert_eq!((counts[0], counts.iter().sum::<u64>()), (4, 6), "{bins:?}");
        assert!(bins.len() <= 10 && bins.last().is_some_and(|bin| bin.upper_s > 0.998), "{bins:?}");
        let mut instant = Durations::new();
        instant.record(Duration::ZERO);
        assert_eq!(instant.bins(NonZeroU32::new(10).unwrap()).len(), 1);
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), Some(2.0));
    }

    #[test]
    fn numbers_as_read() {
        assert_eq!([0, 7, 999, 1000, 1_234_567].map(grouped), ["0", "7", "999", "1,000", "1,234,567"]);
        let spoken = [0.000_045, 0.0012, 0.4, 1.604, 12.34, 849.6].map(spoken_s);
        assert_eq!(spoken, ["45 µs", "1.20 ms", "400 ms", "1.60 s", "12.3 s", "850 s"]);
    }
}
