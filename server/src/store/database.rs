//! The database file: redb, with a table for grants and one for each kind of document.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use podgate_engine::{
    grant::{Grant, GrantId},
    lease::{Occupancy, Seat},
    shared::Shared,
    time::WallTime,
};
use podgate_proto::store::GrantRecord;
use prost::Message as _;
use redb::{Durability, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::store::{
    StoreError,
    desk::{self, KeptDesk},
    medium::{Medium, StoreFile},
    occupancy, record,
    recovery::Recovery,
    schema,
};

pub(crate) const GRANTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("grants");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const NEXT_GRANT: &str = "next_grant";

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Profiles.
    Profile,
    /// Common ports.
    CommonPorts,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::Profile, Self::CommonPorts];

    /// The table of its documents.
    pub(crate) fn table(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        match self {
            Self::Profile => TableDefinition::new("profiles"),
            Self::CommonPorts => TableDefinition::new("common_ports"),
        }
    }
}

/// What a store held when it was opened.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Documents of the API, encoded.
    pub documents: Vec<(Kind, String, Vec<u8>)>,
    /// The id of the next grant.
    pub next_grant: GrantId,
    /// What goes on at the desk.
    pub desk: KeptDesk,
    /// What opening it had to set right.
    pub recovery: Recovery,
}

/// Whether a store has been used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was made just now: nobody has been admitted, and nothing told.
    New,
    /// It was there.
    Kept,
}

/// The leases that a store held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// Grants by id.
    pub(crate) grants: BTreeMap<GrantId, Arc<Grant>>,
    /// What is remembered of addresses, those first that are forgotten first.
    pub(crate) occupancies: Vec<(Seat, Occupancy)>,
    /// What the grants have in common.
    pub(crate) shared: Shared,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    medium: Box<dyn Medium>,
    open: Option<redb::Database>,
}

impl Database {
    /// Opens the store of a directory, or makes it where there is none.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Kept), StoreError> {
        let file = StoreFile::hold(directory)?;
        if file.exists()? {
            return Self::over(Box::new(file), Origin::Kept);
        }
        file.make(furnish)?;
        Self::over(Box::new(file), Origin::New)
    }

    /// Opens the store that lies on a medium.
    pub(crate) fn over(medium: Box<dyn Medium>, origin: Origin) -> Result<(Self, Kept), StoreError> {
        let (open, recovery) = medium.open()?;
        recovery.log();
        let mut database = Self { medium, open: Some(open) };
        let write = database.begin()?;
        if let Some(finding) = schema::check(&write)? {
            return Err(StoreError::Unusable { file: database.name().to_owned(), finding });
        }
        write.open_table(GRANTS)?;
        let next_grant = write.open_table(META)?.get(NEXT_GRANT)?.map_or(1, |id| id.value());
        let mut documents = Vec::new();
        for kind in Kind::ALL {
            let table = write.open_table(kind.table())?;
            for entry in table.iter()? {
                let (name, bytes) = entry?;
                documents.push((kind, name.value().to_owned(), bytes.value().to_owned()));
            }
        }
        let desk = desk::load(&write, origin)?;
        write.commit()?;
        Ok((database, Kept { documents, next_grant: GrantId(next_grant), desk, recovery }))
    }

    /// Reads the leases. One that nobody could renew, because the gateway was not there, has its grace from its end on.
    pub(crate) fn load_leases(&mut self, now: WallTime) -> Result<Leases, StoreError> {
        let mut leases = Leases::default();
        let write = self.begin()?;
        for entry in write.open_table(GRANTS)?.iter()? {
            let (id, bytes) = entry?;
            let id = GrantId(id.value());
            let grant = GrantRecord::decode(bytes.value())
                .map_err(|error| error.to_string())
                .and_then(|decoded| record::from_record(id, decoded, &mut leases.shared))
                .map_err(|why| StoreError::Record { table: "grants", key: id.to_string(), why })?;
            let grant = grant.after_outage(now).unwrap_or(grant);
            leases.grants.insert(id, Arc::new(grant));
        }
        leases.occupancies = occupancy::load(&write)?;
        write.commit()?;
        Ok(leases)
    }

    /// Begins a group of writes; its commit is durable.
    pub(crate) fn begin(&mut self) -> Result<WriteTransaction, StoreError> {
        let mut write = self.opened()?.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        Ok(write)
    }

    /// The name of the file.
    pub(crate) fn name(&self) -> &Path {
        self.medium.name()
    }

    /// Closes the file after a failure: redb wants it opened anew, which the next group of writes does.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// The database, opened anew if it was closed. Never made anew: a file that is gone stays a failure, since what was
    /// acknowledged was in it.
    fn opened(&mut self) -> Result<&redb::Database, StoreError> {
        match &mut self.open {
            Some(database) => Ok(database),
            closed => Ok(closed.insert(self.medium.open()?.0)),
        }
    }
}

/// Makes the tables of a new store.
pub(crate) fn furnish(database: &mut redb::Database) -> Result<(), StoreError> {
    let write = database.begin_write()?;
    schema::stamp(&write)?;
    write.commit()?;
    Ok(())
}

/// Writes changed grants, and forgets ended ones.
pub(crate) fn write_grants<'a>(
    write: &WriteTransaction,
    changes: impl Iterator<Item = (GrantId, Option<&'a Grant>)>,
    next_grant: GrantId,
) -> Result<(), StoreError> {
    let mut table = write.open_table(GRANTS)?;
    let mut buffer = Vec::new();
    for (id, change) in changes {
        match change {
            Some(grant) => {
                buffer.clear();
                record::to_record(grant).encode_raw(&mut buffer);
                table.insert(id.0, buffer.as_slice())?;
            }
            None => {
                table.remove(id.0)?;
            }
        }
    }
    write.open_table(META)?.insert(NEXT_GRANT, next_grant.0)?;
    Ok(())
}

/// Writes or forgets a document.
pub(crate) fn write_document(
    write: &WriteTransaction,
    kind: Kind,
    name: &str,
    bytes: Option<&[u8]>,
) -> Result<(), StoreError> {
    let mut table = write.open_table(kind.table())?;
    match bytes {
        Some(bytes) => table.insert(name, bytes)?,
        None => table.remove(name)?,
    };
    Ok(())
}
