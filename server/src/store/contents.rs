//! All that a store holds, record by record, for whoever looks at it from outside of a gateway.

use podgate_engine::{grant::GrantId, shared::Shared};
use podgate_proto::store::{GrantRecord, OccupancyRecord, TombstoneRecord};
use prost::Message;
use redb::{Key, ReadOnlyTable, ReadTransaction, TableDefinition, TableError, TableHandle, Value};

use crate::store::{
    Kind, StoreError,
    database::{GRANTS, META, NEXT_GRANT},
    desk::{self, DESK, FRONTIERS, Secrets},
    occupancy::{self, OCCUPANCIES},
    record,
    tombstone::{self, TOMBSTONES},
};

/// One thing that a store holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    /// A document of the API, encoded.
    Document(Kind, String, Vec<u8>),
    /// How far an app's slots may have been told.
    Frontier(Frontier),
    /// A grant.
    Grant(GrantId, Box<GrantRecord>),
    /// The end of a grant that the upstream has not heard of.
    End(GrantId, TombstoneRecord),
    /// What is remembered of an address, under its number.
    Occupancy(u64, OccupancyRecord),
}

/// How far an app's slots may have been told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frontier {
    /// The app.
    pub(crate) app: String,
    /// Nanoseconds of the kept clock, which is the wall clock as of the last boot.
    pub(crate) at_ns: i64,
    /// T of the app's bucket.
    pub(crate) interval_ns: u64,
}

/// A store as it is at one instant.
#[derive(Debug)]
pub(crate) struct Contents(pub(crate) ReadTransaction);

impl Contents {
    /// The id that the next grant would get.
    pub(crate) fn next_grant(&self) -> Result<GrantId, StoreError> {
        let next = match self.table(META)? {
            Some(meta) => meta.get(NEXT_GRANT)?.map(|next| next.value()),
            None => None,
        };
        Ok(GrantId(next.unwrap_or(1)))
    }

    /// Epoch and keys of its tickets.
    pub(crate) fn secrets(&self) -> Result<Option<Secrets>, StoreError> {
        match self.table(DESK)? {
            Some(desk) => desk::secrets(&desk),
            None => Ok(None),
        }
    }

    /// Tables that this podgate does not know.
    pub(crate) fn unknown_tables(&self) -> Result<Vec<String>, StoreError> {
        let documents = Kind::ALL.map(Kind::table);
        let documents = documents.iter().map(TableHandle::name);
        let known: Vec<&str> = documents
            .chain([GRANTS.name(), META.name(), DESK.name(), FRONTIERS.name()])
            .chain([TOMBSTONES.name(), OCCUPANCIES.name()])
            .collect();
        let there = self.0.list_tables()?.map(|table| table.name().to_owned());
        Ok(there.filter(|name| !known.contains(&name.as_str())).collect())
    }

    /// Shows each record in turn: what it holds, or why it cannot be read.
    pub(crate) fn walk(
        &self,
        mut each: impl FnMut(Result<Entry, StoreError>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for kind in Kind::ALL {
            for entry in self.rows(kind.table())? {
                let (name, bytes) = entry?;
                each(Ok(Entry::Document(kind, name.value().to_owned(), bytes.value().to_owned())))?;
            }
        }
        for entry in self.rows(FRONTIERS)? {
            let (app, kept) = entry?;
            let (at_ns, interval_ns) = kept.value();
            each(Ok(Entry::Frontier(Frontier { app: app.value().to_owned(), at_ns, interval_ns })))?;
        }
        for entry in self.rows(GRANTS)? {
            let (id, bytes) = entry?;
            let id = GrantId(id.value());
            let mut shared = Shared::default();
            let read = decode::<GrantRecord>(bytes.value())
                .and_then(|decoded| record::from_record(id, decoded.clone(), &mut shared).map(|_| decoded));
            each(match read {
                Ok(decoded) => Ok(Entry::Grant(id, Box::new(decoded))),
                Err(why) => Err(StoreError::Record { table: "grants", key: id.to_string(), why }),
            })?;
        }
        for entry in self.rows(TOMBSTONES)? {
            let (id, bytes) = entry?;
            let id = GrantId(id.value());
            let read = decode::<TombstoneRecord>(bytes.value())
                .and_then(|decoded| tombstone::from_record(id, decoded.clone()).map(|_| decoded));
            each(match read {
                Ok(decoded) => Ok(Entry::End(id, decoded)),
                Err(why) => {
                    Err(StoreError::Record { table: "upstream_revocations", key: id.to_string(), why })
                }
            })?;
        }
        for entry in self.rows(OCCUPANCIES)? {
            let (number, bytes) = entry?;
            let number = number.value();
            let read = decode::<OccupancyRecord>(bytes.value())
                .and_then(|decoded| occupancy::from_record(number, decoded.clone()).map(|_| decoded));
            each(match read {
                Ok(decoded) => Ok(Entry::Occupancy(number, decoded)),
                Err(why) => Err(StoreError::Record { table: "occupancies", key: number.to_string(), why }),
            })?;
        }
        Ok(())
    }

    /// A table, if the store has it: some come with what needs them.
    fn table<K: Key, V: Value>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
        match self.0.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn rows<K: Key, V: Value>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<impl Iterator<Item = redb::Result<Row<K, V>>>, StoreError> {
        let rows = self.table(table)?.map(|table| table.range::<K::SelfType<'_>>(..)).transpose()?;
        Ok(rows.into_iter().flatten())
    }
}

type Row<K, V> = (redb::AccessGuard<'static, K>, redb::AccessGuard<'static, V>);

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}
