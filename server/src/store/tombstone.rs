//! Ends of grants that somebody must still hear of: durable with the end itself, forgotten when they are acknowledged.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::SyncSender, mpsc::TrySendError},
};

use podgate_engine::{
    grant::{Grant, GrantId},
    shared::Word,
};
use podgate_proto::store::TombstoneRecord;
use prost::Message as _;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use tokio::sync::{Notify, oneshot};

use crate::store::{GrantIndex, Pending, StoreError, command::Command, database::Database, record};

pub(crate) const TOMBSTONES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("upstream_revocations");

/// A grant that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The grant.
    pub id: GrantId,
    /// Its last generation.
    pub generation: u64,
    /// The app that held it.
    pub app: Arc<str>,
    /// Cluster of the holder.
    pub cluster: Word,
    /// The address that it covered.
    pub address: IpAddr,
}

impl From<&Grant> for Tombstone {
    fn from(grant: &Grant) -> Self {
        Self {
            id: grant.id,
            generation: grant.generation,
            app: Arc::clone(&grant.app),
            cluster: grant.subject.cluster.clone(),
            address: grant.subject.address,
        }
    }
}

/// What is durable and not acknowledged, in memory. Changed by the store's writer alone, after its commit.
#[derive(Debug, Default)]
pub struct Tombstones {
    standing: Mutex<BTreeMap<GrantId, Tombstone>>,
    changed: Notify,
}

/// For whoever must hear of every end: the ends that are not acknowledged, the grants that live, and the way to tell
/// the store that an end was heard of.
///
/// While one of these lives the store does not close.
#[derive(Clone, Debug)]
pub struct Ends {
    /// What is not acknowledged.
    pub tombstones: Arc<Tombstones>,
    /// The living grants. A grant leaves them before its tombstone stands.
    pub grants: Arc<GrantIndex>,
    pub(crate) commands: SyncSender<Command>,
}

impl Ends {
    /// Forgets tombstones durably.
    pub fn acknowledge(&self, heard: Vec<GrantId>) -> Result<Pending<()>, StoreError> {
        let (reply, pending) = oneshot::channel();
        match self.commands.try_send(Command::Forget(heard, reply)) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Closed),
        }
    }
}

impl Tombstones {
    /// Reads what an earlier run left behind.
    pub(crate) fn load(database: &mut Database) -> Result<Self, StoreError> {
        let write = database.begin()?;
        let mut standing = BTreeMap::new();
        for entry in write.open_table(TOMBSTONES)?.iter()? {
            let (id, bytes) = entry?;
            let id = GrantId(id.value());
            let tombstone = TombstoneRecord::decode(bytes.value())
                .map_err(|error| error.to_string())
                .and_then(|record| from_record(id, record))
                .map_err(|why| StoreError::Record {
                    table: "upstream_revocations",
                    key: id.to_string(),
                    why,
                })?;
            standing.insert(id, tombstone);
        }
        write.commit()?;
        Ok(Self { standing: Mutex::new(standing), changed: Notify::new() })
    }

    /// How many ends are not acknowledged.
    pub fn len(&self) -> usize {
        self.standing().len()
    }

    /// Whether all are.
    pub fn is_empty(&self) -> bool {
        self.standing().is_empty()
    }

    /// Up to `most` that pass `wanted`, by id, after `after`.
    pub fn page(
        &self,
        after: Option<GrantId>,
        most: usize,
        wanted: impl Fn(GrantId) -> bool,
    ) -> Vec<Tombstone> {
        let standing = self.standing();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = standing.range((from, Bound::Unbounded)).filter(|(id, _)| wanted(**id));
        wanted.map(|(_, tombstone)| tombstone.clone()).take(most).collect()
    }

    /// Waits until there is something to look at; by one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Has whoever waits look again.
    pub fn ring(&self) {
        self.changed.notify_one();
    }

    /// After a commit: `ended` stand, `heard` are forgotten.
    pub(crate) fn publish(&self, ended: Vec<Arc<Grant>>, heard: &[GrantId]) {
        if ended.is_empty() && heard.is_empty() {
            return;
        }
        let mut standing = self.standing();
        for id in heard {
            standing.remove(id);
        }
        standing.extend(ended.into_iter().map(|grant| (grant.id, Tombstone::from(&*grant))));
        drop(standing);
        self.ring();
    }

    /// Writes the tombstones of a group. Before them those of `doubtful` grants, as memory has them: a failed commit
    /// may have left anything there.
    pub(crate) fn write(
        &self,
        write: &WriteTransaction,
        doubtful: impl Iterator<Item = GrantId>,
        ended: &[Arc<Grant>],
        heard: &[GrantId],
    ) -> Result<(), StoreError> {
        let mut table = write.open_table(TOMBSTONES)?;
        let standing = self.standing();
        for id in doubtful {
            match standing.get(&id) {
                Some(tombstone) => table.insert(id.0, to_record(tombstone).encode_to_vec().as_slice())?,
                None => table.remove(id.0)?,
            };
        }
        for grant in ended {
            table.insert(grant.id.0, to_record(&Tombstone::from(&**grant)).encode_to_vec().as_slice())?;
        }
        for id in heard {
            table.remove(id.0)?;
        }
        Ok(())
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<GrantId, Tombstone>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_record(tombstone: &Tombstone) -> TombstoneRecord {
    TombstoneRecord {
        generation: tombstone.generation,
        app: tombstone.app.to_string(),
        cluster: tombstone.cluster.to_string(),
        address: record::to_bytes(tombstone.address),
    }
}

pub(crate) fn from_record(id: GrantId, record: TombstoneRecord) -> Result<Tombstone, String> {
    let TombstoneRecord { generation, app, cluster, address } = record;
    let address = record::to_address(&address)?;
    Ok(Tombstone { id, generation, app: app.into(), cluster: cluster.into(), address })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use podgate_engine::{
        lease::{Fallback, Lifetimes, NewGrant, Tenure},
        subject::{Subject, SubjectKind},
        time::Moment,
    };

    use super::*;
    use crate::store::{Ending, Store, Target};

    fn new_grant(address: IpAddr) -> NewGrant {
        NewGrant {
            app: "order".into(),
            subject: Arc::new(Subject {
                cluster: "bj-1".into(),
                address,
                kind: SubjectKind::Host("vm".into()),
            }),
            allowed: Arc::new([]),
            request: 1,
            admitted_at: Moment::from_nanos(1),
            tenure: Tenure::Fixed,
            lifetimes: Lifetimes { ttl: Duration::from_secs(60), max_age: Duration::from_secs(60) },
            revision: 1,
            shadow: false,
            fallback: Fallback::Deny,
            seen: u64::MAX,
            app_max: u32::MAX,
        }
    }

    fn grant(store: &Store, last: u8) -> Result<Arc<Grant>, StoreError> {
        store.grant(new_grant([10, 0, 0, last].into())).unwrap().blocking_recv().unwrap()
    }

    fn end(store: &Store, grant: &Grant) {
        let ended = store.end(Ending::Revoke(Target::Grant(grant.id))).unwrap();
        assert_eq!(ended.blocking_recv().unwrap().unwrap(), 1);
    }

    #[test]
    fn every_end_stands_until_it_is_acknowledged_also_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let (store, _, ends) = Store::open_with_ends(home.path(), 10).unwrap();
        let [kept, revoked, superseded] = [1, 2, 3].map(|last| grant(&store, last).unwrap());
        end(&store, &revoked);
        let mut successor = new_grant([10, 0, 0, 3].into());
        successor.subject = Arc::new(Subject {
            kind: SubjectKind::Pod(podgate_engine::subject::PodIdentity {
                namespace: "hotel".into(),
                name: "".into(),
                uid: "next".into(),
                service_account: "".into(),
                node: "".into(),
            }),
            ..(*successor.subject).clone()
        });
        store.grant(successor).unwrap().blocking_recv().unwrap().unwrap();
        let standing = [Tombstone::from(&*revoked), Tombstone::from(&*superseded)];
        assert_eq!(ends.tombstones.page(None, 10, |_| true), standing);
        assert_eq!(ends.tombstones.page(Some(revoked.id), 10, |_| true), standing[1..]);
        drop(ends);
        store.close();
        let (store, _, ends) = Store::open_with_ends(home.path(), 10).unwrap();
        assert_eq!(ends.tombstones.page(None, 10, |_| true), standing);
        let heard = ends.acknowledge(vec![revoked.id, kept.id]).unwrap();
        heard.blocking_recv().unwrap().unwrap();
        assert_eq!(ends.tombstones.page(None, 10, |_| true), standing[1..]);
        drop(ends);
        store.close();
        let (_store, _, ends) = Store::open_with_ends(home.path(), 10).unwrap();
        assert_eq!(ends.tombstones.page(None, 10, |_| true), standing[1..]);
        assert!(ends.grants.get(kept.id).is_some());
    }

    #[test]
    fn as_many_ends_as_grants_may_be_unheard_of() {
        let home = tempfile::tempdir().unwrap();
        let (store, _, ends) = Store::open_with_ends(home.path(), 2).unwrap();
        let first = grant(&store, 1).unwrap();
        end(&store, &first);
        let second = grant(&store, 1).unwrap();
        end(&store, &second);
        assert!(matches!(grant(&store, 1), Err(StoreError::Full)));
        ends.acknowledge(vec![first.id]).unwrap().blocking_recv().unwrap().unwrap();
        grant(&store, 1).unwrap();
    }

    #[test]
    fn a_store_without_anybody_to_tell_remembers_no_end() {
        let home = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(home.path(), 10).unwrap();
        let ended = grant(&store, 1).unwrap();
        end(&store, &ended);
        store.close();
        let (_store, _, ends) = Store::open_with_ends(home.path(), 10).unwrap();
        assert!(ends.tombstones.is_empty());
    }

    /// What a failed commit has left in the file all the same is set right by the next one.
    #[test]
    fn what_is_in_doubt_is_written_as_memory_has_it() {
        let home = tempfile::tempdir().unwrap();
        let (store, _, ends) = Store::open_with_ends(home.path(), 10).unwrap();
        let [heard, standing, never] = [1, 2, 3].map(|last| grant(&store, last).unwrap());
        end(&store, &standing);
        drop(ends);
        store.close();
        let (mut database, _) = Database::open(home.path()).unwrap();
        let memory = Tombstones::load(&mut database).unwrap();
        // The failed group: an end that memory does not have, and an acknowledgement that memory has not heard.
        let write = database.begin().unwrap();
        memory.write(&write, std::iter::empty(), &[heard, Arc::clone(&never)], &[standing.id]).unwrap();
        write.commit().unwrap();
        let write = database.begin().unwrap();
        memory.write(&write, (1..=3).map(GrantId), &[], &[]).unwrap();
        write.commit().unwrap();
        let durable = Tombstones::load(&mut database).unwrap();
        assert_eq!(durable.page(None, 10, |_| true), [Tombstone::from(&*standing)]);
    }
}
