//! How many apps are active, and whether one of them has had its share of the capacity.

use crate::{book::Book, calendar::Share, quota::Quota, time::Moment};

/// What a steady app may hold before it counts as one that storms, in shares and one more: two calls that fall into one
/// second, or one that had to wait, are no storm.
const STEADY_SHARES: f64 = 2.0;
/// For how many seconds an app counts as unsteady after it had had its share.
const STEADY_AFTER_S: i64 = 10;

/// Apps that asked in this second and in the last, and apps that hold bookings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    second: i64,
    asked: [usize; 2],
    pub(crate) holding: usize,
}

fn second_of(at: Moment) -> i64 {
    at.as_nanos().div_euclid(1_000_000_000)
}

impl Activity {
    /// When a book that is opened now counts as unsteady: as if all but one of the seconds that it takes were over.
    pub(crate) fn unsteady_at_first(now: Moment) -> i64 {
        second_of(now) - STEADY_AFTER_S + 1
    }

    /// Notes that an app was asked for.
    pub(crate) fn note(&mut self, book: &mut Book, now: Moment) {
        let second = second_of(now);
        if second != self.second {
            let last = if second == self.second + 1 { self.asked[0] } else { 0 };
            self.asked = [0, last];
            self.second = second;
        }
        if book.second != second {
            book.second = second;
            book.admitted = 0;
            book.small = 0;
            self.asked[0] += 1;
        }
    }

    /// Whether an app holds less than C / (active apps): its open bookings and this second's admissions count.
    pub(crate) fn share(&self, book: &Book, capacity: Quota) -> Share {
        let active = self.asked[0].max(self.asked[1]).max(self.holding).max(1);
        let share = (capacity.rate.as_per_second() / active as f64).max(1.0);
        let held = book.open() as f64 + f64::from(book.admitted);
        if held < STEADY_SHARES * (share + 1.0) && self.second - book.unsteady_at >= STEADY_AFTER_S {
            Share::Steady
        } else if held < share {
            Share::Small
        } else {
            Share::Had
        }
    }
}
