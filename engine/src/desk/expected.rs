//! Whom the desk expects, by the second: who has been told to come back goes before who has not been here yet.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::{book::Holder, time::Moment};

const SECOND_NS: i64 = 1_000_000_000;

/// Holders of told slots, by the second of the slot. A holder is kept as 32 bits: who is taken for another goes first by
/// mistake, and gains no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    seconds: VecDeque<FxHashSet<u32>>,
    first: i64,
}

impl Expected {
    /// Expects a holder at a slot.
    pub(crate) fn add(&mut self, holder: Holder, slot: Moment, now: Moment) {
        self.advance(now);
        let Ok(place) = usize::try_from(second_of(slot) - self.first) else {
            return;
        };
        if place >= self.seconds.len() {
            self.seconds.resize_with(place + 1, FxHashSet::default);
        }
        self.seconds[place].insert(holder.short());
    }

    /// Whether the holder is expected within a second from now, or was just now.
    pub(crate) fn is_due(&self, holder: Holder, now: Moment) -> bool {
        let second = second_of(now);
        (second - 1..=second + 1).any(|second| {
            let place = usize::try_from(second - self.first).ok();
            place.and_then(|place| self.seconds.get(place)).is_some_and(|set| set.contains(&holder.short()))
        })
    }

    fn advance(&mut self, now: Moment) {
        let first = second_of(now) - 1;
        while self.first < first && self.seconds.pop_front().is_some() {
            self.first += 1;
        }
        self.first = self.first.max(first);
    }

    /// Bytes on the heap: hashbrown fills seven of eight buckets at most, with a control byte each.
    pub(crate) fn heap_bytes(&self) -> usize {
        let sets = self.seconds.iter().filter(|set| set.capacity() > 0);
        sets.map(|set| (set.capacity() * 8 / 7).next_power_of_two() * (size_of::<u32>() + 1)).sum()
    }
}

fn second_of(at: Moment) -> i64 {
    at.as_nanos().div_euclid(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: i64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn who_was_told_a_slot_is_expected_around_it() {
        let mut expected = Expected::default();
        let (told, other) = (Holder::new(7), Holder::new(8));
        expected.add(told, at_ms(65_300), at_ms(10_000));
        for (ms, due) in [
            (10_000, false),
            (63_999, false),
            (64_000, true),
            (65_300, true),
            (66_900, true),
            (67_000, false),
        ] {
            assert_eq!(expected.is_due(told, at_ms(ms)), due, "{ms}");
            assert!(!expected.is_due(other, at_ms(ms)));
        }
        expected.add(other, at_ms(70_000), at_ms(69_000));
        assert!(expected.seconds.len() < 4 && expected.is_due(other, at_ms(70_000)));
    }
}
