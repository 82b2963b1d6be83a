//! The pods of a storm, made as they arrive and gone as they end; how many are there at once is bounded.

use std::{cell::RefCell, iter::Peekable, rc::Rc, vec};

use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};

use crate::storm::{
    pods::{Crew, PodTask},
    population::VirtualPod,
    tally::{GaveUp, Tally},
};

/// Most pods that an overload has at once, where the file descriptors do not bound it first: each holds a connection
/// and its buffers.
pub(crate) const ALIVE_MAX: u32 = 20_000;

/// Those who come, and those who are there.
pub(crate) struct Crowd {
    crew: Crew,
    coming: Peekable<vec::IntoIter<VirtualPod>>,
    alive: JoinSet<()>,
    alive_max: u32,
    /// The most that were there at once.
    pub(crate) alive_peak: u32,
    /// Those for whom there was no room. They count as pods that gave up.
    pub(crate) turned_away: u32,
    start: Instant,
    tally: Rc<RefCell<Tally>>,
}

impl Crowd {
    /// Pods by arrival, of whom at most so many are there at once; the storm begins at `start`.
    pub(crate) fn new(
        crew: Crew,
        pods: Vec<VirtualPod>,
        alive_max: u32,
        start: Instant,
        tally: Rc<RefCell<Tally>>,
    ) -> Self {
        Self {
            crew,
            coming: pods.into_iter().peekable(),
            alive: JoinSet::new(),
            alive_max,
            alive_peak: 0,
            turned_away: 0,
            start,
            tally,
        }
    }

    /// Lets pods in as they are due until one has ended; `None`: all have come and gone. Loses nothing when dropped.
    pub(crate) async fn next_end(&mut self) -> Option<Result<(), JoinError>> {
        loop {
            let due = self.coming.peek().map(|pod| self.start + pod.arrival);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(due.unwrap_or(self.start)), if due.is_some() => self.let_in(),
                Some(ended) = self.alive.join_next() => return Some(ended),
                else => return None,
            }
        }
    }

    /// All who are due by now.
    fn let_in(&mut self) {
        let since_start = self.start.elapsed();
        while let Some(pod) = self.coming.next_if(|pod| pod.arrival <= since_start) {
            let alive = self.alive.len() as u32;
            if alive < self.alive_max {
                let task = PodTask::new(&self.crew, pod, self.start, Rc::clone(&self.tally));
                self.alive.spawn_local(task.run());
                self.alive_peak = self.alive_peak.max(alive + 1);
            } else {
                self.turned_away += 1;
                self.tally.borrow_mut().gave_up(GaveUp::TurnedAway, "the load tester has no room for it", 0);
            }
        }
    }
}
