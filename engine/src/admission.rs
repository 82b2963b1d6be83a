//! Admission through an app's bucket and the capacity that all apps share: both or neither.

use std::time::Duration;

use crate::{bucket::Bucket, time::Moment};

/// What came of asking both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Both had room, and each has spent a token.
    Admitted,
    /// One had none. Nothing is spent in either.
    Refused {
        /// The one that makes the caller wait longer.
        by: Limit,
        /// How long until both would have room, if nobody else came. Never zero.
        wait: Duration,
    },
}

/// A limit that can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The app's own bucket.
    App,
    /// The capacity of the gateway.
    Capacity,
}

/// Admits through both buckets, or through neither.
pub fn pass(app: &mut Bucket, capacity: &mut Bucket, now: Moment) -> Passage {
    let (app_slot, capacity_slot) = (app.next_slot(now), capacity.next_slot(now));
    if app_slot.max(capacity_slot) > now {
        let by = if app_slot >= capacity_slot { Limit::App } else { Limit::Capacity };
        return Passage::Refused { by, wait: app_slot.max(capacity_slot).since(now) };
    }
    app.spend(now);
    capacity.spend(now);
    Passage::Admitted
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::quota::Quota;

    fn bucket(rate: &str, burst: u32) -> Bucket {
        let quota = Quota { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() };
        Bucket::full(quota, Moment::from_nanos(0))
    }

    #[test]
    fn a_refusal_spends_nothing_in_either() {
        let now = Moment::from_nanos(0);
        let (mut app, mut capacity) = (bucket("10/s", 5), bucket("100/s", 1));
        assert_eq!(pass(&mut app, &mut capacity, now), Passage::Admitted);
        let before = (app.clone(), capacity.clone());
        let refused = Passage::Refused { by: Limit::Capacity, wait: Duration::from_millis(10) };
        assert_eq!(pass(&mut app, &mut capacity, now), refused);
        assert_eq!((app, capacity), before);
    }

    #[test]
    fn the_longer_wait_is_told() {
        let now = Moment::from_nanos(0);
        let (mut app, mut capacity) = (bucket("10/s", 1), bucket("100/s", 1));
        assert_eq!(pass(&mut app, &mut capacity, now), Passage::Admitted);
        let refused = Passage::Refused { by: Limit::App, wait: Duration::from_millis(100) };
        assert_eq!(pass(&mut app, &mut capacity, now), refused);
    }
}
