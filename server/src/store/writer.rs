//! The one thread that writes: it gathers what is queued, commits it as a group, and answers only then.

mod leases;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
};

use podgate_engine::{grant::GrantId, lease::Seat, shared::Shared, time::WallTime};
use rustc_hash::FxHashMap;
use tracing::{error, info};

use crate::{
    clock,
    store::{
        StoreError,
        command::{Answer, Command, Ending, Frontier},
        database::{self, Database, Kept, Kind, Leases},
        desk,
        fault::{self, Stage},
        group::Group,
        index::GrantIndex,
        journal::Journal,
        occupancy,
        rules::Rules,
        tombstone::Tombstones,
    },
};

/// Most commands of one commit.
const GROUP_MAX: usize = 1_024;
/// Commits begin at least so far apart, and what comes meanwhile goes with the next. Calls that are parked are admitted one by
/// one, and would each have a commit of its own.
const COMMIT_EVERY_NS: i64 = 2_000_000;
/// Most grants that one command ends.
pub const ENDED_MAX: u32 = 100_000;
#[derive(Debug)]
pub(crate) struct Writer {
    database: Database,
    index: Arc<GrantIndex>,
    pub(crate) journal: Arc<Journal>,
    /// The number of the next grant, or of the next end of one.
    next_grant: GrantId,
    rules: Rules,
    /// What the living grants have in common.
    shared: Shared,
    /// Seats of which something is remembered, by when it may be forgotten. One that has changed since stands here again,
    /// under a later number.
    remembered: VecDeque<(WallTime, Seat, u64)>,
    /// Where ends are remembered until they are acknowledged, if somebody must hear of them.
    tombstones: Option<Arc<Tombstones>>,
    /// The documents as they are durable.
    documents: FxHashMap<(Kind, String), Vec<u8>>,
    /// How far each app's slots may be told, as it is durable: at most an entry for each app that was ever asked for.
    frontiers: FxHashMap<Arc<str>, i64>,
    /// What failed groups may have left in the file all the same; set right with the next group.
    doubtful: Doubtful,
    /// Whether the last group failed: a line in the log for each would drown the rest.
    is_failing: Arc<AtomicBool>,
}

/// What a failed commit touched. Its flush may have failed after the new state had reached the file.
#[derive(Debug, Default)]
struct Doubtful {
    grants: BTreeSet<GrantId>,
    occupancies: BTreeMap<u64, Seat>,
    documents: BTreeSet<(Kind, String)>,
}

impl Writer {
    pub(crate) fn new(database: Database, leases: Leases, kept: &Kept, rules: Rules) -> Self {
        let Leases { grants, occupancies, shared } = leases;
        let remembered = occupancies.iter();
        let remembered = remembered
            .map(|(seat, occupancy)| (occupancy.kept_until, seat.clone(), occupancy.generation))
            .collect();
        let index = Arc::new(GrantIndex::new(grants, occupancies));
        let documents = kept.documents.iter();
        let documents = documents.map(|(kind, name, bytes)| ((*kind, name.clone()), bytes.clone())).collect();
        let next_grant = kept.next_grant;
        let offset_ns = kept.desk.clock_offset_ns;
        let frontiers = kept.desk.frontiers.iter();
        let frontiers = frontiers
            .map(|kept| (Arc::clone(&kept.app), kept.frontier.offset(offset_ns).as_nanos()))
            .collect();
        Self {
            database,
            index,
            journal: Arc::default(),
            next_grant,
            rules,
            shared,
            remembered,
            tombstones: None,
            documents,
            frontiers,
            doubtful: Doubtful::default(),
            is_failing: Arc::default(),
        }
    }

    /// Remembers the ends of grants in these.
    pub(crate) fn remembering(self, tombstones: Arc<Tombstones>) -> Self {
        Self { tombstones: Some(tombstones), ..self }
    }

    /// The living grants, as others may see them.
    pub(crate) fn index(&self) -> Arc<GrantIndex> {
        Arc::clone(&self.index)
    }

    /// Whether the last group of writes failed, as others may see it.
    pub(crate) fn is_failing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_failing)
    }

    /// The file that it writes.
    pub(crate) fn file(&self) -> &Path {
        self.database.name()
    }

    /// Works until nobody can send any more.
    pub(crate) fn run(mut self, queue: &Receiver<Command>) {
        let commit_seconds = metrics::histogram!("podgate_store_commit_seconds");
        let group_commands = metrics::histogram!("podgate_store_group_commands");
        let mut next_at = clock::now();
        while let Ok(first) = queue.recv() {
            std::thread::sleep(next_at.since(clock::now()));
            let mut group = Group::default();
            let wall = clock::wall();
            self.take(&mut group, first, wall);
            while group.commands() < GROUP_MAX {
                match queue.try_recv() {
                    Ok(command) => self.take(&mut group, command, wall),
                    Err(_) => break,
                }
            }
            let grants_changed = group.changes.len();
            fault::pass(Stage::Gathered, grants_changed);
            group_commands.record(group.commands() as f64);
            let began = clock::now();
            if !group.is_empty() {
                next_at = began.offset(COMMIT_EVERY_NS);
            }
            let committed = self.commit(&group);
            commit_seconds.record(clock::now().since(began).as_secs_f64());
            match committed {
                Ok(()) => {
                    fault::pass(Stage::Committed, grants_changed);
                    if self.is_failing.swap(false, Ordering::Relaxed) {
                        info!("the store writes again");
                    }
                    self.settle(&mut group);
                    let forgotten = group.forgotten.into_iter().map(|(seat, _)| (seat, None));
                    let seats = group.seats.into_iter();
                    let remembered =
                        seats.filter_map(|(seat, now)| Some((seat, Some(Arc::clone(now.change()?.0)))));
                    self.journal.publish(&self.index, group.changes, forgotten.chain(remembered));
                    if let Some(tombstones) = &self.tombstones {
                        tombstones.publish(group.ended, &group.heard);
                    }
                    fault::pass(Stage::Published, grants_changed);
                    group.answers.into_iter().for_each(Answer::send);
                    group.parcels.into_iter().for_each(|(courier, parcel)| courier.send(parcel));
                    fault::pass(Stage::Answered, grants_changed);
                }
                Err(failure) => {
                    metrics::counter!("podgate_store_failures_total").increment(1);
                    self.doubtful.grants.extend(group.changes.keys());
                    self.doubtful.grants.extend(&group.heard);
                    self.doubtful.occupancies.extend(group.numbers());
                    let documents = group.documents.iter().map(|(kind, name, _)| (*kind, name.clone()));
                    self.doubtful.documents.extend(documents);
                    if !self.is_failing.swap(true, Ordering::Relaxed) {
                        error!(error = %failure, "nothing can be written; grants are refused until it can");
                    }
                    let parcels = group.parcels.into_iter().flat_map(|(_, parcel)| parcel);
                    group.answers.into_iter().chain(parcels).for_each(Answer::fail);
                    self.database.close();
                }
            }
        }
    }

    fn take(&mut self, group: &mut Group, command: Command, wall: WallTime) {
        match command {
            Command::Grant(new, reply, courier) => {
                let granted = self.grant(group, *new, wall);
                group.answer(Answer::granted(granted, reply), courier);
            }
            Command::Renew(extension, reply, courier) => {
                let renewed = self.renew(group, *extension, wall);
                group.answer(Answer::granted(renewed, reply), courier);
            }
            Command::Redecide(redecided, reply) => {
                let changed = self.redecide(group, redecided, wall);
                group.answers.push(Answer::Ended(changed, reply));
            }
            Command::End(ending, reply) => {
                let ended = self.wanted(group, &ending, wall);
                for grant in &ended {
                    self.end(group, grant, wall);
                }
                let count = match ending {
                    // What had expired was over before.
                    Ending::Release(_) | Ending::Revoke(_) => {
                        ended.iter().filter(|grant| grant.lives(wall)).count()
                    }
                    Ending::Expire(_) => {
                        self.forget(group, wall);
                        ended.len()
                    }
                };
                group.answers.push(Answer::Ended(count as u32, reply));
            }
            Command::PutDocument(kind, name, bytes, reply) => {
                group.documents.push((kind, name, Some(bytes)));
                group.answers.push(Answer::Written(reply));
            }
            Command::DeleteDocument(kind, name, reply) => {
                group.documents.push((kind, name, None));
                group.answers.push(Answer::Written(reply));
            }
            Command::Forget(heard, reply) => {
                group.heard.extend(heard);
                group.answers.push(Answer::Written(reply));
            }
            Command::Reserve(app, frontier, reply, courier) => {
                self.reserve(group, app, frontier);
                group.answer(Answer::Written(reply), courier);
            }
            Command::PutKeys(keys, reply) => {
                group.keys = Some(keys);
                group.answers.push(Answer::Written(reply));
            }
        }
    }

    /// A frontier only moves on: many calls of one second ask for nearly the same.
    fn reserve(&self, group: &mut Group, app: Arc<str>, frontier: Frontier) {
        if self.frontiers.get(&app).is_none_or(|durable| *durable < frontier.0) {
            let reserved = group.frontiers.entry(app).or_insert(frontier);
            *reserved = (*reserved).max(frontier);
        }
    }

    /// After a commit: nothing is in doubt, and what the group changed is counted.
    fn settle(&mut self, group: &mut Group) {
        self.doubtful = Doubtful::default();
        let changed = group.seats.iter().filter_map(|(seat, now)| Some((seat, now.change()?.0)));
        self.remembered.extend(
            changed.map(|(seat, occupancy)| (occupancy.kept_until, seat.clone(), occupancy.generation)),
        );
        self.frontiers.extend(group.frontiers.drain().map(|(app, (frontier_ns, _))| (app, frontier_ns)));
        for (kind, name, bytes) in group.documents.drain(..) {
            match bytes {
                Some(bytes) => self.documents.insert((kind, name), bytes),
                None => self.documents.remove(&(kind, name)),
            };
        }
    }

    fn commit(&mut self, group: &Group) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let write = self.database.begin()?;
        let index = &self.index;
        let doubtful: Vec<_> = self.doubtful.grants.iter().map(|id| (*id, index.get(*id))).collect();
        let changes = group.changes.iter().map(|(id, change)| (*id, change.as_deref()));
        let changes = doubtful.iter().map(|(id, grant)| (*id, grant.as_deref())).chain(changes);
        database::write_grants(&write, changes, self.next_grant)?;
        let numbers = self.doubtful.occupancies.iter();
        let doubtful: Vec<_> = numbers.map(|(number, seat)| (*number, seat, index.occupancy(seat))).collect();
        let doubtful = doubtful.iter().map(|(number, seat, now)| {
            let now = now.as_deref().filter(|now| now.generation == *number);
            (*number, now.map(|now| (*seat, now)))
        });
        occupancy::write(&write, doubtful.chain(group.occupancies()))?;
        if let Some(tombstones) = &self.tombstones {
            tombstones.write(&write, self.doubtful.grants.iter().copied(), &group.ended, &group.heard)?;
        }
        for key in &self.doubtful.documents {
            let bytes = self.documents.get(key).map(Vec::as_slice);
            database::write_document(&write, key.0, &key.1, bytes)?;
        }
        for (kind, name, bytes) in &group.documents {
            database::write_document(&write, *kind, name, bytes.as_deref())?;
        }
        for (app, frontier) in &group.frontiers {
            desk::write_frontier(&write, app, *frontier)?;
        }
        if let Some(keys) = &group.keys {
            desk::write_keys(&write, keys)?;
        }
        fault::pass(Stage::Written, group.changes.len());
        write.commit()?;
        Ok(())
    }
}
