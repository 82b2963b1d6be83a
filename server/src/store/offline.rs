//! A store that no gateway serves: what an operator looks at, makes smaller, and copies.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use podgate_engine::grant::GrantId;
use prost::Message as _;
use redb::{CompactionError, ReadableDatabase as _};

use crate::{
    clock,
    store::{
        Kind, StoreError,
        contents::{Contents, Entry},
        line::{FORMAT, Header, Line, SecretsLine, Text},
        medium::{Medium as _, StoreFile},
        recovery::Recovery,
        schema,
    },
};

pub use crate::store::line::Counts;

/// Most anomalies that are told one by one.
const TOLD_MAX: usize = 100;

/// Tells what is wrong with a document of the API: the store itself keeps them as bytes.
pub type ReadDocument<'a> = &'a dyn Fn(Kind, &str, &[u8]) -> Result<(), String>;

/// A store that no gateway serves. Held by this process.
#[derive(Debug)]
pub struct OfflineStore {
    file: StoreFile,
    database: redb::Database,
    recovery: Recovery,
}

/// What a look at all records found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// How much there is of each.
    pub counts: Counts,
    /// The id that the next grant gets.
    pub next_grant: GrantId,
    /// Grants whose time is over; a gateway ends them.
    pub expired: u64,
    /// Bytes of all records.
    pub record_bytes: u64,
    /// What is wrong, the first of it.
    pub anomalies: Vec<String>,
    /// How many things are wrong.
    pub anomalies_total: u64,
}

impl Survey {
    fn note(&mut self, anomaly: impl Display) {
        self.anomalies_total += 1;
        if self.anomalies.len() < TOLD_MAX {
            self.anomalies.push(anomaly.to_string());
        }
    }
}

/// What is left out of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The keys that seal tickets.
    pub secrets: Secrecy,
    /// Records that cannot be read.
    pub unreadable: Unreadable,
}

/// What becomes of the keys that seal tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// They stay where they are: tickets of the store are worth nothing to whoever imports the rest.
    Withheld,
    /// They are written out.
    Told,
}

/// What becomes of records that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing is exported.
    Refused,
    /// They are left out.
    LeftOut,
}

/// Why an export did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not all of it can be read.
    #[error("{} of its records cannot be read; nothing was exported", .0.anomalies_total)]
    Anomalies(Survey),
    /// The lines cannot be written.
    #[error("the lines cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl OfflineStore {
    /// Opens the store of a directory: as a gateway does, every page is verified, and what a crash left is set right.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let file = StoreFile::hold_existing(directory)?;
        let (database, recovery) = file.open()?;
        let write = database.begin_write()?;
        let finding = schema::check(&write)?;
        write.abort()?;
        match finding {
            Some(finding) => Err(StoreError::Unusable { file: file.name().to_owned(), finding }),
            None => Ok(Self { file, database, recovery }),
        }
    }

    /// What its opening had to set right.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The file.
    pub fn file(&self) -> &Path {
        self.file.name()
    }

    /// How large the file is.
    pub fn bytes(&self) -> Result<u64, StoreError> {
        bytes_of(&self.file)
    }

    /// Reads every record, and tells what there is and what is wrong with it.
    pub fn survey(&self, read_document: ReadDocument<'_>) -> Result<Survey, StoreError> {
        survey(&Contents(self.database.begin_read()?), read_document)
    }

    /// Makes the file as small as it can be, and closes it; returns its size.
    pub fn compact(mut self) -> Result<u64, StoreError> {
        match self.database.compact() {
            Ok(_) => {}
            Err(CompactionError::Storage(error)) => return Err(error.into()),
            Err(error) => return Err(redb::Error::from(error).into()),
        }
        // What compaction freed is given back with this.
        self.database.close()?;
        bytes_of(&self.file)
    }

    /// Writes all of it as lines, as it is at one instant, and tells how much that was.
    pub fn export(
        &self,
        out: &mut dyn Write,
        extent: Extent,
        read_document: ReadDocument<'_>,
    ) -> Result<Survey, ExportError> {
        let contents = Contents(self.database.begin_read().map_err(StoreError::from)?);
        let mut survey = survey(&contents, read_document)?;
        if survey.anomalies_total > 0 && extent.unreadable == Unreadable::Refused {
            return Err(ExportError::Anomalies(survey));
        }
        let secrets = match extent.secrets {
            Secrecy::Withheld => None,
            Secrecy::Told => contents.secrets()?,
        };
        survey.counts.secrets = secrets.iter().count() as u64;
        let header = Header {
            podgate_export: FORMAT,
            next_grant: Text(survey.next_grant),
            exported_at_ms: clock::wall().as_millis(),
            counts: survey.counts,
        };
        write_line(out, &Line::Header(header))?;
        if let Some(secrets) = secrets {
            write_line(out, &Line::Secrets(SecretsLine::from(secrets)))?;
        }
        let mut written = Ok(());
        contents.walk(|entry| {
            if let Ok(entry) = read_entry(entry, read_document)
                && let Ok(line) = Line::try_from(entry)
                && written.is_ok()
            {
                written = write_line(out, &line);
            }
            Ok(())
        })?;
        written?;
        out.flush()?;
        Ok(survey)
    }
}

fn survey(contents: &Contents, read_document: ReadDocument<'_>) -> Result<Survey, StoreError> {
    let now = clock::wall().as_millis();
    let mut survey = Survey {
        counts: Counts::default(),
        next_grant: contents.next_grant()?,
        expired: 0,
        record_bytes: 0,
        anomalies: Vec::new(),
        anomalies_total: 0,
    };
    for table in contents.unknown_tables()? {
        survey.note(format!("table `{table}`: this podgate does not know it"));
    }
    if let Err(unreadable) = contents.secrets() {
        survey.note(unreadable);
    }
    contents.walk(|entry| {
        match read_entry(entry, read_document) {
            Err(why) => survey.note(why),
            Ok(Entry::Document(_, _, bytes)) => {
                survey.counts.documents += 1;
                survey.record_bytes += bytes.len() as u64;
            }
            Ok(Entry::Frontier(_)) => survey.counts.frontiers += 1,
            Ok(Entry::Grant(id, record)) => {
                survey.counts.grants += 1;
                survey.record_bytes += record.encoded_len() as u64;
                survey.expired += u64::from(record.expires_at_ms <= now);
                if id >= survey.next_grant {
                    survey.next_grant = GrantId(id.0 + 1);
                    survey.note(format!("grants {id}: its id would be given again"));
                }
            }
            Ok(Entry::End(_, record)) => {
                survey.counts.ends += 1;
                survey.record_bytes += record.encoded_len() as u64;
            }
            Ok(Entry::Occupancy(number, record)) => {
                survey.counts.occupancies += 1;
                survey.record_bytes += record.encoded_len() as u64;
                if GrantId(number) >= survey.next_grant {
                    survey.next_grant = GrantId(number + 1);
                    survey.note(format!("occupancies {number}: its number would be given again"));
                }
            }
        }
        Ok(())
    })?;
    Ok(survey)
}

fn read_entry(entry: Result<Entry, StoreError>, read_document: ReadDocument<'_>) -> Result<Entry, String> {
    let entry = entry.map_err(|error| error.to_string())?;
    if let Entry::Document(kind, name, bytes) = &entry {
        read_document(*kind, name, bytes)?;
    }
    Ok(entry)
}

fn write_line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

fn bytes_of(file: &StoreFile) -> Result<u64, StoreError> {
    Ok(file.bytes()?)
}
