//! What the gateway says of its bookings: turns and tickets, from its /metrics.

use std::ops::{Add, Sub};

use crate::exposition::samples;

/// Turns and tickets, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bookings {
    /// Calls that were held open until their turn.
    pub(crate) parked: u64,
    /// Calls that were answered with a ticket.
    pub(crate) deferred: u64,
    /// Calls for which nothing was booked.
    pub(crate) pushed_back: u64,
    /// Tickets that came on time.
    pub(crate) tickets_on_time: u64,
    /// Tickets that came late.
    pub(crate) tickets_late: u64,
    /// Tickets that came early, and were held until their turn.
    pub(crate) tickets_early: u64,
}

impl Bookings {
    /// From a page of metrics; `None` where the gateway counts no turns at all.
    pub(crate) fn read(page: &str) -> Option<Self> {
        let total = |metric, label, value| {
            let matching = samples(page, metric).filter(|sample| sample.label(label) == Some(value));
            matching.map(|sample| sample.value as u64).sum()
        };
        let turns = |turn| total("podgate_turns_total", "turn", turn);
        let tickets = |result| total("podgate_tickets_total", "result", result);
        samples(page, "podgate_turns_total").next()?;
        Some(Self {
            parked: turns("parked"),
            deferred: turns("deferred"),
            pushed_back: turns("pushed_back"),
            tickets_on_time: tickets("on_time"),
            tickets_late: tickets("late"),
            tickets_early: tickets("early"),
        })
    }

    fn each(self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            parked: join(self.parked, other.parked),
            deferred: join(self.deferred, other.deferred),
            pushed_back: join(self.pushed_back, other.pushed_back),
            tickets_on_time: join(self.tickets_on_time, other.tickets_on_time),
            tickets_late: join(self.tickets_late, other.tickets_late),
            tickets_early: join(self.tickets_early, other.tickets_early),
        }
    }
}

impl Add for Bookings {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }
}

impl Sub for Bookings {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_gateway_counts() {
        let page = "podgate_turns_total{turn=\"now\"} 5\npodgate_turns_total{turn=\"parked\"} 7\n\
                    podgate_turns_total{turn=\"deferred\"} 11\npodgate_turns_total{turn=\"pushed_back\"} 13\n\
                    podgate_turns_total{turn=\"dropped\"} 1\npodgate_tickets_total{result=\"on_time\"} 17\n\
                    podgate_tickets_total{result=\"late\"} 19\npodgate_tickets_total{result=\"early\"} 2\n";
        let all = Bookings {
            parked: 7,
            deferred: 11,
            pushed_back: 13,
            tickets_on_time: 17,
            tickets_late: 19,
            tickets_early: 2,
        };
        assert_eq!(Bookings::read(page), Some(all));
        assert_eq!(Bookings::read("podgate_turns_total{turn=\"now\"} 5\n"), Some(Bookings::default()));
        assert_eq!(Bookings::read("podgate_other_total 5\n"), None);
        let first = Bookings { parked: 5, ..Bookings::default() };
        assert_eq!(((all - first).parked, (all + first).parked, (first - all).deferred), (2, 12, 0));
    }
}
