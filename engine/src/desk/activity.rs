//! How many apps are active, and whether one of them has had its share of the capacity.

use crate::{book::Book, calendar::Share, quota::Quota, time::Moment};

/// Apps that asked in this second and in the last, and apps that hold bookings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    second: i64,
    asked: [usize; 2],
    pub(crate) holding: usize,
}

impl Activity {
    /// Notes that an app was asked for.
    pub(crate) fn note(&mut self, book: &mut Book, now: Moment) {
        let second = now.as_nanos().div_euclid(1_000_000_000);
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
        if held < share { Share::Small } else { Share::Had }
    }
}
