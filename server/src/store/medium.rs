//! What a database lies on: one file in a directory that one process holds.

use std::{
    fmt,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use redb::{DatabaseError, StorageBackend, backends::FileBackend};
use tracing::warn;

use crate::store::{
    StoreError,
    finding::{Finding, Left, examine},
    recovery::{Listener, Recovery},
};

/// The store, in its directory.
const FILE: &str = "podgate.redb";
/// One that is being made, and takes its place when it is whole.
const BEING_MADE: &str = "podgate.redb.new";
/// One whose place was taken by an import.
const REPLACED: &str = "podgate.redb.replaced";
/// Locked by whoever works on the store.
const LOCK: &str = "podgate.lock";
/// Who may read them: the keys of tickets are in the store.
const MODE: u32 = 0o600;

/// Memory for pages. All grants are in memory anyway, and new ones go to the edge of the tree.
const CACHE_BYTES: usize = 64 << 20;

/// Where a database is opened, at first and after each failure.
pub(crate) trait Medium: fmt::Debug + Send {
    /// Opens what is there. Never makes anything: what was acknowledged is in it.
    fn open(&self) -> Result<(redb::Database, Recovery), StoreError>;

    /// Its name.
    fn name(&self) -> &Path;
}

/// A file, held by this process.
#[derive(Debug)]
pub(crate) struct StoreFile {
    path: PathBuf,
    directory: PathBuf,
    /// Released with the process, however that ends.
    _lock: File,
}

impl StoreFile {
    /// Holds the store of a directory; makes the directory if it is not there.
    pub(crate) fn hold(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|source| refused(directory, source))?;
        Self::lock(directory)
    }

    /// The same where there has to be a store already.
    pub(crate) fn hold_existing(directory: &Path) -> Result<Self, StoreError> {
        let file = directory.join(FILE);
        if file.try_exists().map_err(|source| refused(directory, source))? {
            Self::lock(directory)
        } else {
            Err(StoreError::Missing(file))
        }
    }

    fn lock(directory: &Path) -> Result<Self, StoreError> {
        let refuse = |source| refused(directory, source);
        let path = directory.join(FILE);
        let lock = OpenOptions::new().create(true).append(true).mode(MODE).open(directory.join(LOCK));
        let lock = lock.map_err(refuse)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path)),
            Err(TryLockError::Error(source)) => Err(refuse(source)),
        }
    }

    /// Whether there is a store.
    pub(crate) fn exists(&self) -> Result<bool, StoreError> {
        self.path.try_exists().map_err(|source| refused(&self.directory, source))
    }

    /// Makes a store as `fill` fills it. It is in its place whole or not at all, and one that was there is kept beside.
    /// Returns where, if there was one.
    pub(crate) fn make(
        &self,
        fill: impl FnOnce(&mut redb::Database) -> Result<(), StoreError>,
    ) -> Result<Option<PathBuf>, StoreError> {
        let refuse = |source| refused(&self.directory, source);
        let being_made = self.directory.join(BEING_MADE);
        if remove(&being_made).map_err(refuse)? {
            warn!(file = %being_made.display(), "a store that an earlier process did not finish making was removed");
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(&being_made);
        let made = file.map_err(refuse).and_then(|file| {
            let mut database = builder().create_with_backend(FileBackend::new(file)?)?;
            fill(&mut database)?;
            Ok(database.close()?)
        });
        if let Err(failure) = made {
            remove(&being_made).map_err(refuse)?;
            return Err(failure);
        }
        let replaced = self.put_in_place(&being_made).map_err(refuse)?;
        Ok(replaced)
    }

    /// How large it is.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.len())
    }

    fn put_in_place(&self, made: &Path) -> io::Result<Option<PathBuf>> {
        let replaced = self.directory.join(REPLACED);
        let replaced = if self.path.try_exists()? {
            remove(&replaced)?;
            fs::hard_link(&self.path, &replaced)?;
            Some(replaced)
        } else {
            None
        };
        File::open(made)?.sync_all()?;
        fs::rename(made, &self.path)?;
        File::open(&self.directory)?.sync_all()?;
        Ok(replaced)
    }
}

impl Medium for StoreFile {
    fn open(&self) -> Result<(redb::Database, Recovery), StoreError> {
        let refuse = |source| refused(&self.directory, source);
        let left = match examine(&self.path).map_err(refuse)? {
            Ok(left) => left,
            Err(finding) => return Err(StoreError::Unusable { file: self.path.clone(), finding }),
        };
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(refuse)?;
        // One from before may be open to others.
        file.set_permissions(Permissions::from_mode(MODE)).map_err(refuse)?;
        open_backend(FileBackend::new(file)?, left, &self.path)
    }

    fn name(&self) -> &Path {
        &self.path
    }
}

/// Opens a database that is there, and verifies every page of it: redb would trust a file that says that it was closed
/// in order, and read what has been damaged since as if it were so.
pub(crate) fn open_backend(
    backend: impl StorageBackend,
    left: Left,
    name: &Path,
) -> Result<(redb::Database, Recovery), StoreError> {
    let bytes = backend.len().map_err(redb::StorageError::from)?;
    let listener = Listener::new(left, bytes);
    let heard = listener.clone();
    let opened = builder()
        .set_check_integrity_on_open(true)
        .set_repair_callback(move |session| heard.hear(session.progress()))
        .create_with_backend(backend);
    match opened {
        Ok(database) => Ok((database, listener.recovery())),
        Err(DatabaseError::DatabaseAlreadyOpen) => Err(StoreError::InUse(name.to_owned())),
        Err(error) if is_damage(&error) => {
            Err(StoreError::Unusable { file: name.to_owned(), finding: Finding::from(error) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an error of opening tells of the file, and not of the disk below it.
fn is_damage(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::UpgradeRequired(_)
        | DatabaseError::RepairAborted
        | DatabaseError::Storage(redb::StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(redb::StorageError::Io(error)) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

fn builder() -> redb::Builder {
    let mut builder = redb::Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Removes a file; tells whether there was one.
fn remove(file: &Path) -> io::Result<bool> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn refused(directory: &Path, source: io::Error) -> StoreError {
    StoreError::Directory { directory: directory.to_owned(), source }
}
