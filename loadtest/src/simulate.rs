//! `simulate`: the storm as a discrete-event simulation, with the gateway's engine, real tickets and the client's own
//! schedule. It reads no clock, so that 100,000 pods take seconds, and a seed always tells the same.

mod chance;
mod gateway;
mod pod;
pub mod report;
mod scenario;
mod seeds;
mod simulation;
mod timetable;
mod within;

pub use crate::simulate::{seeds::SeedsReport, simulation::TooManyEvents};

use crate::{
    cli::SimulateArgs,
    over_admission::{level_max, over_admission_max},
    quantity::Rate,
    simulate::{report::SimulateReport, scenario::Scenario, simulation::Simulation},
    storm::{
        capacity::Capacity,
        tally::{Bounds, ROUNDING},
    },
    timeline::Timeline,
};

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// It would take too long.
    #[error(transparent)]
    TooManyEvents(#[from] TooManyEvents),
    /// `--within` asks for what no rate can do.
    #[error("no rate ends this storm within {within_s} s: {why}")]
    NoRate {
        /// What was asked for.
        within_s: f64,
        /// Why it cannot be.
        why: &'static str,
    },
}

/// What came of one seed.
#[derive(Debug)]
pub struct Simulated {
    /// The figures.
    pub report: SimulateReport,
    /// What happened when.
    pub timeline: Timeline,
}

/// Simulates one seed, or finds the rate at which it ends in time.
pub fn run(args: &SimulateArgs) -> Result<Simulated, SimulateError> {
    match args.within {
        Some(within) => within::find(args, within),
        None => Ok(at_rate(args, args.rate())?),
    }
}

/// Simulates as many seeds as were asked for.
pub fn run_seeds(args: &SimulateArgs, seeds: u32) -> Result<SeedsReport, SimulateError> {
    Ok(seeds::run(&Scenario::new(args, args.rate()), args.seed, seeds)?)
}

/// Simulates the first seed with this rate in each app's bucket.
fn at_rate(args: &SimulateArgs, rate: Rate) -> Result<Simulated, TooManyEvents> {
    simulate(&Scenario::new(args, rate), args.seed)
}

/// Simulates one seed of a scenario.
fn simulate(scenario: &Scenario, seed: u64) -> Result<Simulated, TooManyEvents> {
    let mut simulation = Simulation::run(scenario, seed)?;
    let bounds = bounds(scenario, &mut simulation);
    let report = SimulateReport::new(scenario, seed, &simulation, &bounds);
    Ok(Simulated { report, timeline: simulation.tally.timeline(&bounds) })
}

/// Holds every admission of every app against its bound, and all of them against that of the capacity where one binds.
fn bounds(scenario: &Scenario, simulation: &mut Simulation<'_>) -> Bounds {
    for (at, app) in &simulation.gateway.ledger.admitted {
        simulation.tally.admitted(*app, at.as_nanos().unsigned_abs());
    }
    let mut bounds = simulation.tally.bounds(scenario.rate.per_s(), scenario.burst);
    if let Capacity::Bound { rate, burst } = scenario.capacity {
        let admitted = &simulation.gateway.ledger.admitted;
        let at_ns: Vec<u64> = admitted.iter().map(|(at, _)| at.as_nanos().unsigned_abs()).collect();
        let over = level_max(&at_ns, rate.per_s()) - f64::from(burst);
        bounds.violations += u32::from(over > over_admission_max(rate.per_s()) + ROUNDING);
    }
    bounds
}

#[cfg(test)]
#[path = "simulate/simulate_tests.rs"]
mod tests;
