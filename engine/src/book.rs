//! An app's book: its bucket, and the slots that are booked and whose holders have not come yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use crate::{bucket::Bucket, meter::LATENESS_NS, profile::Priority, time::Moment};

/// Most open bookings of one holder; a further request inherits one of them.
pub const OPEN_MAX: usize = 4;

/// How long a book is kept after it was last asked for.
const KEPT_NS: i64 = 60_000_000_000;

/// For whom a slot is kept: a pod's verified uid, or, where nobody proves one, the address of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder(u64);

impl Holder {
    /// From a number that is different for different holders.
    pub fn new(number: u64) -> Self {
        // Nobody is a mark of its own below.
        Self(if number == Self::NOBODY.0 { 1 } else { number })
    }

    const NOBODY: Self = Self(0);

    /// 32 bits of it.
    pub(crate) fn short(self) -> u32 {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
    }
}

/// What a pod asks for: 32 bits of a digest of its uid, and 32 of one of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request(u64);

impl Request {
    /// From a digest of the pod's uid and one of what it asks for.
    pub fn new(uid: u64, request: u64) -> Self {
        Self(uid & 0xffff_ffff_0000_0000 | request & 0xffff_ffff)
    }

    fn is_of_same_pod_as(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

/// Identifies a parked call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkId(pub u64);

/// An app's book. 24 bytes a booking and 32 a holder, in containers that grow by doubling.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    pub(crate) bucket: Bucket,
    /// In the order of their slots, each later than the one before.
    bookings: VecDeque<Booking>,
    /// Sequence number of the first of them.
    first: u32,
    by_holder: FxHashMap<Holder, Held>,
    open: usize,
    /// How many of the bookings, from the first, have begun, and how many of these are open: their holders are due.
    begun: usize,
    due: u32,
    /// Parked calls by slot. No two bookings of an app have the same.
    pub(crate) parked: BTreeMap<Moment, ParkId>,
    /// Before this instant slots may have been told that are not in the book: by the process before this one.
    pub(crate) told_before: Moment,
    /// Slots of those that have been redeemed.
    redeemed: BTreeSet<Moment>,
    /// Up to here slots may be told: a restart would find this frontier.
    pub(crate) durable: Moment,
    /// The second in which it was last asked for, and admissions since that second began.
    pub(crate) second: i64,
    pub(crate) admitted: u32,
    /// Of these, those that count as a small app's.
    pub(crate) small: u32,
    /// The last second in which it had had its share, or, of a new one, one that lets it be steady in the next second.
    pub(crate) unsteady_at: i64,
    /// The app's priority, as the profile last said.
    pub(crate) priority: Priority,
    /// As the desk has counted it.
    pub(crate) counted: Counted,
}

/// What the desk counts of a book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) open: usize,
    pub(crate) parked: usize,
    pub(crate) head: Option<Moment>,
    pub(crate) priority: Priority,
    pub(crate) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Booking {
    slot: Moment,
    /// Nobody, once it has been met.
    holder: Holder,
    request: Request,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    numbers: [u32; OPEN_MAX],
    count: u8,
}

/// A booking that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    number: u32,
    pub(crate) slot: Moment,
}

/// What a slot's place in the book shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// A booking that is open, and for this request.
    Open(Found),
    /// One that has been met, or that another request has inherited.
    Spent,
    /// Nothing: it was booked by an earlier process, if at all.
    Blank,
}

impl Book {
    pub(crate) fn new(bucket: Bucket, told_before: Moment, unsteady_at: i64) -> Self {
        Self {
            bucket,
            bookings: VecDeque::new(),
            first: 0,
            by_holder: FxHashMap::default(),
            open: 0,
            begun: 0,
            due: 0,
            parked: BTreeMap::new(),
            told_before,
            redeemed: BTreeSet::new(),
            durable: told_before,
            second: i64::MIN,
            admitted: 0,
            small: 0,
            unsteady_at,
            priority: Priority::default(),
            counted: Counted::default(),
        }
    }

    /// Open bookings.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// What the desk counts.
    pub(crate) fn count(&self) -> Counted {
        let head = self.parked.keys().next().copied();
        let (open, parked, bytes) = (self.open, self.parked.len(), self.heap_bytes());
        Counted { open, parked, head, priority: self.priority, bytes }
    }

    /// Open bookings whose slot has begun: their holders are expected any moment.
    pub(crate) fn due(&self) -> u32 {
        self.due
    }

    /// Turns the pages to `now`; returns how many have not come.
    pub(crate) fn advance(&mut self, now: Moment) -> usize {
        let mut missed = 0;
        while let Some(first) = self.bookings.front().copied()
            && first.slot.offset(LATENESS_NS) < now
            // One that is parked is here, and not late, however late its call is woken.
            && !self.parked.contains_key(&first.slot)
        {
            if first.holder != Holder::NOBODY {
                missed += 1;
                self.meet(Found { number: self.first, slot: first.slot });
            }
            self.bookings.pop_front();
            self.first = self.first.wrapping_add(1);
            self.begun = self.begun.saturating_sub(1);
        }
        while let Some(next) = self.bookings.get(self.begun)
            && next.slot <= now
        {
            self.due += u32::from(next.holder != Holder::NOBODY);
            self.begun += 1;
        }
        if self.bookings.is_empty() && self.bookings.capacity() > 0 {
            self.bookings = VecDeque::new();
            self.by_holder = FxHashMap::default();
        }
        while self.redeemed.first().is_some_and(|slot| slot.offset(LATENESS_NS) < now) {
            self.redeemed.pop_first();
        }
        missed
    }

    /// The holder's open booking for this request.
    pub(crate) fn find(&self, holder: Holder, request: Request) -> Option<Found> {
        self.held(holder).find(|found| self.booking(found.number).is_some_and(|it| it.request == request))
    }

    /// Whether the holder has as many open bookings as it may.
    pub(crate) fn is_full_for(&self, holder: Holder) -> bool {
        self.held(holder).count() >= OPEN_MAX
    }

    /// The holder's open booking that a further request inherits, where it has as many as it may: the earliest of the
    /// same pod. Pods behind one address do not take each other's.
    pub(crate) fn inherit(&mut self, holder: Holder, request: Request) -> Option<Found> {
        if !self.is_full_for(holder) {
            return None;
        }
        let of_pod = |found: &Found| {
            self.booking(found.number).is_some_and(|it| it.request.is_of_same_pod_as(request))
        };
        let found = self.held(holder).filter(of_pod).min_by_key(|found| found.slot)?;
        let place = self.place(found.number);
        self.bookings.get_mut(place)?.request = request;
        Some(found)
    }

    fn held(&self, holder: Holder) -> impl Iterator<Item = Found> {
        let held = self.by_holder.get(&holder).copied().unwrap_or_default();
        held.numbers
            .into_iter()
            .take(usize::from(held.count))
            .filter_map(|number| self.booking(number).map(|booking| Found { number, slot: booking.slot }))
    }

    /// What stands at `slot`, for a holder of a ticket that names it.
    pub(crate) fn page(&self, slot: Moment, request: Request) -> Page {
        match self.bookings.binary_search_by_key(&slot, |booking| booking.slot) {
            Ok(place) => {
                let booking = self.bookings[place];
                if booking.holder != Holder::NOBODY && booking.request == request {
                    Page::Open(Found { number: self.first.wrapping_add(place as u32), slot })
                } else {
                    Page::Spent
                }
            }
            Err(_) if self.redeemed.contains(&slot) => Page::Spent,
            Err(_) => Page::Blank,
        }
    }

    /// The open booking at `slot`.
    pub(crate) fn open_at(&self, slot: Moment) -> Option<Found> {
        let place = self.bookings.binary_search_by_key(&slot, |booking| booking.slot).ok()?;
        let is_open = self.bookings[place].holder != Holder::NOBODY;
        is_open.then(|| Found { number: self.first.wrapping_add(place as u32), slot })
    }

    /// Enters a booking; `slot` is later than every other's.
    pub(crate) fn enter(&mut self, slot: Moment, holder: Holder, request: Request) {
        self.bucket.book(slot);
        let number = self.first.wrapping_add(self.bookings.len() as u32);
        self.bookings.push_back(Booking { slot, holder, request });
        let held = self.by_holder.entry(holder).or_default();
        if let Some(free) = held.numbers.get_mut(usize::from(held.count)) {
            *free = number;
            held.count += 1;
        }
        self.open += 1;
    }

    /// Closes a booking: its holder has come, or does not come any more.
    pub(crate) fn meet(&mut self, found: Found) {
        let place = self.place(found.number);
        let Some(booking) = self.bookings.get_mut(place).filter(|it| it.holder != Holder::NOBODY) else {
            return;
        };
        let holder = std::mem::replace(&mut booking.holder, Holder::NOBODY);
        self.open -= 1;
        self.due -= u32::from(place < self.begun);
        if let Some(held) = self.by_holder.get_mut(&holder) {
            let count = usize::from(held.count);
            if let Some(at) = held.numbers[..count].iter().position(|number| *number == found.number) {
                held.numbers.swap(at, count - 1);
                held.count -= 1;
            }
            if held.count == 0 {
                self.by_holder.remove(&holder);
            }
        }
    }

    /// Notes that a slot of an earlier process has been redeemed.
    pub(crate) fn redeem_blank(&mut self, slot: Moment) {
        self.redeemed.insert(slot);
    }

    /// Whether nothing would be lost without it. For a minute it tells a steady app from one that begins.
    pub(crate) fn is_idle(&self, now: Moment) -> bool {
        let asked_at = Moment::from_nanos(self.second.saturating_mul(1_000_000_000));
        asked_at.offset(KEPT_NS) < now
            && self.open == 0
            && self.parked.is_empty()
            && self.durable < now
            && self.bucket.is_full(now)
    }

    fn place(&self, number: u32) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    fn booking(&self, number: u32) -> Option<&Booking> {
        self.bookings.get(self.place(number))
    }

    /// Bytes on the heap, as far as the bookings go.
    pub(crate) fn heap_bytes(&self) -> usize {
        // hashbrown keeps a control byte a bucket, and fills seven of eight buckets at most.
        let buckets = (self.by_holder.capacity() * 8 / 7).next_power_of_two();
        self.bookings.capacity() * size_of::<Booking>() + buckets * (size_of::<(Holder, Held)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::quota::Quota;

    fn at_ms(ms: i64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn of(request: u64) -> Request {
        Request::new(0, request)
    }

    fn book() -> Book {
        let quota = Quota { rate: "10/s".parse().unwrap(), burst: NonZeroU32::MIN };
        Book::new(Bucket::full(quota, at_ms(0)), at_ms(0), 0)
    }

    #[test]
    fn a_holder_finds_its_booking_until_it_is_met_or_missed() {
        let mut book = book();
        let (one, two) = (Holder::new(1), Holder::new(2));
        book.enter(at_ms(100), one, of(7));
        book.enter(at_ms(200), two, of(7));
        assert_eq!(book.find(one, of(7)).unwrap().slot, at_ms(100));
        assert_eq!(book.find(one, of(8)), None);
        assert_eq!((book.open(), book.due()), (2, 0));
        assert_eq!(book.advance(at_ms(150)), 0);
        assert_eq!(book.due(), 1);
        let found = book.find(one, of(7)).unwrap();
        book.meet(found);
        book.meet(found);
        assert_eq!((book.open(), book.due()), (1, 0));
        assert_eq!(book.page(at_ms(100), of(7)), Page::Spent);
        assert_eq!(book.page(at_ms(101), of(7)), Page::Blank);
        assert_eq!(book.advance(at_ms(400)), 0);
        assert_eq!(book.due(), 1);
        assert_eq!(book.advance(at_ms(401)), 1);
        assert_eq!((book.open(), book.due(), book.find(two, of(7))), (0, 0, None));
    }

    #[test]
    fn a_fifth_request_inherits_the_earliest_slot() {
        let mut book = book();
        let holder = Holder::new(1);
        for number in 1..=4 {
            assert_eq!(book.inherit(holder, of(99)), None);
            book.enter(at_ms(100 * number), holder, of(number as u64));
        }
        assert_eq!(book.inherit(holder, of(99)).unwrap().slot, at_ms(100));
        assert_eq!(book.find(holder, of(1)), None);
        assert_eq!(book.find(holder, of(99)).unwrap().slot, at_ms(100));
        assert_eq!(book.page(at_ms(100), of(1)), Page::Spent);
        assert_eq!(book.open(), 4);
        assert_eq!(book.inherit(holder, Request::new(7 << 32, 99)), None);
    }

    #[test]
    fn a_hundred_thousand_bookings_take_little() {
        for count in [100_000u64, 114_689, 131_073, 1_000_000] {
            let mut book = book();
            for number in 1..=count {
                book.enter(
                    at_ms(number as i64),
                    Holder::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    of(1),
                );
            }
            let each = book.heap_bytes() as f64 / count as f64;
            assert!(each <= 128.0, "{each} bytes a booking at {count}");
        }
    }

    #[test]
    fn numbers_run_over() {
        let mut book = book();
        book.first = u32::MAX - 1;
        for number in 1..=4 {
            book.enter(at_ms(number), Holder::new(number as u64), of(1));
        }
        assert_eq!(book.find(Holder::new(4), of(1)).unwrap().slot, at_ms(4));
        book.advance(at_ms(204));
        assert_eq!((book.open(), book.find(Holder::new(4), of(1)).unwrap().slot), (1, at_ms(4)));
    }
}
