//! What is open to one address, as the kernel can hold it: the elements of a set with ranges must not overlap.

use std::collections::{BTreeMap, BTreeSet};

use podgate_engine::{
    port::{PortRange, Protocol},
    time::WallTime,
};

use crate::door::{Door, Opening};

/// Openings that do not overlap, ordered by protocol and port.
///
/// Where several grants open a port, it is open until the last of them ends. Neighbours that end together are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Openings(Vec<Opening>);

impl Openings {
    /// Merges what several grants open.
    pub(crate) fn merged(openings: impl IntoIterator<Item = Opening>) -> Self {
        let mut by_protocol: BTreeMap<Protocol, Vec<Opening>> = BTreeMap::new();
        for opening in openings {
            by_protocol.entry(opening.door.protocol).or_default().push(opening);
        }
        Self(by_protocol.into_iter().flat_map(|(protocol, openings)| sweep(protocol, &openings)).collect())
    }

    /// As they are in the kernel, which holds none that overlap.
    pub(crate) fn held(openings: impl IntoIterator<Item = Opening>) -> Self {
        let mut openings: Vec<_> = openings.into_iter().collect();
        openings.sort_unstable_by_key(|opening| opening.door);
        Self(openings)
    }

    /// The openings, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Opening> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The opening of exactly this door.
    pub(crate) fn at(&self, door: Door) -> Option<Opening> {
        let at = self.0.binary_search_by_key(&door, |opening| opening.door).ok()?;
        self.0.get(at).copied()
    }

    /// The parts of a door that are not open here.
    pub(crate) fn missing(&self, door: Door) -> Vec<Door> {
        let mut missing = Vec::new();
        let mut add = |first: u32, last: u32| {
            // A range that runs backwards is empty.
            if let Ok(ports) = PortRange::new(first, last) {
                missing.push(Door { protocol: door.protocol, ports });
            }
        };
        let (mut next, last) = (u32::from(door.ports.first()), u32::from(door.ports.last()));
        for open in self.0.iter().map(|opening| opening.door).filter(|open| open.protocol == door.protocol) {
            let (open_first, open_last) = (u32::from(open.ports.first()), u32::from(open.ports.last()));
            add(next, last.min(open_first - 1));
            next = next.max(open_last + 1);
        }
        add(next, last);
        missing
    }
}

/// Goes through the ports once, upwards, with the ends of all that is open at the port at hand.
fn sweep(protocol: Protocol, openings: &[Opening]) -> Vec<Opening> {
    let bounds: BTreeSet<u32> =
        openings.iter().flat_map(|opening| [first(opening), beyond(opening)]).collect();
    let mut begin: Vec<&Opening> = openings.iter().collect();
    begin.sort_unstable_by_key(|opening| first(opening));
    let mut end: Vec<&Opening> = openings.iter().collect();
    end.sort_unstable_by_key(|opening| beyond(opening));
    let (mut begin, mut end) = (begin.into_iter().peekable(), end.into_iter().peekable());
    let mut open: BTreeMap<WallTime, usize> = BTreeMap::new();
    let mut merged: Vec<(u32, u32, WallTime)> = Vec::new();
    for (at, next) in bounds.iter().zip(bounds.iter().skip(1)) {
        while let Some(opening) = begin.next_if(|opening| first(opening) <= *at) {
            *open.entry(opening.until).or_default() += 1;
        }
        while let Some(opening) = end.next_if(|opening| beyond(opening) <= *at) {
            if let Some(count) = open.get_mut(&opening.until) {
                *count -= 1;
                if *count == 0 {
                    open.remove(&opening.until);
                }
            }
        }
        let Some((until, _)) = open.last_key_value() else { continue };
        match merged.last_mut() {
            Some((_, last, last_until)) if *last + 1 == *at && last_until == until => *last = next - 1,
            Some(_) | None => merged.push((*at, next - 1, *until)),
        }
    }
    let ranges = merged.into_iter();
    ranges
        .filter_map(|(first, last, until)| {
            // Each is cut out of a range of the same kind.
            let ports = PortRange::new(first, last).ok()?;
            Some(Opening { door: Door { protocol, ports }, until })
        })
        .collect()
}

fn first(opening: &Opening) -> u32 {
    opening.door.ports.first().into()
}

fn beyond(opening: &Opening) -> u32 {
    u32::from(opening.door.ports.last()) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn opening(protocol: Protocol, first: u32, last: u32, until: u64) -> Opening {
        let ports = PortRange::new(first, last).unwrap();
        Opening { door: Door { protocol, ports }, until: WallTime::from_millis(until) }
    }

    fn tcp(first: u32, last: u32, until: u64) -> Opening {
        opening(Protocol::Tcp, first, last, until)
    }

    #[test]
    fn a_port_is_open_until_the_last_grant_ends() {
        let merged = Openings::merged([tcp(6379, 6381, 10), tcp(6380, 6380, 20), tcp(6382, 6382, 10)]);
        let expected = [tcp(6379, 6379, 10), tcp(6380, 6380, 20), tcp(6381, 6382, 10)];
        assert_eq!(merged.iter().collect::<Vec<_>>(), expected);
        let missing = merged.missing(tcp(6300, 65_535, 0).door);
        assert_eq!(missing, [tcp(6300, 6378, 0).door, tcp(6383, 65_535, 0).door]);
        assert_eq!(merged.missing(tcp(6380, 6382, 0).door), []);
        let udp = opening(Protocol::Udp, 6380, 6380, 0).door;
        assert_eq!(merged.missing(udp), [udp]);
    }

    fn any_openings() -> impl Strategy<Value = Vec<Opening>> {
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
        let one = (protocol, prop_oneof![1u32..20, 65_520u32..=65_535], 0u32..12, 1u64..5);
        let one = one.prop_map(|(protocol, first, more, until)| {
            opening(protocol, first, (first + more).min(65_535), until)
        });
        proptest::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn merging_changes_no_port_and_overlaps_nowhere(openings in any_openings()) {
            let merged = Openings::merged(openings.iter().copied());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in (1..40).chain(65_515..=65_535) {
                    let door = opening(protocol, port, port, 0).door;
                    let of = |openings: &[Opening]| -> Vec<WallTime> {
                        let covers = |opening: &&Opening| {
                            opening.door.protocol == protocol && opening.door.ports.covers(door.ports)
                        };
                        openings.iter().filter(covers).map(|opening| opening.until).collect()
                    };
                    let held = of(&merged.0);
                    prop_assert_eq!(of(&openings).into_iter().max(), held.iter().copied().max());
                    prop_assert!(held.len() <= 1);
                    prop_assert_eq!(merged.missing(door).is_empty(), held.len() == 1);
                }
            }
            prop_assert!(merged.0.is_sorted_by_key(|opening| opening.door));
            for pair in merged.0.windows(2) {
                let [a, b] = pair else { continue };
                let neighbours = a.door.protocol == b.door.protocol && beyond(a) == first(b);
                prop_assert!(!neighbours || a.until != b.until, "two where one would do: {:?}", merged);
            }
        }

        #[test]
        fn what_is_missing_and_what_is_open_are_the_door(openings in any_openings(), a in 1u32..30, b in 0u32..10) {
            let merged = Openings::merged(openings);
            let door = tcp(a, a + b, 0).door;
            let missing = merged.missing(door);
            for port in a..=a + b {
                let one = tcp(port, port, 0).door;
                let among = missing.iter().filter(|door| door.ports.covers(one.ports)).count();
                prop_assert_eq!(among, usize::from(!merged.missing(one).is_empty()));
            }
        }
    }
}
