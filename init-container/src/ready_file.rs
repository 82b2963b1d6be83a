//! The sign that the pod may start: a file that a living sidecar holds locked.
//!
//! The lock goes with the process. So a file that a killed sidecar left behind says nothing.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// Its name beside a grant file.
const NAME: &str = "podgate-ready";

/// A place for the sign.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
    /// Where it is locked before it is seen.
    hidden: PathBuf,
}

/// The sign as long as it is given.
#[derive(Debug)]
pub(crate) struct Sign {
    _locked: File,
}

/// What the sign says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The pod may start.
    Ready,
    /// There is no sign.
    NoSign,
    /// There is one, but nobody who holds it.
    Stale,
}

impl ReadyFile {
    /// The place; nothing is touched yet.
    pub(crate) fn at(path: PathBuf) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".tmp");
        Ok(Self { hidden: path.with_file_name(hidden), path })
    }

    /// Where it is unless another place is named.
    pub(crate) fn beside(grant_file: &Path) -> PathBuf {
        grant_file.with_file_name(NAME)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes back what an earlier start said.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Says that the pod may start, until the sign is dropped.
    pub(crate) fn give(&self) -> io::Result<Sign> {
        match std::fs::remove_file(&self.hidden) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&self.hidden)?;
        // Nobody else knows of it yet.
        file.try_lock().map_err(io::Error::from)?;
        std::fs::rename(&self.hidden, &self.path)?;
        Ok(Sign { _locked: file })
    }

    /// What is said.
    pub(crate) fn read(&self) -> io::Result<Readiness> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Readiness::NoSign),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Readiness::Stale),
            Err(TryLockError::WouldBlock) => Ok(Readiness::Ready),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_worth_as_much_as_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = ReadyFile::at(directory.path().join("ready")).unwrap();
        assert_eq!(file.read().unwrap(), Readiness::NoSign);
        let sign = file.give().unwrap();
        assert_eq!((file.read().unwrap(), file.read().unwrap()), (Readiness::Ready, Readiness::Ready));
        drop(sign);
        assert_eq!(file.read().unwrap(), Readiness::Stale);
        let again = file.give().unwrap();
        assert_eq!(file.read().unwrap(), Readiness::Ready);
        file.clear().unwrap();
        file.clear().unwrap();
        assert_eq!(file.read().unwrap(), Readiness::NoSign);
        drop(again);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_is_none_is_an_error() {
        assert_eq!(ReadyFile::at("/".into()).unwrap_err().to_string(), "it names no file");
        assert!(ReadyFile::at("/nonexistent/r".into()).unwrap().give().is_err());
    }
}
