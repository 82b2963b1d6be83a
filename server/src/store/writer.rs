//! The one thread that writes: it gathers what is queued, commits it as a group, and answers only then.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

use podgate_engine::{
    grant::{Grant, GrantId, Place},
    lease::{self, NewGrant},
    time::WallTime,
};
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::{
    clock,
    store::{
        StoreError,
        courier::Courier,
        database::{self, Database, Kept, Kind},
        desk,
        fault::{self, Stage},
        index::{GrantIndex, PlaceRef, place_of},
        journal::Journal,
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
/// Most grants of one address, whatever clusters and apps its callers name.
const ADDRESS_GRANTS_MAX: i64 = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Grant(Box<NewGrant>, Reply<Arc<Grant>>, Option<Courier>),
    End(Ending, Reply<u32>),
    PutDocument(Kind, String, Vec<u8>, Reply<()>),
    DeleteDocument(Kind, String, Reply<()>),
    /// How far an app's slots may be told.
    Reserve(Arc<str>, Frontier, Reply<()>, Option<Courier>),
    /// The keys of tickets.
    PutKeys(Vec<u8>, Reply<()>),
    Forget(Vec<GrantId>, Reply<()>),
}

/// Nanoseconds on the kept clock, and T of the app's bucket.
type Frontier = (i64, Duration);

/// Which grants are to end.
#[derive(Clone, Debug)]
pub enum Ending {
    /// The holder gives it back.
    Release {
        /// The grant.
        id: GrantId,
        /// Uid of its holder; a grant of another is left alone.
        uid: String,
        /// The latest generation that the holder knows; 0: any.
        generation: u64,
        /// The address that the call comes from, where that has to be the grant's.
        from: Option<IpAddr>,
    },
    /// Someone takes it back.
    Revoke(Target),
    /// Its time is over; at most so many at once.
    Expire(usize),
}

/// Whose grants are taken back.
#[derive(Clone, Debug)]
pub enum Target {
    /// This one.
    Grant(GrantId),
    /// All of an app.
    App(String),
    /// All on an address, whatever the cluster.
    Address(IpAddr),
}

#[derive(Debug)]
pub(crate) struct Writer {
    database: Database,
    index: Arc<GrantIndex>,
    /// For whoever follows the index.
    journal: Arc<Journal>,
    next_grant: GrantId,
    grants_max: usize,
    /// Living grants of each address, whatever the cluster that its callers name.
    by_address: FxHashMap<IpAddr, u32>,
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
    documents: BTreeSet<(Kind, String)>,
}

/// What a group changes, before it is committed and in force.
#[derive(Debug, Default)]
struct Group {
    places: FxHashMap<Place, Vec<Arc<Grant>>>,
    changes: BTreeMap<GrantId, Option<Arc<Grant>>>,
    documents: Vec<(Kind, String, Option<Vec<u8>>)>,
    frontiers: FxHashMap<Arc<str>, Frontier>,
    keys: Option<Vec<u8>>,
    /// Grants that it ends, and ends that have been acknowledged.
    ended: Vec<Arc<Grant>>,
    heard: Vec<GrantId>,
    /// By how many grants each address changes, and all together.
    counts: FxHashMap<IpAddr, i64>,
    counted: i64,
    answers: Vec<Answer>,
    parcels: Vec<(Courier, Vec<Answer>)>,
}

impl Group {
    fn commands(&self) -> usize {
        self.answers.len() + self.parcels.iter().map(|(_, answers)| answers.len()).sum::<usize>()
    }

    /// Whether it changes nothing.
    fn is_empty(&self) -> bool {
        let has_desk = !self.frontiers.is_empty() || self.keys.is_some();
        let has_grants = !self.changes.is_empty() || !self.heard.is_empty();
        !has_desk && !has_grants && self.documents.is_empty()
    }

    fn count(&mut self, address: IpAddr, change: i64) {
        *self.counts.entry(address).or_default() += change;
        self.counted += change;
    }

    fn answer(&mut self, answer: Answer, courier: Option<Courier>) {
        match courier {
            None => self.answers.push(answer),
            Some(courier) => match self.parcels.iter_mut().find(|(other, _)| other.same_as(&courier)) {
                Some((_, parcel)) => parcel.push(answer),
                None => self.parcels.push((courier, vec![answer])),
            },
        }
    }
}

#[derive(Debug)]
pub(crate) enum Answer {
    Granted(Arc<Grant>, Reply<Arc<Grant>>),
    Refused(StoreError, Reply<Arc<Grant>>),
    Ended(u32, Reply<u32>),
    Written(Reply<()>),
}

impl Writer {
    pub(crate) fn new(database: Database, index: Arc<GrantIndex>, kept: &Kept, grants_max: usize) -> Self {
        let mut by_address: FxHashMap<IpAddr, u32> = FxHashMap::default();
        for grant in index.find(usize::MAX, |_| true) {
            *by_address.entry(grant.subject.address).or_default() += 1;
        }
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
            grants_max,
            by_address,
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

    /// Where what it commits can be followed.
    pub(crate) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
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
            fault::pass(Stage::Gathered);
            group_commands.record(group.commands() as f64);
            let began = clock::now();
            if !group.is_empty() {
                next_at = began.offset(COMMIT_EVERY_NS);
            }
            let committed = self.commit(&group);
            commit_seconds.record(clock::now().since(began).as_secs_f64());
            match committed {
                Ok(()) => {
                    fault::pass(Stage::Committed);
                    if self.is_failing.swap(false, Ordering::Relaxed) {
                        info!("the store writes again");
                    }
                    self.settle(&mut group);
                    self.journal.publish(&self.index, group.places, group.changes);
                    if let Some(tombstones) = &self.tombstones {
                        tombstones.publish(group.ended, &group.heard);
                    }
                    fault::pass(Stage::Published);
                    group.answers.into_iter().for_each(Answer::send);
                    group.parcels.into_iter().for_each(|(courier, parcel)| courier.send(parcel));
                    fault::pass(Stage::Answered);
                }
                Err(failure) => {
                    metrics::counter!("podgate_store_failures_total").increment(1);
                    self.doubtful.grants.extend(group.changes.keys());
                    self.doubtful.grants.extend(&group.heard);
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
                let place = Place { cluster: new.subject.cluster.clone(), address: new.subject.address };
                let living = self.grants_at(group, &place);
                let placement = lease::place(&living, *new, self.next_grant, wall);
                if placement.grant.id == self.next_grant {
                    // One that takes the place of others needs no further room.
                    if (placement.ended.is_empty() && self.is_full(group, place.address))
                        || self.is_unheard(group)
                    {
                        group.answer(Answer::Refused(StoreError::Full, reply), courier);
                        return;
                    }
                    self.next_grant = GrantId(self.next_grant.0 + 1);
                    group.count(place.address, 1);
                }
                for ended in &placement.ended {
                    group.changes.insert(ended.id, None);
                    group.count(place.address, -1);
                    group.ended.push(Arc::clone(ended));
                }
                let kept = living.into_iter().filter(|grant| {
                    grant.id != placement.grant.id
                        && !placement.ended.iter().any(|ended| ended.id == grant.id)
                });
                let grants = kept.chain([Arc::clone(&placement.grant)]).collect();
                group.places.insert(place, grants);
                group.changes.insert(placement.grant.id, Some(Arc::clone(&placement.grant)));
                group.answer(Answer::Granted(placement.grant, reply), courier);
            }
            Command::End(ending, reply) => {
                let ended = self.wanted(group, &ending, wall);
                for grant in &ended {
                    self.end(group, grant);
                }
                group.ended.extend(ended.iter().cloned());
                let count = match ending {
                    // What had expired was over before.
                    Ending::Release { .. } | Ending::Revoke(_) => {
                        ended.iter().filter(|grant| grant.lives(wall)).count()
                    }
                    Ending::Expire(_) => ended.len(),
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

    /// The grants on an address as this group leaves them so far.
    fn grants_at(&self, group: &Group, place: &Place) -> Vec<Arc<Grant>> {
        match group.places.get(place) {
            Some(grants) => grants.clone(),
            None => {
                let place = PlaceRef { cluster: &place.cluster, address: place.address };
                self.index.at(place).map(|grants| grants.to_vec()).unwrap_or_default()
            }
        }
    }

    fn grant(&self, group: &Group, id: GrantId) -> Option<Arc<Grant>> {
        match group.changes.get(&id) {
            Some(change) => change.clone(),
            None => self.index.get(id),
        }
    }

    /// The grants that `ending` means, as this group leaves them so far.
    fn wanted(&self, group: &Group, ending: &Ending, wall: WallTime) -> Vec<Arc<Grant>> {
        let search = |most: usize, wanted: &dyn Fn(&Grant) -> bool| -> Vec<Arc<Grant>> {
            let known =
                self.index.find(most, |grant| wanted(grant) && !group.changes.contains_key(&grant.id));
            let fresh = group.changes.values().flatten().filter(|grant| wanted(grant)).cloned();
            known.into_iter().chain(fresh).take(most).collect()
        };
        match ending {
            Ending::Release { id, uid, generation, from } => {
                let held = self.grant(group, *id).into_iter();
                held.filter(|grant| {
                    *grant.subject.kind.uid() == **uid
                        && (*generation == 0 || grant.generation <= *generation)
                        && from.is_none_or(|from| from == grant.subject.address)
                })
                .collect()
            }
            Ending::Revoke(Target::Grant(id)) => self.grant(group, *id).into_iter().collect(),
            Ending::Revoke(Target::App(app)) => search(ENDED_MAX as usize, &|grant| *grant.app == **app),
            Ending::Revoke(Target::Address(address)) => {
                search(ENDED_MAX as usize, &|grant| grant.subject.address == *address)
            }
            // One that this group changes is seen to by the next sweep.
            Ending::Expire(most) => {
                let over = self.index.expired(*most, wall).into_iter();
                over.filter(|grant| !group.changes.contains_key(&grant.id)).collect()
            }
        }
    }

    fn end(&self, group: &mut Group, grant: &Grant) {
        let place = place_of(grant);
        let mut grants = self.grants_at(group, &place);
        grants.retain(|other| other.id != grant.id);
        group.count(place.address, -1);
        group.places.insert(place, grants);
        group.changes.insert(grant.id, None);
    }

    /// Whether no further grant can be had, in all or by this address.
    fn is_full(&self, group: &Group, address: IpAddr) -> bool {
        let held = i64::from(self.by_address.get(&address).copied().unwrap_or_default());
        let (here, in_all) = (group.counts.get(&address).copied().unwrap_or_default(), group.counted);
        held + here >= ADDRESS_GRANTS_MAX || self.index.len() as i64 + in_all >= self.grants_max as i64
    }

    /// Whether as many ends wait to be heard of as there may be grants: no more are made until some are.
    fn is_unheard(&self, group: &Group) -> bool {
        let standing = self.tombstones.as_ref().map_or(0, |tombstones| tombstones.len() + group.ended.len());
        standing >= self.grants_max
    }

    /// After a commit: nothing is in doubt, and what the group changed is counted.
    fn settle(&mut self, group: &mut Group) {
        self.doubtful = Doubtful::default();
        for (address, change) in group.counts.drain() {
            let held = self.by_address.entry(address).or_default();
            *held = u32::try_from(i64::from(*held) + change).unwrap_or(0);
            if *held == 0 {
                self.by_address.remove(&address);
            }
        }
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
        fault::pass(Stage::Written);
        write.commit()?;
        Ok(())
    }
}

impl Answer {
    // Whoever waited may have left; what is durable stays so.
    pub(crate) fn send(self) {
        match self {
            Self::Granted(grant, reply) => drop(reply.send(Ok(grant))),
            Self::Refused(refusal, reply) => drop(reply.send(Err(refusal))),
            Self::Ended(count, reply) => drop(reply.send(Ok(count))),
            Self::Written(reply) => drop(reply.send(Ok(()))),
        }
    }

    fn fail(self) {
        match self {
            Self::Granted(_, reply) | Self::Refused(_, reply) => {
                drop(reply.send(Err(StoreError::NotWritten)));
            }
            Self::Ended(_, reply) => drop(reply.send(Err(StoreError::NotWritten))),
            Self::Written(reply) => drop(reply.send(Err(StoreError::NotWritten))),
        }
    }
}
