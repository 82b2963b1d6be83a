//! The embedded store: living grants, and the documents that came through the API. Acknowledged means durable.

pub mod command;
mod contents;
pub mod courier;
pub mod database;
pub mod desk;
pub mod fault;
pub mod finding;
mod group;
pub mod import;
pub mod index;
pub mod journal;
mod line;
pub mod lot;
mod medium;
mod occupancy;
pub mod offline;
pub mod record;
pub mod recovery;
pub mod rules;
#[cfg(test)]
pub(crate) mod samples;
mod schema;
pub mod tombstone;
pub mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod forgetful_disk;
#[cfg(test)]
mod opening_tests;
#[cfg(test)]
mod transfer_tests;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError},
    },
    time::Duration,
};

use podgate_engine::{
    grant::Grant,
    lease::{NewGrant, Refused},
    ticket::Keys,
    time::{Moment, WallTime},
};
use tokio::sync::oneshot;

pub use self::{
    command::{Claim, Ending, Extension, Redecided, Target},
    courier::Courier,
    database::{Kept, Kind},
    index::{Change, GrantIndex},
    journal::{Journal, Revision},
    lot::Lot,
    rules::Rules,
    tombstone::{Ends, Tombstone, Tombstones},
    writer::ENDED_MAX,
};
use crate::{
    clock,
    store::{command::Command, database::Database, finding::Finding, writer::Writer},
    vital::Vital,
};

/// Commands that wait for the writer; beyond these, callers are told to come again.
const QUEUE_MAX: usize = 4_096;

/// How often a store that cannot write is tried again.
const TRY_AGAIN_EVERY_NS: i64 = 250_000_000;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("the store directory {directory} cannot be used: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error("there is no store: {0} does not exist")]
    Missing(PathBuf),
    /// Something else lies in its place, or it is damaged.
    #[error("{file} cannot be opened as a store: {finding}")]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What was found.
        finding: Finding,
    },
    /// Its thread cannot be started.
    #[error("the store's thread cannot be started: {0}")]
    Thread(io::Error),
    /// Another process has it open.
    #[error("the store {0} is open in another process; each gateway needs a store of its own")]
    InUse(PathBuf),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(Arc<redb::Error>),
    /// A record cannot be read back.
    #[error("the store holds a record that cannot be read: {table} {key}: {why}")]
    Record {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Too many writes are waiting.
    #[error("the store has too much to do")]
    Busy,
    /// The group of writes failed; nothing of it was committed.
    #[error("the store could not write; the gateway's log says why")]
    NotWritten,
    /// There are as many grants as there may be, in all or of this address.
    #[error("there are as many living grants as there may be, in all or of this address")]
    Full,
    /// The app has as many living grants as it may have.
    #[error("the app has as many living grants as its profile allows (lease.max)")]
    LeasesFull,
    /// The address does not come to this caller.
    #[error("{}", match .0 {
        Refused::Superseded => "another pod has taken this address since; it does not come back to this one",
        Refused::Moved => {
            "the address has changed hands, or a grant on it has ended, while this call waited; ask again"
        }
        Refused::Quarantined { .. } => {
            "the pod that had this address has just ended, and nobody else has it yet (leases.quarantine)"
        }
    })]
    Refused(Refused),
    /// There is no such grant of this holder.
    #[error("no living grant has this id and this holder; ask for a new one")]
    NoGrant,
    /// The store has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// What can be done about it, where it is the store of this directory.
    pub fn advice(&self, directory: &std::path::Path) -> Option<String> {
        let directory = directory.display();
        match self {
            Self::Unusable { finding: Finding::FileFormat(_) | Finding::Schema { .. }, .. } => {
                Some("nothing was changed; it is read by the podgate that wrote it, whose `podgate store export` can be imported".to_owned())
            }
            Self::Unusable { .. } => Some(format!(
                "nothing was made anew in its place; move it away and restore an export: `podgate store import {directory} \
                 FILE` (docs/operations.md, \"Store\")"
            )),
            Self::Record { .. } => Some(format!(
                "`podgate store check {directory}` tells all that cannot be read, and `podgate store export \
                 --skip-unreadable` saves the rest"
            )),
            Self::InUse(_) => Some("stop the gateway that serves it first".to_owned()),
            _ => None,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Arc::new(error.into()))
    }
}

/// A handle to the store. Writes go to one thread, which commits them in groups; grants are read from memory.
#[derive(Debug)]
pub struct Store {
    commands: SyncSender<Command>,
    file: PathBuf,
    grants: Arc<GrantIndex>,
    journal: Arc<Journal>,
    /// When the present key of tickets was made, in milliseconds since 1970.
    keys_made_at_ms: AtomicU64,
    /// Whether the last group of writes failed, and when one may try again.
    is_failing: Arc<AtomicBool>,
    next_try_ns: AtomicI64,
    thread: std::thread::JoinHandle<()>,
}

/// Keys that are being written.
#[derive(Debug)]
pub struct Renewal {
    /// The keys, not to be used before they are written.
    pub keys: Keys,
    /// When the new one was made.
    pub made_at: WallTime,
    /// When they are.
    pub written: Result<Pending<()>, StoreError>,
}

/// What comes back of a write, once it is durable.
pub type Pending<T> = oneshot::Receiver<Result<T, StoreError>>;

impl Store {
    /// Opens or makes the store in `directory`, and returns with it the documents that it keeps.
    pub fn open(directory: &std::path::Path, rules: impl Into<Rules>) -> Result<(Self, Kept), StoreError> {
        Self::over(Database::open(directory)?, rules)
    }

    /// Serves an open database.
    pub(crate) fn over(
        (mut database, kept): (Database, Kept),
        rules: impl Into<Rules>,
    ) -> Result<(Self, Kept), StoreError> {
        let leases = database.load_leases(clock::wall())?;
        let writer = Writer::new(database, leases, &kept, rules.into());
        Ok((Self::start(&kept, writer)?, kept))
    }

    /// The same for a gateway whose ended grants somebody must hear of: remembers each end until it is acknowledged.
    pub fn open_with_ends(
        directory: &std::path::Path,
        rules: impl Into<Rules>,
    ) -> Result<(Self, Kept, Ends), StoreError> {
        let (mut database, kept) = Database::open(directory)?;
        let leases = database.load_leases(clock::wall())?;
        let tombstones = Arc::new(Tombstones::load(&mut database)?);
        let writer = Writer::new(database, leases, &kept, rules.into());
        let store = Self::start(&kept, writer.remembering(Arc::clone(&tombstones)))?;
        let ends = Ends { tombstones, grants: Arc::clone(&store.grants), commands: store.commands.clone() };
        Ok((store, kept, ends))
    }

    fn start(kept: &Kept, writer: Writer) -> Result<Self, StoreError> {
        let (commands, queue) = std::sync::mpsc::sync_channel(QUEUE_MAX);
        let (grants, journal) = (writer.index(), Arc::clone(&writer.journal));
        let is_failing = writer.is_failing();
        let file = writer.file().to_owned();
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                let _vital = Vital("store");
                writer.run(&queue);
            })
            .map_err(StoreError::Thread)?;
        let keys_made_at_ms = AtomicU64::new(kept.desk.keys_made_at.as_millis());
        let next_try_ns = AtomicI64::new(i64::MIN);
        Ok(Self { commands, file, grants, journal, keys_made_at_ms, is_failing, next_try_ns, thread })
    }

    /// The living grants, in memory.
    pub fn grants(&self) -> &Arc<GrantIndex> {
        &self.grants
    }

    /// How large the file is, if it is there.
    pub fn bytes(&self) -> Option<u64> {
        std::fs::metadata(&self.file).ok().map(|file| file.len())
    }

    /// How the living grants change.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Records a grant.
    pub fn grant(&self, new: NewGrant) -> Result<Pending<Arc<Grant>>, StoreError> {
        self.send(|reply| Command::Grant(Box::new(new), reply, Courier::of_this_thread()))
    }

    /// Extends a lease.
    pub fn renew(&self, extension: Extension) -> Result<Pending<Arc<Grant>>, StoreError> {
        self.send(|reply| Command::Renew(Box::new(extension), reply, Courier::of_this_thread()))
    }

    /// Puts in force what another policy leaves of grants; returns how many that changed.
    pub fn redecide(&self, redecided: Vec<Redecided>) -> Result<Pending<u32>, StoreError> {
        self.send(|reply| Command::Redecide(redecided, reply))
    }

    /// Ends grants; returns how many it ended.
    pub fn end(&self, ending: Ending) -> Result<Pending<u32>, StoreError> {
        self.send(|reply| Command::End(ending, reply))
    }

    /// Keeps a document, in place of any of its name.
    pub fn put_document(&self, kind: Kind, name: &str, bytes: Vec<u8>) -> Result<Pending<()>, StoreError> {
        self.send(|reply| Command::PutDocument(kind, name.to_owned(), bytes, reply))
    }

    /// Forgets a document.
    pub fn delete_document(&self, kind: Kind, name: &str) -> Result<Pending<()>, StoreError> {
        self.send(|reply| Command::DeleteDocument(kind, name.to_owned(), reply))
    }

    /// Writes how far an app's slots may be told, in nanoseconds of the kept clock.
    pub fn reserve(
        &self,
        app: &Arc<str>,
        frontier_ns: i64,
        interval: Duration,
    ) -> Result<Pending<()>, StoreError> {
        let (app, frontier) = (Arc::clone(app), (frontier_ns, interval));
        self.send(|reply| Command::Reserve(app, frontier, reply, Courier::of_this_thread()))
    }

    /// Writes the keys of tickets with a new one, where the present one is old.
    pub fn renew_keys(&self, keys: &Keys, now: WallTime) -> Option<Renewal> {
        let made_at = WallTime::from_millis(self.keys_made_at_ms.load(Ordering::Relaxed));
        let keys = desk::renewed(keys, made_at, now)?;
        let written = self.send(|reply| Command::PutKeys(desk::encode(&keys, now), reply));
        Some(Renewal { keys, made_at: now, written })
    }

    /// Notes that renewed keys have been written.
    pub fn keys_renewed(&self, made_at: WallTime) {
        self.keys_made_at_ms.store(made_at.as_millis(), Ordering::Relaxed);
    }

    /// Whether it is worth to spend a token on a grant: not while nothing can be written, but for one call in a while,
    /// which finds out whether that has changed.
    pub fn ready(&self, now: Moment) -> Result<(), StoreError> {
        if !self.is_failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let next = self.next_try_ns.load(Ordering::Relaxed);
        let after = now.offset(TRY_AGAIN_EVERY_NS).as_nanos();
        let is_first = now.as_nanos() >= next
            && self.next_try_ns.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_first { Ok(()) } else { Err(StoreError::NotWritten) }
    }

    fn send<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<Pending<T>, StoreError> {
        let (reply, pending) = oneshot::channel();
        match self.commands.try_send(command(reply)) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => {
                metrics::counter!("podgate_store_busy_total").increment(1);
                Err(StoreError::Busy)
            }
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        }
    }

    /// Finishes what is queued, and closes the database.
    pub fn close(self) {
        drop(self.commands);
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod memory_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use podgate_engine::{lease::Lifetimes, subject::Subject};

    use super::*;

    fn new_grant(address: [u8; 4], cluster: &str, uid: &str) -> NewGrant {
        let new = samples::new_grant(address, uid);
        let subject = Subject { cluster: cluster.into(), ..(*new.subject).clone() };
        NewGrant { subject: Arc::new(subject), ..new }
    }

    fn grant(store: &Store, new: NewGrant) -> Result<Arc<Grant>, StoreError> {
        store.grant(new).unwrap().blocking_recv().unwrap()
    }

    fn end(store: &Store, ending: Ending) -> u32 {
        store.end(ending).unwrap().blocking_recv().unwrap().unwrap()
    }

    #[test]
    fn grants_are_bounded_in_all_and_room_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 3).unwrap();
        for last in 1..=3 {
            grant(&store, new_grant([10, 0, 0, last], "", "a")).unwrap();
        }
        assert!(matches!(grant(&store, new_grant([10, 0, 0, 4], "", "a")), Err(StoreError::Full)));
        // A new pod on an address that holds a grant takes no further room.
        grant(&store, new_grant([10, 0, 0, 3], "", "b")).unwrap();
        assert_eq!(end(&store, Ending::Revoke(Target::Address([10, 0, 0, 1].into()))), 1);
        grant(&store, new_grant([10, 0, 0, 4], "", "a")).unwrap();
        store.close();
    }

    #[test]
    fn one_address_cannot_fill_the_store_by_naming_clusters() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 1_000_000).unwrap();
        let held = (0..300).filter(|number| {
            grant(&store, new_grant([10, 0, 0, 1], &format!("cluster-{number}"), "a")).is_ok()
        });
        assert_eq!(held.count(), 256);
        store.close();
        // The count is taken again from what is durable.
        let (store, _) = Store::open(home.path(), 1_000_000).unwrap();
        assert!(matches!(grant(&store, new_grant([10, 0, 0, 1], "another", "a")), Err(StoreError::Full)));
        assert_eq!(end(&store, Ending::Revoke(Target::App("order".to_owned()))), 256);
        grant(&store, new_grant([10, 0, 0, 1], "another", "a")).unwrap();
    }

    #[test]
    fn ids_never_come_twice_and_a_late_release_hits_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 10).unwrap();
        let first = grant(&store, new_grant([10, 0, 0, 1], "", "old")).unwrap();
        let second = grant(&store, new_grant([10, 0, 0, 1], "", "new")).unwrap();
        assert!(second.id > first.id);
        let release =
            |id, uid: &str| Ending::Release(Claim { id, uid: uid.to_owned(), generation: 0, from: None });
        assert_eq!(end(&store, release(first.id, "old")), 0);
        assert_eq!(end(&store, release(second.id, "old")), 0);
        assert_eq!(end(&store, release(second.id, "new")), 1);
        store.close();
        let (store, kept) = Store::open(home.path(), 10).unwrap();
        assert!(!kept.desk.is_new && store.grants().is_empty());
        assert!(grant(&store, new_grant([10, 0, 0, 1], "", "next")).unwrap().id > second.id);
    }

    #[test]
    fn what_is_over_is_found_and_ended() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 10).unwrap();
        let lifetimes = Lifetimes { ttl: Duration::ZERO, max_age: Duration::ZERO };
        let over = NewGrant { lifetimes, ..new_grant([10, 0, 0, 1], "", "a") };
        grant(&store, over).unwrap();
        grant(&store, new_grant([10, 0, 0, 2], "", "a")).unwrap();
        assert!(store.grants().any_expired(crate::clock::wall()));
        assert_eq!(end(&store, Ending::Expire(10)), 1);
        assert!(!store.grants().any_expired(crate::clock::wall()));
        assert_eq!(store.grants().len(), 1);
    }

    #[test]
    fn a_store_has_one_gateway() {
        let home = tempfile::tempdir().unwrap();
        let (_store, _) = Store::open(home.path(), 10).unwrap();
        assert!(matches!(Store::open(home.path(), 10), Err(StoreError::InUse(_))));
    }
}
