//! The desk: books each caller's turn, in its app's bucket and in the capacity that all share, both or neither.
//!
//! A caller asks ([`Desk::ask`]) and is admitted at once, parked until a slot that is near, deferred to one that is
//! further away, or refused. A parked caller comes back at its slot ([`Desk::arrive`]); what no-shows leave behind goes
//! to parked callers first ([`Desk::call_early`]). Three things hold for every caller: asking again returns the same
//! slot; a call that cannot be answered in time books nothing; and no exact instant is told that is not booked.

mod activity;
mod expected;
mod hall;
mod question;

use std::{ops::Bound, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

pub use self::question::{Arrival, BucketState, Limit, Question, TicketUse, Turn, Way};
use self::{
    activity::Activity,
    hall::{Booked, Hall},
};
use crate::{
    book::{Book, Holder, Page, ParkId},
    bucket::Bucket,
    calendar::{Calendar, Share},
    meter::LATENESS_NS,
    profile::HORIZON_BOUNDS,
    quota::Quota,
    time::Moment,
};

/// A slot that is not further away than this is waited for inside the call.
pub const PARK_MAX: Duration = Duration::from_secs(2);
/// Time that a parked call must have left after its slot.
pub const PARK_SPARE: Duration = Duration::from_millis(100);
/// How late a ticket may come and still be on time.
pub const LATENESS: Duration = Duration::from_nanos(LATENESS_NS as u64);
/// Time that a call must have left for anything to be booked for it: about a group commit, and the pause before it.
pub const REMAINING_MIN: Duration = Duration::from_millis(5);

/// What the desk is bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeskLimits {
    /// Calls that are parked at once; further ones get a ticket.
    pub parked_max: usize,
    /// Open bookings in all; beyond them callers are pushed back.
    pub bookings_max: usize,
}

/// What the process before this one may have told of an app's slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The app.
    pub app: Arc<str>,
    /// No slot after this was told.
    pub frontier: Moment,
    /// T of the app's bucket at that time.
    pub interval: Duration,
}

/// What is known of admissions before this desk was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Past {
    /// There were none.
    None,
    /// There may have been some just now, and slots up to these frontiers may have been told.
    Unknown(Vec<Kept>),
}

/// How far parked calls were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// At all of them.
    AtAll,
    /// There are more.
    AtSome,
}

/// Apps whose parked calls are looked at in one go.
const LOOK_AT_MAX: usize = 64;

/// The desk.
#[derive(Clone, Debug)]
pub struct Desk {
    books: FxHashMap<Arc<str>, Book>,
    hall: Hall,
    opened_at: Moment,
    is_new: bool,
    kept: FxHashMap<Arc<str>, Moment>,
    /// Apps whose books the sweep has still to look at.
    to_sweep: Vec<Arc<str>>,
}

impl Desk {
    /// A desk at `now`, over a capacity.
    pub fn new(capacity: Quota, limits: DeskLimits, past: Past, now: Moment) -> Self {
        let farthest = now.offset(nanos(HORIZON_BOUNDS.1));
        let (is_new, kept) = match past {
            Past::None => (true, Vec::new()),
            Past::Unknown(kept) => (false, kept),
        };
        let calendar = if is_new { Calendar::full(capacity, now) } else { Calendar::drained(capacity, now) };
        let mut hall = Hall::new(calendar, limits);
        let mut frontiers = FxHashMap::default();
        for Kept { app, frontier, interval } in kept {
            let frontier = frontier.min(farthest);
            hall.calendar.book_unseen(nanos(interval), now, frontier);
            frontiers.insert(app, frontier);
        }
        Self {
            books: FxHashMap::default(),
            hall,
            opened_at: now,
            is_new,
            kept: frontiers,
            to_sweep: Vec::new(),
        }
    }

    /// Answers a caller, and tells what became of its ticket.
    pub fn ask(&mut self, question: &Question<'_>, now: Moment) -> (Turn, TicketUse) {
        if question.answer_within < REMAINING_MIN {
            return (Turn::TooLate, TicketUse::None);
        }
        if !self.books.contains_key(question.app) {
            let bucket = self.new_bucket(question.app, question.quota, question.horizon, now);
            let told_before = self.kept.get(question.app).copied().unwrap_or(self.opened_at);
            self.books.insert(
                Arc::clone(question.app),
                Book::new(bucket, told_before, Activity::unsteady_at_first(now)),
            );
        }
        let Some(book) = self.books.get_mut(question.app) else {
            unreachable!("the book was put there just now")
        };
        book.bucket.set_quota(question.quota, now);
        book.priority = question.priority;
        self.hall.turn_to(book, now);
        let answer = ask_in(&mut self.hall, book, question, now);
        self.hall.settle(question.app, book);
        answer
    }

    /// A parked caller has waited until its slot.
    pub fn arrive(&mut self, app: &Arc<str>, slot: Moment, id: ParkId, now: Moment) -> Arrival {
        let Some(book) = self.books.get_mut(app).filter(|book| book.parked.get(&slot) == Some(&id)) else {
            return Arrival::Superseded;
        };
        self.hall.calendar.advance(now);
        let ready_at = slot.max(self.hall.takes_on_time_at(book));
        if ready_at > now {
            // Those who have slots before it are ahead of it in line. All at one instant, one would be admitted, and the
            // others would ask again.
            let first = book.parked.keys().next().copied().unwrap_or(slot);
            return Arrival::Wait(if slot <= now {
                ready_at.offset(nanos(slot.since(first)))
            } else {
                ready_at
            });
        }
        self.hall.redeem(book, Booked::at(book, slot), now);
        self.hall.turn_to(book, now);
        self.hall.settle(app, book);
        Arrival::Admitted
    }

    /// A parked caller has left; its slot stays booked until it is over.
    pub fn leave(&mut self, app: &Arc<str>, slot: Moment, id: ParkId) {
        if let Some(book) = self.books.get_mut(app)
            && book.parked.get(&slot) == Some(&id)
        {
            book.parked.remove(&slot);
            self.hall.settle(app, book);
        }
    }

    /// Admits parked callers before their slots, where others have not come, the earliest slots first. It looks at a
    /// bounded number of apps and then says that there are more: the next call goes on from there.
    pub fn call_early(&mut self, now: Moment, called: &mut Vec<ParkId>) -> Looked {
        self.hall.calendar.advance(now);
        for _ in 0..LOOK_AT_MAX {
            if self.hall.calendar.has_room_at(Share::Steady, now) > now {
                break;
            }
            let from = self.hall.looked_at.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let Some(head) = self.hall.heads.range((from, Bound::Unbounded)).next().cloned() else {
                break;
            };
            let (slot, app) = &head;
            if let Some(book) = self.books.get_mut(app) {
                self.hall.turn_to(book, now);
                if *slot > now && self.hall.can_go(book, now) {
                    called.extend(book.parked.get(slot));
                    self.hall.redeem(book, Booked::at(book, *slot), now);
                }
                self.hall.settle(app, book);
            }
            self.hall.looked_at = Some(head);
        }
        let is_over = self.hall.looked_at.as_ref().is_none_or(|last| {
            self.hall.heads.range((Bound::Excluded(last), Bound::Unbounded)).next().is_none()
                || self.hall.calendar.has_room_at(Share::Steady, now) > now
        });
        if is_over {
            self.hall.looked_at = None;
        }
        if is_over { Looked::AtAll } else { Looked::AtSome }
    }

    /// Up to here the app's slots may be told: a restart would find this frontier.
    pub fn reserved(&mut self, app: &str, until: Moment) {
        if let Some(book) = self.books.get_mut(app) {
            book.durable = book.durable.max(until);
        }
    }

    /// Whether a slot was told to this holder that is due about now.
    pub fn is_due(&self, holder: Holder, now: Moment) -> bool {
        self.hall.expected.is_due(holder, now)
    }

    /// An app's bucket as it stands.
    pub fn state(&self, app: &str, quota: Quota, horizon: Duration, now: Moment) -> BucketState {
        let (mut bucket, due) = match self.books.get(app) {
            Some(book) => (book.bucket.clone(), book.due()),
            None => (self.new_bucket(app, quota, horizon, now), 0),
        };
        bucket.set_quota(quota, now);
        let next_slot = bucket.next_slot_beside(due, now).since(now);
        BucketState { quota, available: bucket.available(now), next_slot }
    }

    /// Open bookings, parked calls, and apps that have a book.
    pub fn usage(&self) -> (usize, usize, usize) {
        (self.hall.open, self.hall.parked, self.books.len())
    }

    /// Bookings whose holders have not come, so far.
    pub fn no_shows(&self) -> u64 {
        self.hall.no_shows
    }

    /// Bytes that bookings take on the heap.
    pub fn booking_bytes(&self) -> usize {
        self.hall.bytes + self.hall.expected.heap_bytes()
    }

    /// Turns the pages of at most so many books, and closes those that are as good as new; in turn, all of them.
    pub fn sweep(&mut self, most: usize, now: Moment) {
        if self.to_sweep.is_empty() {
            self.to_sweep.extend(self.books.keys().cloned());
        }
        let left = self.to_sweep.len().saturating_sub(most);
        for app in self.to_sweep.split_off(left) {
            let Some(book) = self.books.get_mut(&app) else {
                continue;
            };
            self.hall.calendar.advance(now);
            self.hall.no_shows += book.advance(now) as u64;
            self.hall.settle(&app, book);
            if book.is_idle(now) {
                self.books.remove(&app);
                self.kept.remove(&app);
            }
        }
    }

    /// An app's bucket before it is asked for: whole, unless somebody may have been admitted by an earlier process.
    fn new_bucket(&self, app: &str, quota: Quota, horizon: Duration, now: Moment) -> Bucket {
        if self.is_new {
            return Bucket::full(quota, now);
        }
        let farthest = self.opened_at.offset(nanos(horizon));
        let frontier = self.kept.get(app).map_or(self.opened_at, |kept| (*kept).min(farthest));
        Bucket::drained(quota, frontier, self.opened_at)
    }
}

fn ask_in(hall: &mut Hall, book: &mut Book, question: &Question<'_>, now: Moment) -> (Turn, TicketUse) {
    let mut used = question.ticket.map_or(TicketUse::None, |slot| ticket_use(slot, question.horizon, now));
    if let (Some(slot), TicketUse::OnTime | TicketUse::Early) = (question.ticket, used) {
        match book.page(slot, question.request) {
            Page::Open(found) => return (keep(hall, book, Booked::Here(found), question, now), used),
            Page::Blank if slot <= book.told_before => {
                return (keep(hall, book, Booked::Before(slot), question, now), used);
            }
            Page::Spent | Page::Blank => used = TicketUse::Spent,
        }
    }
    let booked = book.find(question.holder, question.request);
    let turn = match booked.or_else(|| book.inherit(question.holder, question.request)) {
        Some(found) => keep(hall, book, Booked::Here(found), question, now),
        None if book.is_full_for(question.holder) => Turn::PushedBack(Limit::Holder),
        None => walk_in(hall, book, question, used, now),
    };
    (turn, used)
}

/// What a verified ticket is worth by its time alone.
pub fn ticket_use(slot: Moment, horizon: Duration, now: Moment) -> TicketUse {
    if slot.offset(LATENESS_NS) < now {
        TicketUse::Late
    } else if slot > now.offset(nanos(horizon)) {
        TicketUse::Future
    } else if slot > now.offset(nanos(PARK_SPARE)) {
        TicketUse::Early
    } else {
        TicketUse::OnTime
    }
}

/// Goes on with a booking: redeems it where it is time, and else says when.
fn keep(hall: &mut Hall, book: &mut Book, booked: Booked, question: &Question<'_>, now: Moment) -> Turn {
    let slot = booked.slot();
    if slot <= now {
        let ready_at = hall.takes_on_time_at(book);
        if ready_at <= now {
            hall.redeem(book, booked, now);
            return Turn::Admitted(Way::OnTime);
        }
        if let Booked::Here(found) = booked
            && ready_at.since(now).saturating_add(PARK_SPARE) > question.answer_within
        {
            // The rate was lowered, and this call cannot wait for what is left of it.
            book.meet(found);
            hall.calendar.meet(slot, book.priority, now);
            return walk_in(hall, book, question, TicketUse::None, now);
        }
    } else if goes_first(hall, book) && hall.can_go(book, now) {
        hall.redeem(book, booked, now);
        return Turn::Admitted(Way::Early);
    }
    hall.wait(book, slot, question, now)
}

/// A caller that has booked nothing.
fn walk_in(
    hall: &mut Hall,
    book: &mut Book,
    question: &Question<'_>,
    ticket: TicketUse,
    now: Moment,
) -> Turn {
    hall.review(book);
    let claim = hall.claim(book);
    let by_app = book.bucket.next_slot_beside(book.due(), now);
    let by_capacity = hall.calendar.has_room_at(claim.share, now);
    if by_capacity <= now && by_app <= now {
        book.bucket.spend(now);
        hall.count(book, now);
        return Turn::Admitted(Way::WalkIn);
    }
    // What no-shows have left goes to parked callers first, then to late tickets.
    if (goes_first(hall, book) || ticket == TicketUse::Late) && hall.can_go(book, now) {
        book.bucket.raise(now);
        hall.count(book, now);
        return Turn::Admitted(Way::WalkIn);
    }
    // A frontier may be far ahead because the capacity has put it there.
    let limit = if book.bucket.has_room_beside(book.due(), now) { Limit::Capacity } else { Limit::App };
    let from = by_app.max(by_capacity).max(now.offset(1));
    // A slot at the very end of what the caller can wait would leave it no time to come.
    let can_come = question.wait_budget.saturating_sub(PARK_SPARE);
    let until = now.offset(nanos(question.horizon.min(can_come)));
    if hall.is_full() {
        return Turn::PushedBack(Limit::Bookings);
    }
    if from > until {
        return Turn::PushedBack(limit);
    }
    let Some(slot) = hall.calendar.find(claim, from, until) else {
        return Turn::PushedBack(Limit::Capacity);
    };
    hall.calendar.book(slot, claim.priority);
    book.enter(slot, question.holder, question.request);
    hall.wait(book, slot, question, now)
}

/// Whether nobody who is parked waits for the same room.
fn goes_first(hall: &Hall, book: &Book) -> bool {
    book.parked.is_empty() && (hall.parked == 0 || hall.claim(book).share != Share::Had)
}

/// Nanoseconds of a duration, of which more than a century is as good as one.
fn nanos(duration: Duration) -> i64 {
    const CENTURY_NS: i64 = 3_155_760_000 * 1_000_000_000;
    i64::try_from(duration.as_nanos()).unwrap_or(CENTURY_NS).min(CENTURY_NS)
}

#[cfg(test)]
#[path = "desk/desk_properties.rs"]
mod properties;
#[cfg(test)]
#[path = "desk/desk_tests.rs"]
mod tests;
