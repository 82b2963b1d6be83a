//! Makes a store of the lines of an exported one: all of it, or none.

use std::{
    io::{BufRead, Read as _},
    path::{Path, PathBuf},
};

use podgate_engine::{grant::GrantId, shared::Shared};
use prost::Message as _;
use redb::WriteTransaction;

use crate::store::{
    StoreError,
    contents::Entry,
    database::{GRANTS, META, NEXT_GRANT, furnish},
    desk::{self, FRONTIERS, Secrets},
    line::{Counts, FORMAT, Header, Line},
    medium::StoreFile,
    occupancy::{self, OCCUPANCIES},
    offline::ReadDocument,
    record,
    tombstone::{self, TOMBSTONES},
};

/// Longest line: a document of 4 MiB in base 64, and more.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Most faults that are told.
const FAULTS_MAX: usize = 20;

/// What becomes of a store that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stays, and nothing is imported.
    Stays,
    /// It is kept beside the one that takes its place.
    IsReplaced,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// How much of each.
    pub counts: Counts,
    /// Where the store is that was there before.
    pub replaced: Option<PathBuf>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is a store.
    #[error("there is a store in {0} already")]
    Exists(PathBuf),
    /// Lines are wrong; each is told with its number.
    #[error("{} faults; nothing was imported", .0.len())]
    Faults(Vec<LineFault>),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {message}")]
pub struct LineFault {
    /// Its number, from 1.
    pub line: u64,
    /// The field, and what is wrong.
    pub message: String,
}

/// Makes a store in a directory of what is read. Nothing is in its place before everything has been read and found good.
pub fn import(
    directory: &Path,
    lines: impl BufRead,
    standing: Standing,
    read_document: ReadDocument<'_>,
) -> Result<Imported, ImportError> {
    let file = StoreFile::hold(directory)?;
    if standing == Standing::Stays && file.exists()? {
        return Err(ImportError::Exists(directory.to_owned()));
    }
    let mut counts = Counts::default();
    let mut faults = Vec::new();
    let made = file.make(|database| {
        furnish(database)?;
        let write = database.begin_write()?;
        let mut reading = Reading { write: &write, header: None, counts: Counts::default(), read_document };
        reading.read(lines, &mut faults)?;
        counts = reading.counts;
        if faults.is_empty() {
            write.commit()?;
            Ok(())
        } else {
            write.abort()?;
            Err(StoreError::NotWritten)
        }
    });
    match made {
        Ok(replaced) => Ok(Imported { counts, replaced }),
        Err(_) if !faults.is_empty() => Err(ImportError::Faults(faults)),
        Err(failure) => Err(failure.into()),
    }
}

struct Reading<'a> {
    write: &'a WriteTransaction,
    header: Option<Header>,
    counts: Counts,
    read_document: ReadDocument<'a>,
}

/// Why a line is not taken.
enum Refusal {
    Fault(String),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

fn fault(message: impl Into<String>) -> Refusal {
    Refusal::Fault(message.into())
}

impl Reading<'_> {
    fn read(&mut self, mut lines: impl BufRead, faults: &mut Vec<LineFault>) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
            let taken = match read {
                Err(error) => Err(fault(format!("it cannot be read: {error}"))),
                Ok(0) => match self.end() {
                    Ok(()) => return Ok(()),
                    Err(message) => Err(fault(message)),
                },
                Ok(_) => self.take(&bytes),
            };
            let is_over = bytes.last() != Some(&b'\n') || self.header.is_none();
            match taken {
                Ok(()) => {}
                Err(Refusal::Store(failure)) => return Err(failure),
                Err(Refusal::Fault(message)) => faults.push(LineFault { line, message }),
            }
            // Without a header, or after a line that goes on for ever, the rest says nothing.
            if !faults.is_empty() && (is_over || faults.len() >= FAULTS_MAX) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// After the last line: whether all came that the header promised.
    fn end(&self) -> Result<(), String> {
        let Some(header) = &self.header else {
            return Err("the file is empty; expected a header".to_owned());
        };
        let (Counts { secrets, documents, frontiers, grants, ends, occupancies }, found) =
            (header.counts, self.counts);
        let pairs = [
            ("secrets", secrets, found.secrets),
            ("documents", documents, found.documents),
            ("frontiers", frontiers, found.frontiers),
            ("grants", grants, found.grants),
            ("ends", ends, found.ends),
            ("occupancies", occupancies, found.occupancies),
        ];
        let differing = pairs.iter().filter(|(_, promised, found)| promised != found);
        let differing: Vec<String> = differing
            .map(|(what, promised, found)| format!("{what}: the header tells {promised}, and {found} came"))
            .collect();
        if differing.is_empty() {
            Ok(())
        } else {
            Err(format!("the file ends here; {}", differing.join("; ")))
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() as u64 >= LINE_BYTES_MAX {
            return Err(fault(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let line: Line =
            serde_path_to_error::deserialize(&mut json).map_err(|error| fault(wording(&error)))?;
        json.end().map_err(|_| fault("more follows where the line should end"))?;
        match (line, &self.header) {
            (Line::Header(header), None) => self.begin(header),
            (Line::Header(_), Some(_)) => Err(fault("header: there is one already")),
            (_, None) => Err(fault("expected a header, as `podgate store export` writes it")),
            (Line::Secrets(line), Some(_)) => {
                let secrets = Secrets::try_from(line).map_err(|why| fault(format!("secrets.{why}")))?;
                self.counts.secrets += 1;
                Ok(desk::put_secrets(self.write, &secrets)?)
            }
            (Line::Document(line), Some(_)) => self.put(line.into()),
            (Line::Frontier(line), Some(_)) => self.put(line.into()),
            (Line::Grant(line), Some(_)) => self.put((*line).into()),
            (Line::End(line), Some(_)) => self.put(line.into()),
            (Line::Occupancy(line), Some(_)) => self.put(line.into()),
        }
    }

    fn begin(&mut self, header: Header) -> Result<(), Refusal> {
        if header.podgate_export != FORMAT {
            let found = header.podgate_export;
            return Err(fault(format!("header.podgate_export: {found}; this podgate reads {FORMAT}")));
        }
        self.write.open_table(META)?.insert(NEXT_GRANT, header.next_grant.0.0)?;
        self.header = Some(header);
        Ok(())
    }

    fn put(&mut self, entry: Entry) -> Result<(), Refusal> {
        let next = self.header.as_ref().map_or(GrantId(0), |header| header.next_grant.0);
        let twice = |what: &str| fault(format!("{what}: it came before"));
        match entry {
            Entry::Document(kind, name, bytes) => {
                (self.read_document)(kind, &name, &bytes)
                    .map_err(|why| fault(format!("document.message: {why}")))?;
                if self.write.open_table(kind.table())?.insert(name.as_str(), bytes.as_slice())?.is_some() {
                    return Err(twice("document.name"));
                }
                self.counts.documents += 1;
            }
            Entry::Frontier(frontier) => {
                let kept = (frontier.at_ns, frontier.interval_ns);
                if self.write.open_table(FRONTIERS)?.insert(frontier.app.as_str(), kept)?.is_some() {
                    return Err(twice("frontier.app"));
                }
                self.counts.frontiers += 1;
            }
            Entry::Grant(id, kept) => {
                let bytes = kept.encode_to_vec();
                record::from_record(id, *kept, &mut Shared::default())
                    .map_err(|why| fault(format!("grant: {why}")))?;
                if id >= next {
                    return Err(fault(format!("grant.id: {id} is not before header.next_grant {next}")));
                }
                if self.write.open_table(GRANTS)?.insert(id.0, bytes.as_slice())?.is_some() {
                    return Err(twice("grant.id"));
                }
                self.counts.grants += 1;
            }
            Entry::End(id, kept) => {
                let bytes = kept.encode_to_vec();
                tombstone::from_record(id, kept).map_err(|why| fault(format!("end: {why}")))?;
                if self.write.open_table(TOMBSTONES)?.insert(id.0, bytes.as_slice())?.is_some() {
                    return Err(twice("end.id"));
                }
                self.counts.ends += 1;
            }
            Entry::Occupancy(number, kept) => {
                let bytes = kept.encode_to_vec();
                occupancy::from_record(number, kept).map_err(|why| fault(format!("occupancy: {why}")))?;
                if number >= next.0 {
                    return Err(fault(format!(
                        "occupancy.number: {number} is not before header.next_grant {next}"
                    )));
                }
                if self.write.open_table(OCCUPANCIES)?.insert(number, bytes.as_slice())?.is_some() {
                    return Err(twice("occupancy.number"));
                }
                self.counts.occupancies += 1;
            }
        }
        Ok(())
    }
}

/// The field and what is wrong with it; the column is that of the line, and serde's own number of it is always 1.
fn wording(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let (path, inner) = (error.path().to_string(), error.inner());
    let message = inner.to_string();
    let message = message.split(" at line 1 column ").next().unwrap_or(&message);
    let column = inner.column();
    match path.as_str() {
        "." | "?" => format!("column {column}: {message}"),
        path => format!("{path}: {message}, at column {column}"),
    }
}
