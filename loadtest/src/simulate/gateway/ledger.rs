//! What the gateway did, counted from outside the desk.

use podgate_engine::{
    desk::{LATENESS, Question, TicketUse, Turn},
    time::Moment,
};

use crate::simulate::timetable::later;

/// Admissions, turns and tickets.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Every admission, in order, with its app; also those whose grant was lost with the process before it was durable.
    pub(crate) admitted: Vec<(Moment, u32)>,
    pub(crate) parked: u64,
    pub(crate) deferred: u64,
    pub(crate) pushed_back: u64,
    pub(crate) tickets_on_time: u64,
    pub(crate) tickets_early: u64,
    pub(crate) tickets_late: u64,
    /// Tickets that came in time, and whose bearers got neither their grant nor their slot.
    pub(crate) tickets_refused_on_time: u64,
    pub(crate) restarts: u32,
}

impl Ledger {
    /// Counts how the desk has answered.
    pub(crate) fn note(&mut self, question: &Question<'_>, turn: Turn, used: TicketUse, now: Moment) {
        match turn {
            Turn::Parked { .. } => self.parked += 1,
            Turn::Deferred { .. } => self.deferred += 1,
            Turn::PushedBack(_) => self.pushed_back += 1,
            Turn::Admitted(_) | Turn::TooLate => {}
        }
        match used {
            TicketUse::OnTime => self.tickets_on_time += 1,
            TicketUse::Early => self.tickets_early += 1,
            TicketUse::Late => self.tickets_late += 1,
            TicketUse::None | TicketUse::Spent | TicketUse::Future => {}
        }
        if question.ticket.is_some_and(|slot| is_in_time(slot, now) && !is_kept(slot, turn)) {
            self.tickets_refused_on_time += 1;
        }
    }
}

/// Whether a ticket comes before its slot, or not too late after it; by our own reckoning, not by the desk's.
fn is_in_time(slot: Moment, now: Moment) -> bool {
    now <= later(slot, LATENESS)
}

/// Whether its bearer got what the ticket promises. A call that has no time left is not refused, but over.
fn is_kept(ticket: Moment, turn: Turn) -> bool {
    match turn {
        Turn::Admitted(_) | Turn::TooLate => true,
        Turn::Parked { slot, .. } | Turn::Deferred { slot, .. } => slot <= ticket,
        Turn::PushedBack(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, sync::Arc, time::Duration};

    use podgate_engine::{
        book::{Holder, ParkId, Request},
        desk::{Limit, Way},
        profile::Priority,
        quota::Quota,
    };

    use super::*;

    fn refused(slot_ms: i64, turn: Turn, now_ms: i64) -> u64 {
        let at_ms = |ms: i64| Moment::from_nanos(ms * 1_000_000);
        let app = Arc::from("a");
        let question = Question {
            app: &app,
            quota: Quota { rate: "1/s".parse().unwrap(), burst: NonZeroU32::MIN },
            horizon: Duration::from_secs(120),
            priority: Priority::P2,
            holder: Holder::new(1),
            request: Request::new(1, 1),
            answer_within: Duration::from_secs(1),
            wait_budget: Duration::from_secs(1),
            ticket: Some(at_ms(slot_ms)),
        };
        let mut ledger = Ledger::default();
        // What the desk says of the ticket does not matter here.
        ledger.note(&question, turn, TicketUse::Spent, at_ms(now_ms));
        ledger.tickets_refused_on_time
    }

    #[test]
    fn an_on_time_ticket_is_refused_where_its_slot_is_not_kept() {
        let parked = |ms: i64| Turn::Parked {
            slot: Moment::from_nanos(ms * 1_000_000),
            id: ParkId(0),
            displaced: None,
        };
        let pushed_back = Turn::PushedBack(Limit::App);
        assert_eq!(refused(1_000, pushed_back, 1_200), 1);
        assert_eq!(refused(1_000, pushed_back, 1_201), 0);
        assert_eq!(refused(1_000, parked(1_001), 1_000), 1);
        assert_eq!(refused(1_000, parked(1_000), 900), 0);
        assert_eq!(refused(1_000, Turn::Admitted(Way::OnTime), 1_100), 0);
        assert_eq!(refused(1_000, Turn::TooLate, 1_100), 0);
    }
}
