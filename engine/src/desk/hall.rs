//! What all apps share at the desk: the capacity, the places for parked calls, and the counts.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    book::{Book, Found, ParkId},
    calendar::{Calendar, Claim, Share},
    desk::{DeskLimits, PARK_MAX, PARK_SPARE, Question, Turn, activity::Activity, expected::Expected},
    time::Moment,
};

/// How far beyond a slot the frontier is made durable, so that one write serves all slots of a second.
const RESERVE_AHEAD_NS: i64 = 1_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Hall {
    pub(crate) calendar: Calendar,
    pub(crate) activity: Activity,
    pub(crate) expected: Expected,
    /// The first parked call of each app that has some, by its slot.
    pub(crate) heads: BTreeSet<(Moment, Arc<str>)>,
    pub(crate) parked: usize,
    pub(crate) open: usize,
    pub(crate) no_shows: u64,
    pub(crate) bytes: usize,
    /// How far the parked calls have been looked at for one that can go early.
    pub(crate) looked_at: Option<(Moment, Arc<str>)>,
    limits: DeskLimits,
    next_park: u64,
}

/// A slot that is kept for the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Booked {
    /// In the book.
    Here(Found),
    /// By the process before this one.
    Before(Moment),
}

impl Booked {
    pub(crate) fn at(book: &Book, slot: Moment) -> Self {
        book.open_at(slot).map_or(Self::Before(slot), Self::Here)
    }

    pub(crate) fn slot(self) -> Moment {
        match self {
            Self::Here(found) => found.slot,
            Self::Before(slot) => slot,
        }
    }
}

impl Hall {
    pub(crate) fn new(calendar: Calendar, limits: DeskLimits) -> Self {
        Self {
            calendar,
            activity: Activity::default(),
            expected: Expected::default(),
            heads: BTreeSet::new(),
            parked: 0,
            open: 0,
            no_shows: 0,
            bytes: 0,
            looked_at: None,
            limits,
            next_park: 0,
        }
    }

    /// Turns a book's pages, and the calendar's, to `now`.
    pub(crate) fn turn_to(&mut self, book: &mut Book, now: Moment) {
        self.calendar.advance(now);
        self.activity.note(book, now);
        self.no_shows += book.advance(now) as u64;
    }

    /// Counts a book as it stands after a change of it.
    pub(crate) fn settle(&mut self, app: &Arc<str>, book: &mut Book) {
        let before = book.counted;
        let counted = book.count();
        if before == counted {
            return;
        }
        self.open = self.open + counted.open - before.open;
        self.parked = self.parked + counted.parked - before.parked;
        self.bytes = self.bytes + counted.bytes - before.bytes;
        self.activity.holding =
            self.activity.holding + usize::from(counted.open > 0) - usize::from(before.open > 0);
        self.calendar.recount(before.priority, before.open, counted.priority, counted.open);
        if before.head != counted.head {
            if let Some(slot) = before.head {
                self.heads.remove(&(slot, Arc::clone(app)));
            }
            if let Some(slot) = counted.head {
                self.heads.insert((slot, Arc::clone(app)));
            }
        }
        book.counted = counted;
    }

    /// Whether no further slot can be booked.
    pub(crate) fn is_full(&self) -> bool {
        self.open >= self.limits.bookings_max
    }

    pub(crate) fn claim(&self, book: &Book) -> Claim {
        Claim { priority: book.priority, share: self.activity.share(book, self.calendar.quota()) }
    }

    /// Whether there is room that nobody who has booked it is expected to take.
    pub(crate) fn can_go(&self, book: &Book, now: Moment) -> bool {
        book.bucket.has_room_beside(book.due(), now)
            && self.calendar.has_room_at(self.claim(book).share, now) <= now
    }

    /// When who comes on time can be admitted.
    pub(crate) fn takes_on_time_at(&self, book: &Book) -> Moment {
        book.bucket.takes_on_time_at().max(self.calendar.takes_on_time_at())
    }

    /// Parks a caller whose slot is near, and defers any other.
    pub(crate) fn wait(
        &mut self,
        book: &mut Book,
        slot: Moment,
        question: &Question<'_>,
        now: Moment,
    ) -> Turn {
        let wait = slot.max(self.takes_on_time_at(book)).since(now);
        let has_time = wait.checked_add(PARK_SPARE).is_some_and(|needed| needed <= question.answer_within);
        let has_place = self.parked < self.limits.parked_max || book.parked.contains_key(&slot);
        if wait <= PARK_MAX && has_time && has_place {
            let id = ParkId(self.next_park);
            self.next_park += 1;
            let displaced = book.parked.insert(slot, id);
            return Turn::Parked { slot, id, displaced };
        }
        self.expected.add(question.holder, slot, now);
        Turn::Deferred { slot, reserve: (slot > book.durable).then(|| slot.offset(RESERVE_AHEAD_NS)) }
    }

    /// Admits the holder of a booking.
    pub(crate) fn redeem(&mut self, book: &mut Book, booked: Booked, now: Moment) {
        book.parked.remove(&booked.slot());
        match booked {
            Booked::Here(found) => book.meet(found),
            Booked::Before(slot) => book.redeem_blank(slot),
        }
        self.calendar.meet(booked.slot(), book.priority, now);
        book.bucket.raise(now);
        self.count(book, now);
    }

    /// Counts an admission in what all apps share.
    pub(crate) fn count(&mut self, book: &mut Book, now: Moment) {
        self.calendar.raise(now);
        book.admitted += 1;
        book.small += 1;
        self.calendar.count_small();
        self.review(book);
    }

    /// Takes an app that has had its share out of the count of small ones.
    pub(crate) fn review(&mut self, book: &mut Book) {
        if self.claim(book).share == Share::Had {
            book.unsteady_at = book.second;
            self.calendar.discount_small(std::mem::take(&mut book.small));
        }
    }
}
