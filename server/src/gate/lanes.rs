//! Lanes: how many calls may be on their way through booking and recording at once, apart for newcomers and for ticket
//! holders, so that the ones who have waited for their turn do not wait again behind those who just came.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use crate::gate::Refusal;

/// Calls in one lane: as many as one commit of the store takes.
const LANE_CALLS_MAX: usize = 1_024;
/// How long a newcomer waits for its lane. A queue that stands for longer is no burst but an overload (Facebook's CoDel
/// target), and who is shed has spent nothing.
const SOJOURN_MAX: Duration = Duration::from_millis(5);

/// The lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    newcomers: Semaphore,
    holders: Semaphore,
}

/// Who wants to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Bears no ticket that is worth something.
    Newcomer,
    /// Bears a ticket, or has been parked.
    Holder,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self { newcomers: Semaphore::new(LANE_CALLS_MAX), holders: Semaphore::new(LANE_CALLS_MAX) }
    }

    /// Waits for a place. A newcomer is shed where that takes too long; a holder waits, bounded by its call's deadline.
    pub(crate) async fn enter(&self, lane: Lane) -> Result<SemaphorePermit<'_>, Refusal> {
        let places = match lane {
            Lane::Newcomer => &self.newcomers,
            Lane::Holder => &self.holders,
        };
        if let Ok(place) = places.try_acquire() {
            return Ok(place);
        }
        let place = match lane {
            Lane::Newcomer => timeout(SOJOURN_MAX, places.acquire()).await,
            Lane::Holder => Ok(places.acquire().await),
        };
        match place {
            Ok(Ok(place)) => Ok(place),
            // Nobody closes a lane.
            Ok(Err(_)) => Err(Refusal::Overloaded),
            Err(_) => {
                metrics::counter!("podgate_shed_total", "lane" => "newcomers").increment(1);
                Err(Refusal::Overloaded)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn newcomers_are_shed_when_their_lane_stands_and_holders_pass() {
        let lanes = Lanes::new();
        let mut held = Vec::new();
        for _ in 0..LANE_CALLS_MAX {
            held.push(lanes.enter(Lane::Newcomer).await.unwrap());
        }
        let began = tokio::time::Instant::now();
        assert!(matches!(lanes.enter(Lane::Newcomer).await, Err(Refusal::Overloaded)));
        assert_eq!(began.elapsed(), SOJOURN_MAX);
        assert!(lanes.enter(Lane::Holder).await.is_ok());
        held.pop();
        assert!(lanes.enter(Lane::Newcomer).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_place_that_comes_free_in_time() {
        let lanes = Lanes::new();
        let mut held = Vec::new();
        for _ in 0..LANE_CALLS_MAX {
            held.push(lanes.enter(Lane::Newcomer).await.unwrap());
        }
        let (entered, ()) = tokio::join!(lanes.enter(Lane::Newcomer), async {
            tokio::time::sleep(Duration::from_millis(4)).await;
            held.pop();
        });
        assert!(entered.is_ok());
    }
}
