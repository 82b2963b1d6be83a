//! Rounds over a disk that forgets: the store is written to until the power goes, and opened again. Nothing that was
//! acknowledged may be lost, and nothing that was taken back may be there again.
//!
//! `tests/rounds` runs more of them and tells the figures. A round follows from its seed alone, but for how the writer's
//! groups fall.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use podgate_engine::{
    grant::{Grant, GrantId, Place},
    lease::{NewGrant, Occupancy, Refused, SharedAddresses},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Claim, Ending, Kept, Kind, Pending, Store, StoreError, Target,
    database::{Database, Origin},
    forgetful_disk::ForgetfulDisk,
    recovery::Recovery,
    samples,
};

const ROUNDS: u64 = 100;
const SEED: u64 = 20_250_611;

pub(super) fn new_grant(address: IpAddr, uid: &str, request: u64) -> NewGrant {
    NewGrant { request, ..samples::new_grant(address, uid) }
}

/// A write that waits for its answer.
enum Asked {
    Grant(IpAddr, Pending<Arc<Grant>>),
    End(Arc<Grant>, Pending<u32>),
    Document(String, Option<Vec<u8>>, Pending<()>),
    Frontier(String, i64, Pending<()>),
}

/// What must be there after the power is back.
#[derive(Default)]
struct Ledger {
    living: BTreeMap<GrantId, Arc<Grant>>,
    /// Grants that ended, acknowledged; and that one of them is above any that was seen so far.
    gone: BTreeSet<GrantId>,
    highest: u64,
    /// What is remembered of each address.
    remembered: BTreeMap<IpAddr, Arc<Occupancy>>,
    /// Addresses where a write failed: it may have been done all the same, or not.
    doubtful: BTreeSet<IpAddr>,
    /// What each document may be.
    documents: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    frontiers: BTreeMap<String, i64>,
}

#[derive(Debug, Default)]
struct Figures {
    power_failures: u32,
    in_recovery: u32,
    commits_undone: u32,
    granted: u64,
    superseded: u64,
    ended: u64,
    documents: u64,
    frontiers: u64,
    lost: u64,
    resurrected: u64,
}

impl Ledger {
    /// Takes the answers; what was not acknowledged is in doubt.
    fn settle(&mut self, store: &Store, asked: Vec<Asked>, figures: &mut Figures) {
        for one in asked {
            match one {
                Asked::Grant(address, answer) => match answer.blocking_recv() {
                    Ok(Ok(granted)) => {
                        figures.granted += 1;
                        self.highest = self.highest.max(granted.id.0);
                    }
                    Ok(Err(StoreError::NotWritten)) | Err(_) => drop(self.doubtful.insert(address)),
                    // A pod that asks for more while another one takes its address.
                    Ok(Err(StoreError::Refused(Refused::Superseded))) => figures.superseded += 1,
                    Ok(Err(other)) => panic!("{other}"),
                },
                Asked::End(grant, answer) => match answer.blocking_recv() {
                    Ok(Ok(count)) => {
                        figures.ended += u64::from(count);
                        self.gone.insert(grant.id);
                    }
                    Ok(Err(StoreError::NotWritten)) | Err(_) => {
                        self.doubtful.insert(grant.subject.address);
                    }
                    Ok(Err(other)) => panic!("{other}"),
                },
                Asked::Document(name, bytes, answer) => {
                    let may_be = self.documents.entry(name).or_insert_with(|| vec![None]);
                    if matches!(answer.blocking_recv(), Ok(Ok(()))) {
                        figures.documents += 1;
                        may_be.clear();
                    }
                    may_be.push(bytes);
                }
                Asked::Frontier(app, frontier, answer) => {
                    if matches!(answer.blocking_recv(), Ok(Ok(()))) {
                        figures.frontiers += 1;
                        let durable = self.frontiers.entry(app).or_insert(frontier);
                        *durable = frontier.max(*durable);
                    }
                }
            }
        }
        // What is in force was committed; what has left it has ended.
        let in_force: BTreeMap<_, _> =
            store.grants().find(usize::MAX, |_| true).into_iter().map(|grant| (grant.id, grant)).collect();
        self.gone.extend(self.living.keys().filter(|id| !in_force.contains_key(id)));
        self.living = in_force;
        self.remembered = remembered(store);
    }

    /// Compares with what is there, and goes on from that.
    fn compare(&mut self, store: &Store, kept: &Kept, figures: &mut Figures) {
        let there: BTreeMap<_, _> =
            store.grants().find(usize::MAX, |_| true).into_iter().map(|grant| (grant.id, grant)).collect();
        for (id, grant) in &self.living {
            let is_doubtful = self.doubtful.contains(&grant.subject.address);
            let is_kept = match there.get(id) {
                Some(found) if is_doubtful => found.generation >= grant.generation,
                Some(found) => found == grant,
                None => is_doubtful,
            };
            figures.lost += u64::from(!is_kept);
        }
        for (id, grant) in &there {
            let is_new = !self.living.contains_key(id);
            let is_resurrected =
                self.gone.contains(id) || (is_new && !self.doubtful.contains(&grant.subject.address));
            figures.resurrected += u64::from(is_resurrected);
        }
        let now_remembered = remembered(store);
        for address in addresses().filter(|address| !self.doubtful.contains(address)) {
            let (was, is) = (self.remembered.get(&address), now_remembered.get(&address));
            assert_eq!(was, is, "what is remembered of {address}");
        }
        self.remembered = now_remembered;
        assert!(kept.next_grant.0 > self.highest, "{} would be given again", kept.next_grant);
        let documents: BTreeMap<_, _> =
            kept.documents.iter().map(|(_, name, bytes)| (name.clone(), bytes.clone())).collect();
        for (name, may_be) in &mut self.documents {
            let found = documents.get(name).cloned();
            assert!(may_be.contains(&found), "{name} is {found:?}, and not one of {may_be:?}");
            *may_be = vec![found];
        }
        for (app, durable) in &self.frontiers {
            let found = kept.desk.frontiers.iter().find(|frontier| *frontier.app == **app);
            let found = found.map(|found| found.frontier.offset(kept.desk.clock_offset_ns).as_nanos());
            assert!(found >= Some(*durable), "{app}'s frontier is {found:?}, before {durable}");
        }
        self.doubtful.clear();
        self.living = there;
    }
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    (0..64).map(|last| [10, 0, 0, last].into())
}

fn remembered(store: &Store) -> BTreeMap<IpAddr, Arc<Occupancy>> {
    let of = |address| {
        let seat = SharedAddresses::default().seat(Place { cluster: "".into(), address }, "");
        Some((address, store.grants().occupancy(&seat)?))
    };
    addresses().filter_map(of).collect()
}

/// Sends a batch of writes at once, so that they fall into groups.
fn ask(store: &Store, chance: &mut StdRng, now_ns: i64) -> Vec<Asked> {
    let count = chance.random_range(1..40);
    let living = store.grants().find(usize::MAX, |_| true);
    let mut asked = Vec::new();
    for _ in 0..count {
        let name = format!("name-{}", chance.random_range(0..6));
        let one = match chance.random_range(0..10) {
            0..6 => {
                let address = IpAddr::from([10, 0, 0, chance.random_range(0..64)]);
                let uid = format!("uid-{}", chance.random::<u32>());
                let known = living.iter().find(|grant| grant.subject.address == address);
                // Half ask for more of what they have, half are new on the address.
                let uid = match known.filter(|_| chance.random_bool(0.5)) {
                    Some(grant) => grant.subject.kind.uid().to_owned(),
                    None => uid,
                };
                Asked::Grant(address, store.grant(new_grant(address, &uid, chance.random())).unwrap())
            }
            6 | 7 if !living.is_empty() => {
                let grant = Arc::clone(&living[chance.random_range(0..living.len())]);
                let ending = if chance.random_bool(0.5) {
                    Ending::Revoke(Target::Grant(grant.id))
                } else {
                    let uid = grant.subject.kind.uid().to_owned();
                    Ending::Release(Claim { id: grant.id, uid, generation: 0, from: None })
                };
                Asked::End(grant, store.end(ending).unwrap())
            }
            8 => {
                let bytes: Option<Vec<u8>> = chance
                    .random_bool(0.7)
                    .then(|| (0..chance.random_range(0..20_000)).map(|_| chance.random()).collect());
                let pending = match &bytes {
                    Some(bytes) => store.put_document(Kind::Profile, &name, bytes.clone()),
                    None => store.delete_document(Kind::Profile, &name),
                };
                Asked::Document(name, bytes, pending.unwrap())
            }
            _ => {
                let frontier = now_ns + chance.random_range(1_800..3_600) * 1_000_000_000;
                let pending =
                    store.reserve(&name.as_str().into(), frontier, Duration::from_millis(5)).unwrap();
                Asked::Frontier(name, frontier, pending)
            }
        };
        asked.push(one);
    }
    asked
}

fn open(disk: &ForgetfulDisk, figures: &mut Figures) -> (Store, Kept) {
    loop {
        let opened = Database::over(Box::new(disk.clone()), Origin::Kept);
        let opened = opened.and_then(|(database, kept)| {
            figures.commits_undone += u32::from(kept.recovery == Recovery::LastCommitUndone);
            Store::over((database, kept), 10_000)
        });
        match opened {
            Ok(opened) => return opened,
            Err(failure) => {
                assert!(disk.is_off(), "it does not open: {failure}");
                figures.in_recovery += 1;
                disk.restart();
            }
        }
    }
}

fn run(rounds: u64, seed: u64) -> Figures {
    let mut chance = StdRng::seed_from_u64(seed);
    let disk = ForgetfulDisk::new(chance.random());
    disk.make_store();
    let (mut ledger, mut figures) = (Ledger::default(), Figures::default());
    for round in 0..rounds {
        if chance.random_bool(0.3) {
            disk.light_fuse(chance.random_range(1..120));
        }
        let (store, kept) = open(&disk, &mut figures);
        ledger.compare(&store, &kept, &mut figures);
        assert_eq!((figures.lost, figures.resurrected), (0, 0), "round {round} of seed {seed}: {figures:?}");
        if !disk.is_off() {
            disk.light_fuse(chance.random_range(1..400));
        }
        let now_ns = crate::clock::now().offset(kept.desk.clock_offset_ns).as_nanos();
        while !disk.is_off() {
            let asked = ask(&store, &mut chance, now_ns);
            ledger.settle(&store, asked, &mut figures);
        }
        store.close();
        disk.restart();
        figures.power_failures += 1;
    }
    let (store, kept) = open(&disk, &mut figures);
    ledger.compare(&store, &kept, &mut figures);
    store.close();
    figures
}

#[test]
fn what_was_acknowledged_outlives_a_power_cut_and_what_was_taken_back_does_not() {
    let variables = crate::environment::variables();
    let number = |name: &str, default: u64| {
        let given = variables.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.to_str());
        given.map_or(default, |value| value.parse().unwrap())
    };
    let (rounds, seed) = (number("PODGATE_ROUNDS", ROUNDS), number("PODGATE_SEED", SEED));
    let figures = run(rounds, seed);
    println!("{rounds} rounds over a disk that forgets what was not synced, seed {seed}: {figures:?}");
    assert_eq!((figures.lost, figures.resurrected), (0, 0));
    assert!(figures.granted > 0 && figures.ended > 0 && figures.commits_undone > 0, "{figures:?}");
}

/// What a failed sync leaves may be on the disk or not; it is set right with the next group.
#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_lives() {
    let disk = ForgetfulDisk::new(SEED);
    disk.make_store();
    let (store, _) = Store::over(Database::over(Box::new(disk.clone()), Origin::New).unwrap(), 100).unwrap();
    let grant = |last, uid: &str| {
        store.grant(new_grant([10, 0, 0, last].into(), uid, 1)).unwrap().blocking_recv().unwrap()
    };
    let now = crate::clock::now();
    let held = grant(1, "a").unwrap();
    disk.fill();
    for attempt in 0..10 {
        assert!(matches!(grant(2, &attempt.to_string()), Err(StoreError::NotWritten)), "{attempt}");
        assert!(matches!(grant(1, "successor"), Err(StoreError::NotWritten)), "{attempt}");
    }
    let revoked = store.end(Ending::Revoke(Target::Grant(held.id))).unwrap().blocking_recv().unwrap();
    assert!(matches!(revoked, Err(StoreError::NotWritten)));
    // One call in a while finds out whether there is room again; the others are not worth a token.
    assert!(store.ready(now).is_ok());
    assert!(matches!(store.ready(now), Err(StoreError::NotWritten)));
    assert_eq!(store.grants().get(held.id), Some(Arc::clone(&held)));
    assert_eq!(store.grants().len(), 1);
    disk.make_room();
    let next = grant(2, "b").unwrap();
    assert!(store.ready(now).is_ok());
    store.close();
    let (store, _) = Store::over(Database::over(Box::new(disk), Origin::Kept).unwrap(), 100).unwrap();
    assert_eq!(store.grants().find(10, |_| true), [held, next]);
}
