//! What lies in a store's place and is none that can be opened.
//!
//! podgate makes a store beside its place and renames it there when it is whole, and so never leaves half of one: a file
//! that is empty or has no head was cut short by something else, and held what was acknowledged.

use std::{fmt, fs::File, io::Read as _, path::Path};

/// How redb's files begin, and the byte after it, in which one bit says that the file was not closed in order
/// (redb, docs/design.md, "Database header").
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
const NOT_CLOSED: u8 = 2;

/// What was found in a store's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A file of no bytes.
    Empty,
    /// A file whose head was never written, or is lost.
    NoHead,
    /// Another kind of file.
    OtherFile,
    /// A redb database without podgate's tables.
    OtherDatabase,
    /// A store that is damaged: what the database says of it.
    Damaged(String),
    /// A store in a format of redb's that this podgate does not read.
    FileFormat(u8),
    /// A store with records that this podgate does not know.
    Schema {
        /// The version of its records.
        found: u64,
        /// The latest that this podgate knows.
        known: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => {
                f.write_str("it is empty; podgate never leaves an empty file, so what was in it is lost")
            }
            Self::NoHead => {
                f.write_str("it begins with zeros where a store has its head, which was overwritten or lost")
            }
            Self::OtherFile => f.write_str("it is no database of podgate's"),
            Self::OtherDatabase => f.write_str("it is a redb database, but holds none of podgate's tables"),
            Self::Damaged(why) => write!(f, "it is damaged: {why}"),
            Self::FileFormat(version) => {
                write!(f, "it is in file format {version}, which this podgate does not read")
            }
            Self::Schema { found, known } => {
                write!(f, "its records are of version {found}, and this podgate knows none after {known}")
            }
        }
    }
}

/// How a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Closed in order.
    Closed,
    /// Not closed: whoever had it open was killed or lost its power, or still has it open.
    Open,
}

/// Looks at the head of a file.
pub(crate) fn examine(file: &Path) -> std::io::Result<Result<Left, Finding>> {
    let mut head = Vec::new();
    File::open(file)?.take(MAGIC.len() as u64 + 1).read_to_end(&mut head)?;
    Ok(match head.split_first_chunk() {
        Some((&MAGIC, [flags, ..])) if flags & NOT_CLOSED == 0 => Ok(Left::Closed),
        Some((&MAGIC, [_, ..])) => Ok(Left::Open),
        Some(_) | None if head.is_empty() => Err(Finding::Empty),
        Some(_) | None if head.iter().all(|byte| *byte == 0) => Err(Finding::NoHead),
        Some(_) | None => Err(Finding::OtherFile),
    })
}

impl From<redb::DatabaseError> for Finding {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::UpgradeRequired(version) => Self::FileFormat(version),
            redb::DatabaseError::Storage(redb::StorageError::Corrupted(why)) => Self::Damaged(why),
            other => Self::Damaged(other.to_string()),
        }
    }
}
