//! The books against a kernel that is played: random histories end where a naive reference says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use podgate_engine::{
    grant::GrantId,
    port::{PortRange, Protocol},
};
use proptest::prelude::*;

use super::*;

/// A kernel's sets: what is in them, and until when.
#[derive(Clone, Debug, Default)]
struct Kernel(BTreeMap<Element, WallTime>);

impl Kernel {
    fn apply(&mut self, change: &Change) {
        for element in &change.gone {
            self.0.remove(element);
        }
        for (element, until) in &change.new {
            let lowest = Element { door: door(1, 1), ..*element };
            let neighbours = self.0.range(lowest..).map(|(other, _)| other);
            let overlaps = neighbours.take_while(|other| other.address == element.address).any(|other| {
                other.door.protocol == element.door.protocol
                    && other.door.ports.first() <= element.door.ports.last()
                    && element.door.ports.first() <= other.door.ports.last()
            });
            assert!(!overlaps, "{element} overlaps with what is there");
            self.0.insert(*element, *until);
        }
    }

    fn expire(&mut self, now: WallTime) {
        self.0.retain(|_, until| now < *until);
    }

    fn listed(&self) -> Vec<(Element, WallTime)> {
        self.0.iter().map(|(element, until)| (*element, *until)).collect()
    }

    fn opens(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<WallTime> {
        let covers = |element: &Element| {
            let Door { protocol: theirs, ports } = element.door;
            element.address == address && theirs == protocol && (ports.first()..=ports.last()).contains(&port)
        };
        self.0.iter().filter(|(element, _)| covers(element)).map(|(_, until)| *until).max()
    }
}

const LIMITS: Limits = Limits { grants_max: 1_000, elements_max: 1_000 };

fn at(ms: u64) -> WallTime {
    WallTime::from_millis(ms)
}

fn address(n: u8) -> IpAddr {
    if n.is_multiple_of(3) {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 0, 0, n).into()
    }
}

fn door(first: u32, last: u32) -> Door {
    Door { protocol: Protocol::Tcp, ports: PortRange::new(first, last).unwrap() }
}

fn holding(id: u64, generation: u64, n: u8, doors: &[(u32, u32)], until: u64) -> Holding {
    let doors = doors.iter().map(|(first, last)| door(*first, *last)).collect();
    Holding { id: GrantId(id), generation, address: address(n), doors, until: at(until) }
}

fn of(upserts: Vec<Holding>, removals: Vec<Removal>) -> Told {
    Told { upserts, removals }
}

/// Makes all changes that are to be made, and says whose connections are to be closed.
fn settle(books: &mut Books, kernel: &mut Kernel, now: WallTime) -> Vec<Element> {
    loop {
        let change = books.plan(now);
        if change.is_empty() {
            let closing = books.to_close();
            books.closed();
            return closing;
        }
        kernel.apply(&change);
        books.done(change);
    }
}

fn began(limits: Limits, first: Vec<Holding>, kernel: &mut Kernel) -> Books {
    let mut books = Books::new(limits);
    books.found(kernel.listed(), Duration::ZERO);
    books.take(Step::SnapshotEnd(of(first, Vec::new()))).unwrap();
    settle(&mut books, kernel, at(0));
    books
}

#[test]
fn nothing_changes_before_the_snapshot_is_whole() {
    let mut kernel = Kernel::default();
    kernel.0.insert(Element { address: address(1), door: door(1, 1) }, at(9_000));
    let mut books = Books::new(LIMITS);
    books.found(kernel.listed(), Duration::ZERO);
    let delta = Step::Delta(Told::default());
    assert_eq!(books.take(delta.clone()), Err(OutOfOrder));
    books.take(Step::Snapshot(of(vec![holding(1, 1, 2, &[(5, 5)], 9_000)], Vec::new()))).unwrap();
    assert_eq!(books.take(delta), Err(OutOfOrder));
    assert!(books.plan(at(0)).is_empty());
    assert_eq!(books.completeness(), Completeness::Unknown);
    // The watch broke off: what was staged does not count.
    books.watch_begins();
    books.take(Step::SnapshotEnd(of(vec![holding(2, 1, 4, &[(7, 7)], 9_000)], Vec::new()))).unwrap();
    let closing = settle(&mut books, &mut kernel, at(0));
    assert_eq!(closing, [Element { address: address(1), door: door(1, 1) }]);
    assert_eq!(kernel.listed(), [(Element { address: address(4), door: door(7, 7) }, at(9_000))]);
    assert_eq!(books.completeness(), Completeness::Whole);
    // Nor is there a change in the midst of a later snapshot.
    books.take(Step::Snapshot(Told::default())).unwrap();
    assert_eq!(books.take(Step::Delta(Told::default())), Err(OutOfOrder));
}

#[test]
fn a_snapshot_takes_back_what_ended_meanwhile() {
    let mut kernel = Kernel::default();
    let mut books = Books::new(LIMITS);
    let two = vec![holding(1, 1, 1, &[(5, 5)], 9_000), holding(2, 1, 2, &[(5, 5)], 9_000)];
    books.take(Step::Snapshot(of(two, Vec::new()))).unwrap();
    books.take(Step::Snapshot(of(Vec::new(), vec![Removal { id: GrantId(1), generation: 1 }]))).unwrap();
    books.take(Step::SnapshotEnd(Told::default())).unwrap();
    settle(&mut books, &mut kernel, at(0));
    assert_eq!(kernel.listed(), [(Element { address: address(2), door: door(5, 5) }, at(9_000))]);
}

#[test]
fn connections_stay_where_another_grant_allows_them() {
    let mut kernel = Kernel::default();
    let both = vec![holding(1, 1, 1, &[(10, 20)], 9_000), holding(2, 1, 1, &[(15, 30)], 5_000)];
    let mut books = began(LIMITS, both, &mut kernel);
    let removals = vec![Removal { id: GrantId(1), generation: 1 }];
    books.take(Step::Delta(of(Vec::new(), removals))).unwrap();
    let closing = settle(&mut books, &mut kernel, at(0));
    assert_eq!(closing, [Element { address: address(1), door: door(10, 14) }]);
    assert_eq!(kernel.listed(), [(Element { address: address(1), door: door(15, 30) }, at(5_000))]);
}

#[test]
fn what_ends_by_itself_is_closed_too() {
    let mut kernel = Kernel::default();
    let mut books = began(LIMITS, vec![holding(1, 1, 1, &[(10, 10)], 1_000)], &mut kernel);
    kernel.expire(at(1_000));
    books.touch_ended(at(999));
    assert_eq!(settle(&mut books, &mut kernel, at(999)), []);
    books.touch_ended(at(1_000));
    assert_eq!(
        settle(&mut books, &mut kernel, at(1_000)),
        [Element { address: address(1), door: door(10, 10) }]
    );
    assert_eq!(books.elements(), 0);
    // The same where a listing is the first to notice.
    books.take(Step::SnapshotEnd(of(vec![holding(2, 1, 1, &[(20, 20)], 2_000)], Vec::new()))).unwrap();
    settle(&mut books, &mut kernel, at(1_500));
    kernel.expire(at(2_000));
    books.found(kernel.listed(), Duration::ZERO);
    assert_eq!(
        settle(&mut books, &mut kernel, at(2_000)),
        [Element { address: address(1), door: door(20, 20) }]
    );
}

#[test]
fn an_older_generation_neither_ends_nor_changes_a_newer_one() {
    let mut kernel = Kernel::default();
    let mut books = began(LIMITS, vec![holding(1, 5, 1, &[(10, 10)], 90_000)], &mut kernel);
    let removals = vec![Removal { id: GrantId(1), generation: 4 }];
    books.take(Step::Delta(of(vec![holding(1, 4, 1, &[(11, 11)], 90_000)], removals))).unwrap();
    settle(&mut books, &mut kernel, at(0));
    assert_eq!(kernel.listed(), [(Element { address: address(1), door: door(10, 10) }, at(90_000))]);
}

#[test]
fn a_full_set_takes_what_it_can_and_says_so() {
    let limits = Limits { elements_max: 2, ..LIMITS };
    let mut kernel = Kernel::default();
    let three = vec![
        holding(1, 1, 1, &[(1, 1)], 90_000),
        holding(2, 1, 2, &[(2, 2)], 90_000),
        holding(4, 1, 4, &[(4, 4)], 90_000),
        // The other family has a set of its own.
        holding(3, 1, 3, &[(3, 3)], 90_000),
    ];
    let mut books = began(limits, three, &mut kernel);
    assert_eq!((books.elements(), kernel.0.len()), (3, 3));
    assert_eq!(books.completeness(), Completeness::NoRoom { addresses: 1 });
    let removals = vec![Removal { id: GrantId(1), generation: 1 }];
    books.take(Step::Delta(of(Vec::new(), removals))).unwrap();
    settle(&mut books, &mut kernel, at(0));
    assert_eq!(books.completeness(), Completeness::Whole);
    assert!(kernel.opens(address(4), Protocol::Tcp, 4).is_some());
    // Who is in is renewed also when the set is full.
    let renewed = vec![holding(4, 2, 4, &[(4, 4)], 180_000)];
    books.take(Step::Delta(of(renewed, Vec::new()))).unwrap();
    settle(&mut books, &mut kernel, at(0));
    assert_eq!(books.completeness(), Completeness::Whole);
    assert_eq!(kernel.opens(address(4), Protocol::Tcp, 4), Some(at(180_000)));
}

#[test]
fn grants_beyond_the_bound_are_asked_for_again_when_there_is_room() {
    let limits = Limits { grants_max: 10, ..LIMITS };
    let mut kernel = Kernel::default();
    let eleven = (0..11).map(|id| holding(id, 1, 1, &[(1, 1)], 90_000)).collect();
    let mut books = began(limits, eleven, &mut kernel);
    assert_eq!((books.grants(), books.completeness()), (10, Completeness::GrantsLost));
    assert!(!books.has_places_again());
    let removals = (0..2).map(|id| Removal { id: GrantId(id), generation: 1 }).collect();
    books.take(Step::Delta(of(Vec::new(), removals))).unwrap();
    assert!(books.has_places_again());
    books.take(Step::SnapshotEnd(of(vec![holding(10, 1, 1, &[(1, 1)], 90_000)], Vec::new()))).unwrap();
    assert_eq!(books.completeness(), Completeness::Whole);
}

#[test]
fn a_big_change_is_made_in_parts() {
    let mut kernel = Kernel::default();
    let limits = Limits { grants_max: 20_000, elements_max: 20_000 };
    let mut books = Books::new(limits);
    let many = (0..10_000u64).map(|id| Holding {
        address: Ipv4Addr::from_bits(0x0a00_0000 + id as u32).into(),
        ..holding(id, 1, 1, &[(1, 1)], 90_000)
    });
    books.take(Step::SnapshotEnd(of(many.collect(), Vec::new()))).unwrap();
    let change = books.plan(at(0));
    assert_eq!(change.new.len(), CHANGE_ELEMENTS_MAX);
    kernel.apply(&change);
    books.done(change);
    settle(&mut books, &mut kernel, at(0));
    assert_eq!((kernel.0.len(), books.elements()), (10_000, 10_000));
}

/// What happens in a history.
#[derive(Clone, Debug)]
enum Event {
    Upsert(Holding),
    Remove {
        id: u64,
        generation: u64,
    },
    /// The gateway lost track, or we did: everything is told again.
    Snapshot,
    Passes {
        ms: u64,
    },
    /// Somebody empties the sets, or puts a stranger in.
    Flush,
    Stranger {
        n: u8,
        port: u32,
        ms: Option<u64>,
    },
    /// The agent starts anew, and knows only what the kernel tells it.
    Restart,
}

fn any_event() -> impl Strategy<Value = Event> {
    let ports = proptest::collection::vec((1u32..20, 0u32..6), 0..3);
    let grant = (0u64..8, 1u64..6, 1u8..6, ports, 1u64..60_000);
    prop_oneof![
        6 => grant.prop_map(|(id, generation, n, ports, until)| {
            let doors: Vec<_> = ports.into_iter().map(|(first, more)| (first, first + more)).collect();
            Event::Upsert(holding(id, generation, n, &doors, until))
        }),
        3 => (0u64..8, 1u64..6).prop_map(|(id, generation)| Event::Remove { id, generation }),
        1 => Just(Event::Snapshot),
        2 => (1u64..10_000).prop_map(|ms| Event::Passes { ms }),
        1 => Just(Event::Flush),
        1 => (1u8..6, 30u32..33, proptest::option::of(1u64..5_000))
            .prop_map(|(n, port, ms)| Event::Stranger { n, port, ms }),
        1 => Just(Event::Restart),
    ]
}

/// The naive reference: all grants as they were told, looked through for each port.
#[derive(Debug, Default)]
struct Reference(BTreeMap<u64, Holding>);

impl Reference {
    fn opens(&self, address: IpAddr, port: u16, now: WallTime) -> Option<WallTime> {
        let living = self.0.values().filter(|one| one.address == address && now < one.until);
        let covers = |one: &&Holding| {
            one.doors.iter().any(|door| (door.ports.first()..=door.ports.last()).contains(&port))
        };
        living.filter(covers).map(|one| one.until).max()
    }

    fn ports(&self, now: WallTime) -> BTreeSet<(IpAddr, u16)> {
        let all = (1u8..6).flat_map(|n| (1u16..40).map(move |port| (address(n), port)));
        all.filter(|(address, port)| self.opens(*address, *port, now).is_some()).collect()
    }
}

proptest! {
    #[test]
    fn any_history_ends_with_what_was_granted(events in proptest::collection::vec(any_event(), 1..60)) {
        let (mut kernel, mut reference) = (Kernel::default(), Reference::default());
        let mut books = began(LIMITS, Vec::new(), &mut kernel);
        let (mut now, mut open) = (at(0), BTreeSet::new());
        for event in events {
            let all = |reference: &Reference| Step::SnapshotEnd(of(reference.0.values().cloned().collect(), Vec::new()));
            let mut forgotten = false;
            match event {
                Event::Upsert(holding) => {
                    let known = reference.0.get(&holding.id.0);
                    if known.is_none_or(|known| known.generation <= holding.generation) {
                        reference.0.insert(holding.id.0, holding.clone());
                    }
                    books.take(Step::Delta(of(vec![holding], Vec::new()))).unwrap();
                }
                Event::Remove { id, generation } => {
                    if reference.0.get(&id).is_some_and(|known| known.generation <= generation) {
                        reference.0.remove(&id);
                    }
                    let removals = vec![Removal { id: GrantId(id), generation }];
                    books.take(Step::Delta(of(Vec::new(), removals))).unwrap();
                }
                Event::Snapshot => books.take(all(&reference)).unwrap(),
                Event::Passes { ms } => {
                    now = at(now.as_millis() + ms);
                    kernel.expire(now);
                    books.touch_ended(now);
                }
                Event::Flush => {
                    kernel.0.clear();
                    books.found(Vec::new(), Duration::ZERO);
                }
                Event::Stranger { n, port, ms } => {
                    let until = ms.map_or(at(u64::MAX), |ms| at(now.as_millis() + ms));
                    kernel.0.insert(Element { address: address(n), door: door(port, port) }, until);
                    books.found(kernel.listed(), Duration::ZERO);
                }
                Event::Restart => {
                    forgotten = true;
                    books = Books::new(LIMITS);
                    books.found(kernel.listed(), Duration::ZERO);
                    books.take(all(&reference)).unwrap();
                }
            }
            let closing = settle(&mut books, &mut kernel, now);
            for n in 1u8..6 {
                for port in 1u16..40 {
                    let granted = reference.opens(address(n), port, now);
                    let held = kernel.opens(address(n), Protocol::Tcp, port);
                    let end = |time: WallTime| time.as_millis();
                    let near = match (granted, held) {
                        (Some(granted), Some(held)) => end(granted).abs_diff(end(held)) <= 2_000,
                        (None, None) => true,
                        (Some(granted), None) => end(granted) <= end(now) + 2_000,
                        (None, Some(_)) => false,
                    };
                    prop_assert!(near, "{} {port}: granted {granted:?}, held {held:?}", address(n));
                }
            }
            // What was open and is not any more is closed, once, and nothing that is open.
            let still = reference.ports(now);
            let closed: BTreeSet<(IpAddr, u16)> = closing
                .iter()
                .flat_map(|one| (one.door.ports.first()..=one.door.ports.last()).map(|port| (one.address, port)))
                .collect();
            prop_assert!(closed.is_disjoint(&still));
            if !forgotten {
                let ended: BTreeSet<_> = open.difference(&still).copied().collect();
                prop_assert!(ended.is_subset(&closed), "{ended:?} are not all in {closed:?}");
            }
            open = still;
        }
    }
}
