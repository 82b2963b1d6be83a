//! Calls that are parked, by the place that the desk gave them and by who made them.

use std::collections::BTreeMap;

use podgate_engine::{book::ParkId, time::Moment};

use crate::simulate::timetable::CallId;

/// A call that waits for its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) call: CallId,
    pub(crate) app: u32,
    pub(crate) slot: Moment,
}

/// All of them; the desk bounds how many there are. Ordered maps, so that a seed always empties them in one order.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    by_place: BTreeMap<u64, Parked>,
    by_call: BTreeMap<CallId, u64>,
}

impl Parking {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    pub(crate) fn enter(&mut self, id: ParkId, parked: Parked) {
        self.by_place.insert(id.0, parked);
        self.by_call.insert(parked.call, id.0);
    }

    pub(crate) fn get(&self, id: ParkId) -> Option<Parked> {
        self.by_place.get(&id.0).copied()
    }

    /// The place of a call.
    pub(crate) fn of(&self, call: CallId) -> Option<(ParkId, Parked)> {
        let place = *self.by_call.get(&call)?;
        self.by_place.get(&place).map(|parked| (ParkId(place), *parked))
    }

    pub(crate) fn remove(&mut self, id: ParkId) {
        if let Some(parked) = self.by_place.remove(&id.0) {
            self.by_call.remove(&parked.call);
        }
    }

    /// Empties it.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = CallId> {
        self.by_place.clear();
        std::mem::take(&mut self.by_call).into_keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_both_ways_until_it_is_removed() {
        let mut parking = Parking::default();
        let parked = |pod| Parked { call: CallId { pod, turn: 1 }, app: 0, slot: Moment::from_nanos(5) };
        parking.enter(ParkId(8), parked(1));
        parking.enter(ParkId(9), parked(0));
        assert_eq!(parking.get(ParkId(8)), Some(parked(1)));
        assert_eq!(parking.of(parked(0).call), Some((ParkId(9), parked(0))));
        parking.remove(ParkId(9));
        assert_eq!((parking.get(ParkId(9)), parking.of(parked(0).call)), (None, None));
        assert_eq!(parking.drain().collect::<Vec<_>>(), [parked(1).call]);
        assert!(parking.is_empty());
    }
}
