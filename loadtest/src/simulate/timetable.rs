//! What happens when: events in the order of their instants, and of their scheduling where these are equal.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use podgate_engine::{ticket::TICKET_BYTES, time::Moment};

use crate::simulate::chance::TicketFile;
pub(crate) use crate::storm::tally::Freshness;

/// One call of one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId {
    /// Index of the pod.
    pub(crate) pod: u32,
    /// Which of its turns it is: whatever a pod begins, be it a call, a wait or a new life, has the next number, so that
    /// what belongs to an earlier one is known to be over.
    pub(crate) turn: u32,
}

/// A ticket, as it travels.
pub(crate) type Ticket = [u8; TICKET_BYTES];

/// What the gateway answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The grant, which is of this call or of an earlier one.
    Granted(Freshness),
    /// A turn is booked, due so long after the call was received.
    Deferred { delay: Duration, ticket: Box<Ticket> },
    /// Nothing is booked; come back after this long.
    PushedBack(Duration),
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// At a pod: its process starts.
    Begins(CallId),
    /// At a pod: its wait is over.
    Wakes(CallId),
    /// At the gateway: a pod wants to connect.
    Dialled(CallId),
    /// At a pod: it is connected, to the gateway's process of this number.
    Connected(CallId, u32),
    /// At a pod: nobody listens.
    Refused(CallId),
    /// At the gateway: a call.
    Asks(CallId),
    /// At a pod: the answer.
    Answered(CallId, Answer),
    /// At a pod: its connection was lost with the call in it.
    Reset(CallId),
    /// At a pod: its timer has run down.
    TimesOut { pod: u32 },
    /// At the gateway: the caller is gone.
    Leaves(CallId),
    /// A pod goes away for ever.
    Vanishes { pod: u32 },
    /// The init container of a pod dies.
    Crashes { pod: u32, ticket_file: TicketFile },
    /// At the gateway: the slot of a parked call has come. Here and below, of the process with this number.
    SlotComes { park: u64, process: u32 },
    /// At the gateway: parked calls may be called early.
    Ticks { process: u32 },
    /// At the gateway: the oldest write is durable.
    Commits { process: u32 },
    /// At the gateway: books that are over are closed.
    Sweeps,
    /// The gateway dies.
    Stops,
    /// The gateway is there again.
    Starts,
}

/// The events to come.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Events that were scheduled so far; it orders those of one instant.
    scheduled: u64,
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    sequence: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Moment, u64) {
        (self.at, self.sequence)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Timetable {
    /// Schedules an event.
    pub(crate) fn at(&mut self, at: Moment, event: Event) {
        self.heap.push(Reverse(Entry { at, sequence: self.scheduled, event }));
        self.scheduled += 1;
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Option<(Moment, Event)> {
        self.heap.pop().map(|Reverse(Entry { at, event, .. })| (at, event))
    }

    /// Events that were scheduled so far.
    pub(crate) fn scheduled(&self) -> u64 {
        self.scheduled
    }
}

/// The instant `after` later.
pub(crate) fn later(at: Moment, after: Duration) -> Moment {
    at.offset(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_scheduling() {
        let mut timetable = Timetable::default();
        let at = Moment::from_nanos;
        for (ns, pod) in [(20, 0), (10, 1), (20, 2), (10, 3), (0, 4)] {
            timetable.at(at(ns), Event::Vanishes { pod });
        }
        let order: Vec<_> = std::iter::from_fn(|| timetable.next())
            .map(|(at, event)| match event {
                Event::Vanishes { pod } => (at.as_nanos(), pod),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [(0, 4), (10, 1), (10, 3), (20, 0), (20, 2)]);
        assert_eq!(timetable.scheduled(), 5);
    }
}
