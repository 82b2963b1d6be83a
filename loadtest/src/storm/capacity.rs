//! The capacity that all apps share, as the gateway child is started with it.

use std::num::NonZeroU32;

use crate::{
    cli::{Arrivals, StormArgs},
    quantity::Rate,
};

/// Rate and burst of a capacity that never binds, at least.
const FLOOR: u32 = 5_000;
/// The largest rate and burst that the gateway takes.
const LIMIT: u32 = 1_000_000;

/// A capacity: its bucket, and whether it was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Capacity {
    /// Asked for: it may bind, and the optimum knows it.
    Bound { rate: Rate, burst: u32 },
    /// So large that it never binds.
    Ample { rate: Rate, burst: u32 },
}

impl Capacity {
    /// As the command line asks; a burst that it leaves open is one second's worth.
    pub(crate) fn of(args: &StormArgs) -> Self {
        match (args.arrivals(), args.capacity_rate) {
            (Arrivals::Overload(overload), _) => {
                Self::Bound { rate: overload.capacity, burst: overload.capacity_burst() }
            }
            (Arrivals::Storm { .. }, Some(rate)) => Self::bound(rate, args.capacity_burst),
            (Arrivals::Storm { .. }, None) => {
                let background = f64::from(args.background_apps.unwrap_or(0)) * args.background_rate.per_s();
                let rates_per_s = f64::from(args.apps) * args.rate().per_s() + background;
                let bursts = f64::from(args.apps) * f64::from(args.burst()) + background;
                Self::ample(rates_per_s, bursts)
            }
        }
    }

    /// One that is asked for; a burst that is left open is one second's worth.
    pub(crate) fn bound(rate: Rate, burst: Option<u32>) -> Self {
        let one_second = (rate.per_s().ceil() as u32).clamp(1, LIMIT);
        Self::Bound { rate, burst: burst.unwrap_or(one_second) }
    }

    /// One that never binds apps of these rates and bursts, each in all.
    ///
    /// The gateway keeps it as a calendar with a tenth of the rate in each 100 ms, so all apps' bursts together have to
    /// fit into one of these, and their rates twice.
    pub(crate) fn ample(rates_per_s: f64, bursts: f64) -> Self {
        // Saturates.
        let rate = ((2.0 * rates_per_s).max(10.0 * bursts).ceil() as u32).clamp(FLOOR, LIMIT);
        let burst = (2.0 * bursts).ceil() as u32;
        Self::Ample {
            rate: Rate::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MAX)),
            burst: burst.clamp(FLOOR, LIMIT),
        }
    }

    pub(crate) fn rate(self) -> Rate {
        match self {
            Self::Bound { rate, .. } | Self::Ample { rate, .. } => rate,
        }
    }

    pub(crate) fn burst(self) -> u32 {
        match self {
            Self::Bound { burst, .. } | Self::Ample { burst, .. } => burst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(line: &str) -> (String, u32) {
        let capacity = Capacity::of(&StormArgs::of(line));
        (capacity.rate().to_string(), capacity.burst())
    }

    #[test]
    fn binds_only_when_asked() {
        for (line, rate, burst) in [
            ("", "5000/s", 5000),
            ("--apps 100 --rate 200 --burst 3", "40000/s", 5000),
            ("--apps 100 --rate 200 --burst 300", "300000/s", 60_000),
            ("--apps 100000 --rate 200", "1000000/s", 1_000_000),
            ("--background-apps 100 --background-rate 100", "104000/s", 20_800),
            ("--capacity-rate 600/m", "600/m", 10),
            ("--capacity-rate 9 --capacity-burst 3", "9/s", 3),
            ("--overload 10 --capacity 500 --duration 1s --background-apps 3", "500/s", 500),
        ] {
            // The background's flags apart: 20 apps at 50/s with a burst of 20.
            assert_eq!(capacity(line), (rate.to_owned(), burst), "{line}");
        }
    }
}
