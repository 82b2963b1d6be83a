//! Addresses that are reused as fast as they can be: 10,000 pods over 500 of them, each message late by chance.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr},
};

use super::{
    world::{Heard, Ledger},
    *,
};

const ADDRESSES: u32 = 500;
const PODS_EACH: u32 = 20;
const SEED: u64 = 0x7061_6464;

#[derive(Clone, Debug)]
enum Event {
    Born(u32, u32),
    /// A call reaches the gateway.
    Heard(u32, u32),
    /// Its turn has come.
    Recorded(u32, u32, Heard),
    Renewed(GrantId, String),
    Released(GrantId, String),
    Swept,
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Default)]
struct Agenda {
    order: BinaryHeap<Reverse<(u64, usize)>>,
    events: Vec<Event>,
}

impl Agenda {
    fn add(&mut self, at_ms: u64, event: Event) {
        self.order.push(Reverse((at_ms, self.events.len())));
        self.events.push(event);
    }
}

fn address(at: u32) -> IpAddr {
    Ipv4Addr::from(0x0a08_0000 + at).into()
}

fn uid(at: u32, pod: u32) -> String {
    format!("{at}-{pod}")
}

#[test]
fn no_address_is_allowed_by_a_dead_pods_grant_once_its_successor_is_known() {
    let mut chance = Chance(SEED);
    let mut agenda = Agenda::default();
    for at in 0..ADDRESSES {
        agenda.add(chance.below(1_000), Event::Born(at, 0));
    }
    agenda.add(5_000, Event::Swept);
    let mut ledger = Ledger::default();
    // The pod that lives on each address, and the latest that was granted anything.
    let mut living = BTreeMap::new();
    let mut known: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut granted, mut refused, mut late) = (0, 0, 0);
    while let Some(Reverse((ms, event))) = agenda.order.pop() {
        let now = WallTime::from_millis(1_000_000 + ms);
        match agenda.events[event].clone() {
            Event::Born(at, pod) => {
                living.insert(at, pod);
                // It asks, and asks again; each of the calls takes its time.
                for call in 0..3 {
                    agenda.add(ms + call * 5_000 + chance.below(8_000), Event::Heard(at, pod));
                }
                if pod + 1 < PODS_EACH {
                    agenda.add(ms + 5_000 + chance.below(40_000), Event::Born(at, pod + 1));
                }
            }
            // The connection of a pod that is gone ends at whoever has its address.
            Event::Heard(at, pod) if living[&at] == pod => {
                let tenure = if pod % 2 == 0 { Tenure::Renewed } else { Tenure::Fixed };
                let heard = ledger.hear(address(at), &uid(at, pod), "order", tenure);
                for _ in 0..=chance.below(2) {
                    agenda.add(ms + chance.below(30_000), Event::Recorded(at, pod, heard.clone()));
                }
            }
            Event::Heard(..) => {}
            Event::Recorded(at, pod, heard) => match ledger.record(&heard, now) {
                Ok(grant) => {
                    granted += 1;
                    late += u32::from(living[&at] != pod);
                    assert!(known.get(&at).is_none_or(|known| *known <= pod), "{at}: {pod} is dead");
                    known.insert(at, pod);
                    for _ in 0..2 {
                        agenda.add(ms + chance.below(60_000), Event::Renewed(grant.id, uid(at, pod)));
                    }
                    agenda.add(ms + chance.below(90_000), Event::Released(grant.id, uid(at, pod)));
                }
                Err(_) => refused += 1,
            },
            Event::Renewed(id, uid) => ledger.renew(id, &uid, now),
            Event::Released(id, uid) => drop(ledger.release(id, &uid, now)),
            Event::Swept => {
                ledger.expire(now);
                if !agenda.order.is_empty() {
                    agenda.add(ms + 5_000, Event::Swept);
                }
            }
        }
        if let Event::Recorded(at, ..) | Event::Heard(at, _) = agenda.events[event]
            && let Some(pod) = known.get(&at)
        {
            let rights = ledger.rights(address(at), now);
            assert!(
                rights.iter().all(|(holder, _)| *holder == uid(at, *pod)),
                "{at} is {pod}'s, not {rights:?}"
            );
        }
    }
    println!("{granted} grants, {late} of them to pods that had ended; {refused} calls came too late");
    assert!(granted > 10_000 && late > 500 && refused > 1_000, "{granted} {late} {refused}");
}
