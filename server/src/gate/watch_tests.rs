//! Watchers over random histories: whatever breaks when, each ends with exactly what it should have.

use std::collections::{BTreeMap, BTreeSet};

use podgate_engine::grant::Terms;
use proptest::prelude::*;

use super::*;
use crate::store::samples;

const NOW: WallTime = WallTime::from_millis(1);
/// What grants of the test may allow, by number.
const PLACES: [&str; 3] = ["db.svc:3306", "cache.svc:6379", "10.9.0.7:80"];

/// Living grants, and how they were at each revision.
struct World {
    index: GrantIndex,
    journal: Journal,
    history: Vec<BTreeMap<GrantId, Arc<Grant>>>,
    next: u64,
}

fn grant(id: GrantId, generation: u64, places: u8) -> Arc<Grant> {
    let places = PLACES.iter().enumerate().filter(|(at, _)| places >> at & 1 == 1);
    Arc::new(samples::grant(id, generation, places.map(|(_, place)| *place)))
}

impl World {
    fn new(changes_max: usize) -> Self {
        let (index, journal) = (GrantIndex::new(BTreeMap::new(), Vec::new()), Journal::default());
        journal.keep(changes_max);
        Self { index, journal, history: vec![BTreeMap::new(); 2], next: 1 }
    }

    fn now(&self) -> &BTreeMap<GrantId, Arc<Grant>> {
        self.history.last().unwrap()
    }

    /// Commits a group: each change makes a grant, changes one, or ends one.
    fn commit(&mut self, group: &[Changing]) {
        let mut changes = BTreeMap::new();
        for changing in group {
            let held = |at: usize| self.now().values().nth(at % self.now().len().max(1)).cloned();
            match *changing {
                Changing::Make(places) => {
                    changes.insert(GrantId(self.next), Some(grant(GrantId(self.next), 1, places)));
                    self.next += 1;
                }
                Changing::Change(at, places) => {
                    if let Some(held) = held(at) {
                        changes.insert(held.id, Some(grant(held.id, held.generation + 1, places)));
                    }
                }
                Changing::End(at) => drop(held(at).map(|held| changes.insert(held.id, None))),
                // Made and ended in one group: nobody is to hear of it.
                Changing::Pass => {
                    changes.insert(GrantId(self.next), None);
                    self.next += 1;
                }
            }
        }
        for (id, change) in &changes {
            let mut state = self.now().clone();
            let before = match change {
                Some(grant) => state.insert(*id, Arc::clone(grant)),
                None => state.remove(id),
            };
            if change.is_some() || before.is_some() {
                self.history.push(state);
            }
        }
        self.journal.publish(&self.index, changes, std::iter::empty());
        assert_eq!(self.journal.head(), Revision(self.history.len() as u64 - 1));
    }

    /// What concerns `guards` as of a revision.
    fn as_of(&self, Revision(at): Revision, guards: &Guards) -> BTreeMap<GrantId, u64> {
        let held = self.history[at as usize].values().filter(|grant| guards.concern(grant));
        held.map(|grant| (grant.id, grant.generation)).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Changing {
    Make(u8),
    Change(usize, u8),
    End(usize),
    Pass,
}

/// What an enforcer has, by what it was told.
#[derive(Debug, Default)]
struct Enforcer {
    held: BTreeMap<GrantId, u64>,
    /// What the snapshot under way has named.
    named: Option<BTreeSet<GrantId>>,
    token: Vec<u8>,
    reached: Revision,
}

impl Enforcer {
    fn hear(&mut self, world: &World, watcher: &Watcher, step: &Step) {
        let revision = watcher.reached();
        assert!(revision >= self.reached, "back from {:?} to {revision:?}", self.reached);
        let is_first = self.named.is_none();
        if step.kind == StepKind::Delta {
            assert!(revision > self.reached, "twice at {revision:?}");
        } else if is_first {
            self.named = Some(BTreeSet::new());
        }
        for removal in &step.removals {
            self.held.remove(&removal.id);
            if let Some(named) = &mut self.named {
                named.remove(&removal.id);
            }
        }
        for grant in &step.upserts {
            assert_eq!(
                world.history[revision.0 as usize].get(&grant.id),
                Some(grant),
                "not as of {revision:?}"
            );
            assert!(watcher.guards().concern(grant));
            self.held.insert(grant.id, grant.generation);
            if let Some(named) = &mut self.named {
                named.insert(grant.id);
            }
        }
        self.reached = revision;
        if step.kind == StepKind::SnapshotEnd {
            let named = self.named.take().unwrap();
            self.held.retain(|id, _| named.contains(id));
        }
        if let Some(token) = watcher.token() {
            assert_eq!(self.held, world.as_of(revision, watcher.guards()));
            self.token = token.to_vec();
        }
    }

    /// Comes back with the token that it has.
    fn resume(&mut self, world: &World, guards: &Guards) -> Watcher {
        self.named = None;
        Watcher { grants_max: 5, ..Watcher::new(guards.clone(), &self.token, &world.journal) }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Commit(Vec<Changing>),
    /// The watcher takes so many steps, and acknowledges some.
    Take(usize),
    /// A step is made and lost with the connection.
    Break,
}

fn changing() -> impl Strategy<Value = Changing> {
    prop_oneof![
        3 => (0u8..8).prop_map(Changing::Make),
        3 => (any::<usize>(), 0u8..8).prop_map(|(at, places)| Changing::Change(at, places)),
        2 => any::<usize>().prop_map(Changing::End),
        1 => Just(Changing::Pass),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop::collection::vec(changing(), 0..20).prop_map(Event::Commit),
        3 => (1usize..4).prop_map(Event::Take),
        1 => Just(Event::Break),
    ]
}

fn guards() -> impl Strategy<Value = Guards> {
    prop_oneof![Just(vec![]), Just(vec!["db.svc:1-65535"]), Just(vec!["*.svc:1-65535", "10.0.0.0/8:80"])]
        .prop_map(|texts| {
            Guards::new(None, texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
        })
}

/// Lets the watcher take what there is; returns whether it is up to date.
fn take(
    world: &World,
    watcher: &mut Watcher,
    enforcer: &mut Enforcer,
    guards: &Guards,
    steps: usize,
) -> bool {
    for _ in 0..steps {
        match watcher.next(&world.index, &world.journal, NOW) {
            Next::Told(step) => {
                enforcer.hear(world, watcher, &step);
                if steps.is_multiple_of(2) && !enforcer.token.is_empty() {
                    watcher.acknowledge(&enforcer.token).unwrap();
                }
            }
            Next::Quiet | Next::StartedAnew => {}
            Next::UpToDate => return true,
            Next::Outrun => *watcher = enforcer.resume(world, guards),
        }
        assert!(watcher.in_force() <= watcher.reached());
    }
    false
}

proptest! {
    #[test]
    fn a_watcher_ends_with_what_it_should_have(
        before in prop::collection::vec(changing(), 0..200),
        events in prop::collection::vec(event(), 1..40),
        guards in guards(),
        changes_max in prop_oneof![Just(10usize), Just(60), Just(CHANGES_MAX)],
    ) {
        let mut world = World::new(changes_max);
        world.commit(&before);
        let mut enforcer = Enforcer::default();
        let mut watcher = enforcer.resume(&world, &guards);
        for event in events {
            match event {
                Event::Commit(group) => world.commit(&group),
                Event::Take(steps) => drop(take(&world, &mut watcher, &mut enforcer, &guards, steps)),
                Event::Break => {
                    drop(watcher.next(&world.index, &world.journal, NOW));
                    watcher = enforcer.resume(&world, &guards);
                }
            }
        }
        while !take(&world, &mut watcher, &mut enforcer, &guards, 2) {}
        prop_assert_eq!(enforcer.reached <= world.journal.head(), true);
        prop_assert_eq!(&enforcer.held, &world.as_of(world.journal.head(), &guards));
        // What does not concern it needs no acknowledgement.
        watcher.acknowledge(&enforcer.token).unwrap();
        prop_assert_eq!(watcher.in_force(), world.journal.head());
    }
}

const CHANGES_MAX: usize = crate::store::journal::CHANGES_MAX;

fn all() -> Guards {
    Guards::new(None, ["*.svc:1-65535", "10.0.0.0/8:80"].map(|text| text.parse().unwrap()))
}

#[test]
fn nothing_is_in_force_before_a_snapshot_is_acknowledged() {
    let mut world = World::new(CHANGES_MAX);
    world.commit(&[Changing::Make(1); 600]);
    let mut enforcer = Enforcer::default();
    let mut watcher = enforcer.resume(&world, &all());
    while !take(&world, &mut watcher, &mut enforcer, &all(), 1) {
        assert_eq!(watcher.in_force(), Revision(0));
    }
    assert_eq!(watcher.reached(), Revision(601));
    watcher.acknowledge(&enforcer.token).unwrap();
    assert_eq!(watcher.in_force(), Revision(601));
    // A change that is told has to be acknowledged as well; one that is not has not.
    world.commit(&[Changing::Make(1)]);
    assert!(!take(&world, &mut watcher, &mut enforcer, &all(), 1));
    assert_eq!(watcher.in_force(), Revision(601));
    world.commit(&[Changing::Make(0)]);
    while !take(&world, &mut watcher, &mut enforcer, &all(), 1) {}
    assert_eq!((watcher.reached(), watcher.in_force()), (Revision(603), Revision(601)));
    watcher.acknowledge(&enforcer.token).unwrap();
    assert_eq!(watcher.in_force(), Revision(603));
}

#[test]
fn tokens_of_others_are_worth_nothing() {
    let mut world = World::new(CHANGES_MAX);
    world.commit(&[Changing::Make(1)]);
    let mut enforcer = Enforcer::default();
    let mut watcher = enforcer.resume(&world, &all());
    while !take(&world, &mut watcher, &mut enforcer, &all(), 1) {}
    let resumes = |guards: Guards, token: &[u8], journal: &Journal| {
        Watcher::new(guards, token, journal).token().is_some()
    };
    assert!(resumes(all(), &enforcer.token, &world.journal));
    assert!(!resumes(Guards::new(None, []), &enforcer.token, &world.journal), "of other guards");
    assert!(!resumes(all(), &enforcer.token, &World::new(1).journal), "of another run");
    assert!(!resumes(all(), &enforcer.token[1..], &world.journal), "cut");
    let ahead = write_token(watcher.scope, Revision(3));
    assert!(!resumes(all(), &ahead, &world.journal), "of the future");
    assert_eq!(watcher.acknowledge(&ahead), Err(NeverSent));
    assert_eq!(watcher.acknowledge(&[]), Err(NeverSent));
}

#[test]
fn steps_are_bounded_by_grants_and_by_destinations() {
    let mut world = World::new(CHANGES_MAX);
    world.commit(&[Changing::Make(7); 1_000]);
    let mut watcher = Watcher::new(all(), &[], &world.journal);
    let mut steps = Vec::new();
    while let Next::Told(step) = watcher.next(&world.index, &world.journal, NOW) {
        steps.push(step.upserts.len());
    }
    assert_eq!(steps, [256, 256, 256, 232]);
    let big = |id: u64| {
        let one = grant(GrantId(id), 1, 7);
        let many = one.allowed.iter().cycle().take(1_500).cloned().collect();
        Arc::new(Grant { terms: Arc::new(Terms { allowed: many, ..(*one.terms).clone() }), ..(*one).clone() })
    };
    let changes = (2_001..2_004).map(|id| (GrantId(id), Some(big(id))));
    world.journal.publish(&world.index, changes, std::iter::empty());
    for _ in 0..3 {
        let Next::Told(step) = watcher.next(&world.index, &world.journal, NOW) else {
            panic!("nothing told")
        };
        assert_eq!((step.kind, step.upserts.len()), (StepKind::Delta, 1));
    }
    assert!(matches!(watcher.next(&world.index, &world.journal, NOW), Next::UpToDate));
}
