//! `--within`: the smallest rate at which a storm ends in time.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    cli::SimulateArgs,
    quantity::{RATE_COUNT_MAX, Rate},
    simulate::{SimulateError, Simulated, at_rate, simulation::TooManyEvents},
};

/// Rates are looked for in steps of one a second, and below one a second in steps of one an hour.
const PER_HOUR_MAX: u32 = 3_600;

/// Finds it by bisection: whoever is admitted faster ends earlier.
pub(crate) fn find(args: &SimulateArgs, within: Duration) -> Result<Simulated, SimulateError> {
    let refuse = |why| SimulateError::NoRate { within_s: within.as_secs_f64(), why };
    if within < args.spread {
        return Err(refuse("the pods take longer to arrive"));
    }
    let of_app = args.pods.get().div_ceil(args.apps);
    let rate_of_optimum = f64::from(of_app.saturating_sub(args.burst)) / within.as_secs_f64().max(1e-3);
    let by_second = |count| Rate::per_second(count);
    let by_hour = |count: NonZeroU32| Rate::per_hour(count);
    let found = match ends_in_time(args, by_second(NonZeroU32::MIN), within)? {
        Some(_) => smallest(args, within, by_hour, 1.0, PER_HOUR_MAX)?,
        None => smallest(args, within, by_second, rate_of_optimum, RATE_COUNT_MAX)?,
    };
    let (rate, mut simulated) =
        found.ok_or_else(|| refuse("not even the largest does, by what else bounds these pods"))?;
    simulated.report.within_s = Some(within.as_secs_f64());
    simulated.report.rate_needed_per_s = Some(rate.per_s());
    simulated.report.rate_needed = Some(rate.to_string());
    Ok(simulated)
}

/// The smallest rate, of 1 to `most` in a unit of time, and what comes of it; the search begins at `guess`.
fn smallest(
    args: &SimulateArgs,
    within: Duration,
    rate_of: impl Fn(NonZeroU32) -> Rate,
    guess: f64,
    most: u32,
) -> Result<Option<(Rate, Simulated)>, TooManyEvents> {
    let rate = |count: u32| rate_of(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN));
    let (mut too_small, mut enough) = (0, (guess.ceil() as u32).clamp(1, most));
    let mut best = loop {
        match ends_in_time(args, rate(enough), within)? {
            Some(simulated) => break simulated,
            None if enough == most => return Ok(None),
            None => (too_small, enough) = (enough, enough.saturating_mul(2).min(most)),
        }
    };
    // One below the guess first: it is the optimum's rate, and mostly right.
    let mut next = enough - 1;
    while enough - too_small > 1 {
        match ends_in_time(args, rate(next), within)? {
            Some(simulated) => (enough, best) = (next, simulated),
            None => too_small = next,
        }
        next = too_small + (enough - too_small) / 2;
    }
    Ok(Some((rate(enough), best)))
}

/// What comes of a rate, where all that stay are authorized in time.
fn ends_in_time(
    args: &SimulateArgs,
    rate: Rate,
    within: Duration,
) -> Result<Option<Simulated>, TooManyEvents> {
    let simulated = at_rate(args, rate)?;
    let storm = &simulated.report.storm;
    // The ratio is there only where all were authorized.
    let in_time = storm.completion_ratio.is_some()
        && storm.completion_s.is_some_and(|completion_s| completion_s <= within.as_secs_f64());
    Ok(in_time.then_some(simulated))
}
