//! Leases against a naive reference, which keeps a log of everything that ever happened on an address and reads its answers
//! out of that: calls that are heard and recorded in any order, twice or not at all, renewals and releases that come late,
//! revocations, time that passes, and restarts.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use proptest::prelude::*;

use super::{
    world::{Heard, LIFETIMES, Ledger},
    *,
};

const SHARED: &str = "10.0.9.0/24";
const APPS: [&str; 2] = ["order", "pay"];
/// How long a gateway keeps a call.
const CALL_WITHIN: Duration = Duration::from_secs(600);

/// What happens next. Numbers pick from what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The pod on an address ends without a word, and another one starts.
    Boot {
        at: usize,
        renews: bool,
    },
    /// The pod on an address sends a call.
    Ask {
        at: usize,
        app: usize,
    },
    /// The gateway reads one of the calls on their way, and it may come once more.
    Hear {
        call: usize,
        again: bool,
    },
    /// The writer comes to one of the calls that were read, and may come to it once more.
    Record {
        call: usize,
        again: bool,
    },
    /// A renewal or a release of some grant that was ever told comes in.
    Renew(usize),
    Release(usize),
    /// The operator takes one back.
    Revoke(usize),
    Pass(Duration),
    Expire,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let one = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 16));
    prop_oneof![
        2 => (one(), any::<bool>()).prop_map(|(at, renews)| Step::Boot { at, renews }),
        5 => (one(), one()).prop_map(|(at, app)| Step::Ask { at, app }),
        5 => (one(), prop::bool::weighted(0.2)).prop_map(|(call, again)| Step::Hear { call, again }),
        5 => (one(), prop::bool::weighted(0.2)).prop_map(|(call, again)| Step::Record { call, again }),
        2 => one().prop_map(Step::Renew),
        2 => one().prop_map(Step::Release),
        1 => one().prop_map(Step::Revoke),
        2 => prop_oneof![0u64..30_000, Just(130_000), Just(4_000_000)].prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
        1 => Just(Step::Expire),
        1 => Just(Step::Restart),
    ]
}

/// A pod, by address and by when it started: the later one is the one that lives.
#[derive(Clone, Debug)]
struct Pod {
    address: IpAddr,
    born: usize,
    tenure: Tenure,
}

impl Pod {
    fn uid(&self) -> String {
        format!("{}-{}", self.address, self.born)
    }
}

/// What happened on an address.
#[derive(Clone, Debug)]
struct Event {
    address: IpAddr,
    uid: String,
    at: WallTime,
    /// When the gateway learned of it.
    noted: WallTime,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Took,
    Ended,
}

#[derive(Clone, Debug)]
struct Right {
    id: GrantId,
    address: IpAddr,
    uid: String,
    app: &'static str,
    tenure: Tenure,
    until: WallTime,
}

/// The reference.
#[derive(Debug, Default)]
struct Naive {
    log: Vec<Event>,
    rights: Vec<Right>,
    quarantine: Duration,
}

impl Naive {
    fn is_shared(address: IpAddr) -> bool {
        SHARED.parse::<ipnet::IpNet>().unwrap().contains(&address)
    }

    /// What concerns a uid on an address, with its place in the log.
    fn concerning(&self, address: IpAddr, uid: &str) -> impl DoubleEndedIterator<Item = (usize, &Event)> {
        let alone = Self::is_shared(address).then(|| uid.to_owned());
        let here = self.log.iter().enumerate().filter(move |(_, event)| event.address == address);
        here.filter(move |(_, event)| alone.as_ref().is_none_or(|uid| event.uid == *uid))
    }

    fn grants(&self, call: &Heard, heard_at: usize, now: WallTime) -> bool {
        let Heard { address, uid, .. } = call;
        let since: Vec<&Event> = self
            .concerning(*address, uid)
            .filter(|(at, _)| *at >= heard_at)
            .map(|(_, event)| event)
            .collect();
        let only_i_took = matches!(&since[..], [] | [Event { what: What::Took, .. }])
            && since.iter().all(|event| event.uid == *uid);
        let superseded = self.remembers(*address, uid, now);
        let last = self.concerning(*address, uid).next_back().map(|(_, event)| event);
        let rests = last.is_some_and(|last| {
            let is_left = !self.holds(*address, uid, last.at);
            last.what == What::Ended && last.uid != *uid && is_left && now < last.at.plus(self.quarantine)
        });
        only_i_took && !superseded && !rests
    }

    /// Whether the address was taken from a uid, so lately and so few times since that it is remembered.
    fn remembers(&self, address: IpAddr, uid: &str, now: WallTime) -> bool {
        let events: Vec<&Event> = self.concerning(address, uid).map(|(_, event)| event).collect();
        let Some(mine) = events.iter().rposition(|event| event.uid == uid) else { return false };
        let since: BTreeSet<&str> = events[mine + 1..].iter().map(|event| &*event.uid).collect();
        let Some(taken) = events.get(mine + 1) else { return false };
        // Who had left long before is not known any more.
        let is_known = events[mine].what == What::Took || taken.at < events[mine].noted.plus(REMEMBERED_FOR);
        is_known && since.len() <= FORMER_MAX && now < taken.at.plus(REMEMBERED_FOR)
    }

    /// Whether anybody holds the seat of this uid.
    fn holds(&self, address: IpAddr, uid: &str, now: WallTime) -> bool {
        self.rights.iter().any(|right| {
            right.address == address && now < right.until && (!Self::is_shared(address) || right.uid == uid)
        })
    }

    fn granted(&mut self, call: &Heard, id: GrantId, now: WallTime) {
        let Heard { address, uid, app, tenure, .. } = call;
        let holder = self.concerning(*address, uid).next_back().map(|(_, event)| event.uid.clone());
        if holder.as_ref() != Some(uid) || !self.holds(*address, uid, now) {
            self.log.push(Event {
                address: *address,
                uid: uid.clone(),
                at: now,
                noted: now,
                what: What::Took,
            });
            // Those that are over go without a word.
            self.rights.retain(|right| {
                right.address != *address
                    || (Self::is_shared(*address) && right.uid != *uid)
                    || (right.uid == *uid && now < right.until)
            });
        }
        let held = self.rights.iter_mut().find(|right| right.id == id);
        let until = |tenure: Tenure| tenure.end(LIFETIMES, now);
        match held {
            Some(held) => {
                let before = held.until;
                held.tenure = held.tenure.with(*tenure);
                held.until = match held.tenure {
                    Tenure::Fixed => until(Tenure::Fixed).max(before),
                    Tenure::Renewed => until(Tenure::Renewed),
                };
            }
            None => self.rights.push(Right {
                id,
                address: *address,
                uid: uid.clone(),
                app,
                tenure: *tenure,
                until: until(*tenure),
            }),
        }
    }

    fn end(&mut self, at: usize, now: WallTime) {
        let Right { address, uid, until, .. } = self.rights.remove(at);
        self.log.push(Event { address, uid, at: now.min(until), noted: now, what: What::Ended });
    }

    fn expire(&mut self, now: WallTime) {
        let over = self.rights.iter().filter(|right| right.until <= now);
        let mut over: Vec<GrantId> = over.map(|right| right.id).collect();
        over.sort();
        for id in over {
            if let Some(at) = self.rights.iter().position(|right| right.id == id) {
                self.end(at, now);
            }
        }
    }

    fn rights(&self, address: IpAddr, now: WallTime) -> Vec<(String, String)> {
        let here = self.rights.iter().filter(|right| right.address == address && now < right.until);
        let mut rights: Vec<_> = here.map(|right| (right.uid.clone(), right.app.to_owned())).collect();
        rights.sort();
        rights
    }
}

/// All of it together.
struct Course {
    now: WallTime,
    ledger: Ledger,
    naive: Naive,
    addresses: Vec<IpAddr>,
    pods: Vec<Pod>,
    born: usize,
    on_their_way: Vec<(Pod, usize)>,
    heard: Vec<(Pod, Heard, usize, WallTime)>,
    told: Vec<(GrantId, String)>,
    /// The latest pod of each address that was ever granted anything.
    known: Vec<(IpAddr, usize)>,
}

impl Course {
    fn new(quarantine: Duration) -> Self {
        let addresses: Vec<IpAddr> =
            ["10.0.0.1", "10.0.0.2", "10.0.9.1"].map(|text| text.parse().unwrap()).into();
        let ledger = Ledger::new(SharedAddresses::new([SHARED.parse().unwrap()]), quarantine);
        let mut course = Self {
            now: WallTime::from_millis(1_000_000),
            ledger,
            naive: Naive { quarantine, ..Naive::default() },
            addresses: addresses.clone(),
            pods: Vec::new(),
            born: 0,
            on_their_way: Vec::new(),
            heard: Vec::new(),
            told: Vec::new(),
            known: Vec::new(),
        };
        for at in 0..addresses.len() {
            course.boot(at, at % 2 == 0);
        }
        // The shared address has three pods at once.
        for _ in 0..2 {
            course.pods.push(Pod { address: addresses[2], born: course.born, tenure: Tenure::Fixed });
            course.born += 1;
        }
        course
    }

    fn boot(&mut self, at: usize, renews: bool) {
        let address = self.addresses[at % self.addresses.len()];
        if let Some(gone) = self.pods.iter().position(|pod| pod.address == address) {
            self.pods.remove(gone);
        }
        let tenure = if renews { Tenure::Renewed } else { Tenure::Fixed };
        self.pods.push(Pod { address, born: self.born, tenure });
        self.born += 1;
    }

    fn lives(&self, pod: &Pod) -> bool {
        self.pods.iter().any(|other| other.born == pod.born)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Boot { at, renews } => self.boot(at, renews),
            Step::Ask { at, app } => {
                let pod = self.pods[at % self.pods.len()].clone();
                self.on_their_way.push((pod, app));
            }
            Step::Hear { call, again } if !self.on_their_way.is_empty() => {
                let call = call % self.on_their_way.len();
                let (pod, app) = self.on_their_way[call].clone();
                if !again {
                    self.on_their_way.remove(call);
                }
                // The connection of a pod that is gone ends at whoever has its address now. Should a call of it come through
                // all the same, the gateway has to know the uid: whose first call comes last is nobody's to tell.
                let answered = self.now.plus(CALL_WITHIN);
                if self.lives(&pod) || self.naive.remembers(pod.address, &pod.uid(), answered) {
                    let app = APPS[app % APPS.len()];
                    let heard = self.ledger.hear(pod.address, &pod.uid(), app, pod.tenure);
                    self.heard.push((pod, heard, self.naive.log.len(), self.now));
                }
            }
            Step::Record { call, again } if !self.heard.is_empty() => {
                let call = call % self.heard.len();
                let (pod, heard, heard_at, _) = self.heard[call].clone();
                if !again {
                    self.heard.remove(call);
                }
                self.record(&pod, &heard, heard_at);
            }
            Step::Renew(which) if !self.told.is_empty() => {
                let (id, uid) = self.told[which % self.told.len()].clone();
                self.ledger.renew(id, &uid, self.now);
                let now = self.now;
                if let Some(right) =
                    self.naive.rights.iter_mut().find(|right| right.id == id && now < right.until)
                {
                    (right.tenure, right.until) = (Tenure::Renewed, Tenure::Renewed.end(LIFETIMES, now));
                }
            }
            Step::Release(which) | Step::Revoke(which) if !self.told.is_empty() => {
                let (id, uid) = self.told[which % self.told.len()].clone();
                let ended = self.ledger.release(id, &uid, self.now);
                let right = self.naive.rights.iter().position(|right| right.id == id);
                assert_eq!(ended, right.is_some(), "the end of {id}");
                if let Some(right) = right {
                    self.naive.end(right, self.now);
                }
            }
            Step::Pass(time) => {
                self.now = self.now.plus(time);
                let now = self.now;
                self.heard.retain(|(.., at)| now.since(*at) < CALL_WITHIN);
            }
            Step::Expire => {
                self.ledger.expire(self.now);
                self.naive.expire(self.now);
            }
            Step::Restart => self.heard.clear(),
            Step::Hear { .. } | Step::Record { .. } | Step::Renew(_) | Step::Release(_) | Step::Revoke(_) => {
            }
        }
    }

    fn record(&mut self, pod: &Pod, heard: &Heard, heard_at: usize) {
        let expected = self.naive.grants(heard, heard_at, self.now);
        let recorded = self.ledger.record(heard, self.now);
        assert_eq!(recorded.is_ok(), expected, "{heard:?}: {recorded:?}");
        if let Ok(grant) = recorded {
            self.naive.granted(heard, grant.id, self.now);
            self.told.push((grant.id, pod.uid()));
            self.known.push((pod.address, pod.born));
        }
    }

    fn look(&self) {
        for address in &self.addresses {
            let rights = self.ledger.rights(*address, self.now);
            assert_eq!(rights, self.naive.rights(*address, self.now), "on {address}");
            let known = self.known.iter().filter(|(at, _)| at == address).map(|(_, born)| *born).max();
            if let Some(born) = known.filter(|_| !Naive::is_shared(*address)) {
                let uid = Pod { address: *address, born, tenure: Tenure::Fixed }.uid();
                assert!(
                    rights.iter().all(|(holder, _)| *holder == uid),
                    "{address} is {uid}'s, not {rights:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_address_has_a_right_that_it_should_not_have_and_none_lacks_one(
        rests in prop_oneof![Just(0u64), Just(15_000)],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut course = Course::new(Duration::from_millis(rests));
        for step in steps {
            course.take(step);
            course.look();
        }
    }
}
