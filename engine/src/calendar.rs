//! The capacity that all apps share: a calendar of cells of 100 ms that counts what is booked, and a meter of what was
//! admitted.
//!
//! Cells bound what is promised ahead; the meter bounds what is admitted now. A cell keeps room for apps that hold
//! less than their share, and for priorities that wait; what of it is not wanted when the cell begins shows in the
//! meter, and goes to callers that are parked.

use std::collections::VecDeque;

use crate::{
    meter::{LATENESS_NS, Meter},
    profile::Priority,
    quota::Quota,
    time::Moment,
};

/// Length of a cell.
const CELL_NS: i64 = 100_000_000;
/// Cells of the past that matter: those whose holders may still come on time.
const PAST_CELLS: i64 = LATENESS_NS / CELL_NS + 1;
/// Of each cell, in thousandths: what is kept for apps with less than their share, beside what they use already; the
/// most that is kept; and what each priority keeps while it waits.
const KEPT_FOR_SMALL: u64 = 100;
const KEPT_FOR_SMALL_MAX: u64 = 500;
const KEPT_FOR_EACH: u64 = 50;
/// Of each cell, in thousandths: how far P2 and P3 may fill it while a higher priority waits.
const P2_MAX: u64 = 800;
const P3_MAX: u64 = 500;
const WHOLE: u64 = 1_000;

/// Whether an app has had its share of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// It holds less than C / (active apps), and has been active for a while without ever holding more.
    Steady,
    /// It holds less than C / (active apps). A storm of many apps begins so.
    Small,
    /// It holds that or more.
    Had,
}

/// Who wants a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) priority: Priority,
    pub(crate) share: Share,
}

/// The shared capacity.
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    quota: Quota,
    meter: Meter,
    cells: VecDeque<Cell>,
    /// Index of the first of them.
    first: i64,
    /// Open bookings of each priority.
    waiting: [usize; 3],
    /// Admissions of small apps, in this second and the last.
    small: [u32; 2],
    small_second: i64,
    /// For each kind of claim, cells that were found full.
    full: [Full; 6],
}

/// Cells from `first` to before `end` in which a claim found no room, when it could fill them as far as `fill`.
#[derive(Clone, Copy, Debug, Default)]
struct Full {
    first: i64,
    end: i64,
    fill: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    booked: [u32; 3],
    met: u32,
    /// What the process before this one may have told. Whoever comes has room by the meter; nobody is waited for.
    unseen: u32,
}

impl Cell {
    fn total(self) -> u32 {
        self.booked.iter().sum()
    }
}

fn row(priority: Priority) -> usize {
    match priority {
        Priority::P1 => 0,
        Priority::P2 => 1,
        Priority::P3 => 2,
    }
}

fn cell_of(at: Moment) -> i64 {
    at.as_nanos().div_euclid(CELL_NS)
}

impl Calendar {
    pub(crate) fn full(quota: Quota, now: Moment) -> Self {
        Self::with(quota, Meter::empty(now), now)
    }

    pub(crate) fn drained(quota: Quota, now: Moment) -> Self {
        Self::with(quota, Meter::full(quota, now), now)
    }

    fn with(quota: Quota, meter: Meter, now: Moment) -> Self {
        let first = cell_of(now) - PAST_CELLS;
        let cells = VecDeque::new();
        Self {
            quota,
            meter,
            cells,
            first,
            waiting: [0; 3],
            small: [0; 2],
            small_second: i64::MIN,
            full: [Full::default(); 6],
        }
    }

    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    /// Forgets cells whose time is over.
    pub(crate) fn advance(&mut self, now: Moment) {
        let first = cell_of(now) - PAST_CELLS;
        while self.first < first && self.cells.pop_front().is_some() {
            self.first += 1;
        }
        self.first = self.first.max(first);
        let second = now.as_nanos().div_euclid(1_000_000_000);
        if second != self.small_second {
            let last = if second == self.small_second + 1 { self.small[0] } else { 0 };
            self.small = [0, last];
            self.small_second = second;
        }
    }

    /// When a claim could be admitted if nobody else came, by what was admitted: a tenth of the burst is kept for small
    /// apps, and a tenth for steady ones.
    pub(crate) fn has_room_at(&self, share: Share, now: Moment) -> Moment {
        let tenth = self.quota.burst.get() / 10;
        let kept = match share {
            Share::Steady => 0,
            Share::Small => tenth,
            Share::Had => 2 * tenth,
        };
        self.meter.has_room_at(self.quota, self.due(now).saturating_add(kept))
    }

    /// When who comes on time can be admitted.
    pub(crate) fn takes_on_time_at(&self) -> Moment {
        self.meter.takes_on_time_at(self.quota)
    }

    /// Counts an admission.
    pub(crate) fn raise(&mut self, now: Moment) {
        self.meter.raise(now, self.quota);
    }

    /// Counts an admission of a small app.
    pub(crate) fn count_small(&mut self) {
        self.small[0] += 1;
    }

    /// So many of this second's small admissions were of an app that is not small any more: a storm begins small, and
    /// nothing is to be kept for it.
    pub(crate) fn discount_small(&mut self, count: u32) {
        self.small[0] = self.small[0].saturating_sub(count);
    }

    /// Bookings whose slot has begun and whose holders are still expected: those of the cells that may still come on
    /// time, and of the present one as much as is over.
    fn due(&self, now: Moment) -> u32 {
        let (first, present) = (cell_of(now.offset(-LATENESS_NS)), cell_of(now));
        let elapsed_ns = (now.as_nanos() - present * CELL_NS) as u64;
        (first..=present)
            .filter_map(|index| self.cell(index).map(|cell| (index, cell)))
            .map(|(index, cell)| {
                let expected = if index == present {
                    (u64::from(cell.total()) * elapsed_ns / CELL_NS as u64) as u32
                } else {
                    cell.total()
                };
                expected.saturating_sub(cell.met)
            })
            .sum()
    }

    /// The first slot at or after `from`, and not after `until`, whose cell has room for the claim.
    pub(crate) fn find(&mut self, claim: Claim, from: Moment, until: Moment) -> Option<Moment> {
        let fill = self.fill(claim);
        let [whole, own_most, fill_most] = [WHOLE, KEPT_FOR_EACH, fill].map(|part| self.tokens_each(part));
        let kind = row(claim.priority) * 2 + usize::from(claim.share == Share::Had);
        let (first, last) = (cell_of(from), cell_of(until));
        let known = self.full[kind];
        let is_known = fill <= known.fill && (known.first..known.end).contains(&first);
        let begin = if is_known { known.end } else { first };
        let found = (begin..=last).find(|index| {
            let cell = self.cell(*index).unwrap_or_default();
            let total = cell.total() + cell.unseen;
            total < tokens(*index, fill_most)
                || cell.booked[row(claim.priority)] < tokens(*index, own_most)
                    && total < tokens(*index, whole)
        });
        let end = found.unwrap_or(last + 1).max(begin);
        self.full[kind] = Full { first: if is_known { known.first } else { first }, end, fill };
        let index = found?;
        let slot = if index == first {
            from
        } else {
            // Spread over the cell, so that those who were moved do not begin at the same instant.
            let total = self.cell(index).unwrap_or_default().total();
            let begun_ns = CELL_NS * i64::from(total) / i64::from(tokens(index, whole).max(1));
            Moment::from_nanos(index * CELL_NS + begun_ns)
        };
        Some(slot).filter(|slot| *slot <= until)
    }

    /// How far the claim may fill a cell, in thousandths. With its own priority it may fill a twentieth in any case.
    fn fill(&self, claim: Claim) -> u64 {
        let waits = |priority| self.waiting[row(priority)] > 0;
        let lower = |priorities: &[Priority]| {
            WHOLE - KEPT_FOR_EACH * priorities.iter().filter(|priority| waits(**priority)).count() as u64
        };
        let by_priority = match claim.priority {
            Priority::P1 => lower(&[Priority::P2, Priority::P3]),
            Priority::P2 if waits(Priority::P1) => P2_MAX,
            Priority::P2 => lower(&[Priority::P3]),
            Priority::P3 if waits(Priority::P1) || waits(Priority::P2) => P3_MAX,
            Priority::P3 => WHOLE,
        };
        let used = u64::from(self.small[0].max(self.small[1])) * WHOLE;
        let used = (used as f64 / self.quota.rate.as_per_second()) as u64;
        let by_share = match claim.share {
            Share::Steady => WHOLE,
            Share::Small => WHOLE - used.min(KEPT_FOR_SMALL_MAX),
            Share::Had => WHOLE - (KEPT_FOR_SMALL + used).min(KEPT_FOR_SMALL_MAX),
        };
        by_priority.min(by_share)
    }

    /// Tokens a cell of so many thousandths of the rate, in 32.32 fixed point, rounded down.
    fn tokens_each(&self, thousandths: u64) -> u64 {
        let whole = ((CELL_NS as u64) << 20) / self.quota.interval_ns() as u64;
        (whole * thousandths / WHOLE) << 12
    }

    /// Books a slot that was found.
    pub(crate) fn book(&mut self, slot: Moment, priority: Priority) {
        if let Some(cell) = self.cell_mut(cell_of(slot)) {
            cell.booked[row(priority)] += 1;
        }
    }

    /// Counts the open bookings of an app that may have changed its priority.
    pub(crate) fn recount(&mut self, from: Priority, fewer: usize, to: Priority, more: usize) {
        self.waiting[row(from)] -= fewer;
        self.waiting[row(to)] += more;
    }

    /// Books what an earlier process may have told: a slot each `interval_ns` until `until`.
    pub(crate) fn book_unseen(&mut self, interval_ns: i64, now: Moment, until: Moment) {
        let whole = self.tokens_each(WHOLE);
        for index in cell_of(now)..=cell_of(until) {
            let to = (index + 1).saturating_mul(CELL_NS).min(until.as_nanos());
            let from = (index * CELL_NS).max(now.as_nanos());
            let each = interval_ns.max(1);
            let slots = to.div_euclid(each) - from.div_euclid(each);
            if let Some(cell) = self.cell_mut(index) {
                // Where the capacity has put the app's frontier so far ahead, these are more than were told.
                cell.unseen = cell.unseen.saturating_add(slots.max(0) as u32).min(tokens(index, whole));
            }
        }
    }

    /// The holder of a booking has come. What was booked in a cell that has not begun is free again.
    pub(crate) fn meet(&mut self, slot: Moment, priority: Priority, now: Moment) {
        let index = cell_of(slot);
        for full in &mut self.full {
            full.end = full.end.min(index);
        }
        let Some(cell) = (index - self.first >= 0).then(|| self.cell_mut(index)).flatten() else {
            return;
        };
        if index <= cell_of(now) {
            cell.met = cell.met.saturating_add(1);
            return;
        }
        // An app's priority may have changed since it booked.
        let counted = [row(priority), 0, 1, 2].into_iter().find(|row| cell.booked[*row] > 0);
        if let Some(row) = counted {
            cell.booked[row] -= 1;
        }
    }

    fn cell(&self, index: i64) -> Option<Cell> {
        let place = usize::try_from(index - self.first).ok()?;
        self.cells.get(place).copied()
    }

    fn cell_mut(&mut self, index: i64) -> Option<&mut Cell> {
        let place = usize::try_from(index - self.first).ok()?;
        if place >= self.cells.len() {
            self.cells.resize(place + 1, Cell::default());
        }
        self.cells.get_mut(place)
    }
}

/// What a cell holds of so many tokens each: whole ones, which over many cells add up to the rate. A cell has at most
/// 100,000, so that 4,096 cells of them fit.
fn tokens(index: i64, each: u64) -> u32 {
    let at = index.rem_euclid(4_096) as u64;
    ((((at + 1) * each) >> 32) - ((at * each) >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const P1: Priority = Priority::P1;

    fn at_ms(ms: i64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn calendar(rate: &str) -> Calendar {
        let quota = Quota { rate: rate.parse().unwrap(), burst: NonZeroU32::new(10).unwrap() };
        Calendar::full(quota, at_ms(0))
    }

    fn claim(priority: Priority, share: Share) -> Claim {
        Claim { priority, share }
    }

    /// Books until there is no more before `until`; returns how many.
    fn fill(calendar: &mut Calendar, claim: Claim, until: Moment) -> usize {
        let mut count = 0;
        while let Some(slot) = calendar.find(claim, at_ms(0), until) {
            calendar.book(slot, claim.priority);
            calendar.recount(claim.priority, 0, claim.priority, 1);
            count += 1;
        }
        count
    }

    #[test]
    fn cells_add_up_to_the_rate() {
        for (rate, expected) in
            [("3/s", 30), ("100/s", 1_000), ("37/s", 370), ("60/m", 10), ("100000/s", 1_000_000)]
        {
            let calendar = calendar(rate);
            let sum: u32 = (0..100).map(|index| tokens(index, calendar.tokens_each(WHOLE))).sum();
            assert!(sum <= expected && sum + 1 + expected / 10_000 >= expected, "{rate}: {sum}");
        }
    }

    #[test]
    fn a_tenth_is_kept_for_those_that_have_less_than_their_share() {
        let mut calendar = calendar("100/s");
        let end = at_ms(999);
        assert_eq!(fill(&mut calendar, claim(P1, Share::Had), end), 90);
        assert_eq!(fill(&mut calendar, claim(P1, Share::Small), end), 10);
    }

    #[test]
    fn what_small_apps_use_already_is_kept_beside() {
        let mut calendar = calendar("100/s");
        calendar.advance(at_ms(0));
        (0..30).for_each(|_| calendar.count_small());
        calendar.discount_small(10);
        assert_eq!(fill(&mut calendar, claim(P1, Share::Had), at_ms(999)), 70);
    }

    #[test]
    fn a_lower_priority_gives_way_only_while_a_higher_one_waits() {
        let end = at_ms(999);
        let small = |priority| claim(priority, Share::Small);
        let mut alone = calendar("100/s");
        assert_eq!(fill(&mut alone, small(Priority::P3), end), 100);
        let mut calendar = calendar("100/s");
        calendar.recount(P1, 0, P1, 1);
        assert_eq!(fill(&mut calendar, small(Priority::P3), end), 50);
        assert_eq!(fill(&mut calendar, small(Priority::P2), end), 30);
        // P3 and P2 wait now, and each keeps a twentieth, which both hold already.
        assert_eq!(fill(&mut calendar, small(P1), end), 10);
        assert_eq!(calendar.find(small(Priority::P3), at_ms(0), end), None);
    }

    #[test]
    fn who_goes_early_leaves_a_place_and_who_is_due_is_expected() {
        let mut calendar = calendar("100/s");
        let had = claim(P1, Share::Had);
        assert_eq!(fill(&mut calendar, had, at_ms(999)), 90);
        calendar.meet(at_ms(550), P1, at_ms(10));
        assert_eq!(
            calendar.find(had, at_ms(0), at_ms(999)).map(|slot| slot.as_nanos() / 100_000_000),
            Some(5)
        );
        calendar.advance(at_ms(150));
        assert_eq!(calendar.due(at_ms(150)), 9 + 4);
        calendar.meet(at_ms(20), P1, at_ms(150));
        assert_eq!(calendar.due(at_ms(150)), 8 + 4);
    }

    #[test]
    fn what_was_found_full_is_looked_at_again_when_it_changes() {
        let mut calendar = calendar("100/s");
        let (had, small) = (claim(P1, Share::Had), claim(P1, Share::Small));
        let cell = |slot: Option<Moment>| slot.map(cell_of);
        assert_eq!(fill(&mut calendar, had, at_ms(999)), 90);
        assert_eq!(calendar.find(had, at_ms(0), at_ms(999)), None);
        assert_eq!(cell(calendar.find(small, at_ms(0), at_ms(999))), Some(0));
        assert_eq!(cell(calendar.find(had, at_ms(0), at_ms(1_999))), Some(10));
        assert_eq!(cell(calendar.find(had, at_ms(300), at_ms(1_999))), Some(10));
        calendar.meet(at_ms(450), P1, at_ms(10));
        assert_eq!(cell(calendar.find(had, at_ms(300), at_ms(1_999))), Some(4));
        assert_eq!(cell(calendar.find(had, at_ms(500), at_ms(1_999))), Some(10));
        assert_eq!(cell(calendar.find(had, at_ms(0), at_ms(1_999))), Some(4));
    }

    #[test]
    fn what_an_earlier_process_may_have_told_is_kept_free_but_nobody_waits_for_it() {
        let mut calendar = calendar("100/s");
        for _ in 0..200 {
            calendar.book_unseen(20_000_000, at_ms(0), at_ms(1_000));
        }
        let small = claim(P1, Share::Small);
        assert_eq!(cell_of(calendar.find(small, at_ms(0), at_ms(5_000)).unwrap()), 10);
        assert_eq!(calendar.due(at_ms(500)), 0);
    }

    #[test]
    fn slots_of_one_cell_are_spread() {
        let mut calendar = calendar("100/s");
        let small = claim(P1, Share::Small);
        let slots: Vec<i64> = (0..20)
            .map(|_| {
                let slot = calendar.find(small, at_ms(0), at_ms(199)).unwrap();
                calendar.book(slot, P1);
                slot.as_nanos() / 1_000_000
            })
            .collect();
        assert_eq!(slots[..10], [0; 10]);
        assert_eq!(slots[10..], [100, 110, 120, 130, 140, 150, 160, 170, 180, 190]);
    }
}
