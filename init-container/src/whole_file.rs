//! A file that is there whole or not at all: written beside its place, synced and renamed.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// A place for such a file.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    /// In the same directory, for a rename is atomic only there.
    temporary: PathBuf,
    /// Who may read it.
    mode: u32,
}

impl WholeFile {
    /// The place; nothing is touched yet.
    pub(crate) fn at(path: PathBuf, mode: u32) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".tmp");
        Ok(Self { temporary: path.with_file_name(hidden), path, mode })
    }

    /// Tries the place, and leaves it as it was.
    pub(crate) fn probe(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        self.open_temporary()?;
        fs::remove_file(&self.temporary)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is there, if anything is. More than `bytes_max` is an error, and so is what is no file: opening a pipe
    /// would wait for its writer.
    pub(crate) fn read(&self, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is no file")),
            Ok(_) => {}
        }
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Removes the file; where there is none, that is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the file: whoever reads it sees the old one or the new one, even through a power failure.
    pub(crate) fn write(&self, text: &[u8]) -> io::Result<()> {
        let written = self.open_temporary().and_then(|mut file| {
            file.write_all(text)?;
            // The mode given at opening is narrowed by the umask.
            file.set_permissions(Permissions::from_mode(self.mode))?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            File::open(self.directory())?.sync_all()
        });
        if written.is_err() {
            // The error at hand says more than one from tidying up.
            let _ = fs::remove_file(&self.temporary);
        }
        written
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// A file of our own making: one that a crash left behind is removed, a link is not followed.
    fn open_temporary(&self) -> io::Result<File> {
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(self.mode).open(&self.temporary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &Path) -> io::Result<WholeFile> {
        WholeFile::at(path.to_owned(), 0o600)
    }

    #[test]
    fn a_place_is_tried_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        at(&directory.path().join("file")).unwrap().probe().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let refused = |path: &Path| at(path).and_then(|file| file.probe()).unwrap_err().to_string();
        assert_eq!(refused(directory.path()), "it is a directory");
        assert_eq!(refused(Path::new("/")), "it names no file");
        assert_eq!(refused(Path::new("/nonexistent/g")), "No such file or directory (os error 2)");
    }

    #[test]
    fn what_is_written_is_read_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = at(&directory.path().join("file")).unwrap();
        assert_eq!(file.read(3).unwrap(), None);
        fs::write(directory.path().join(".file.tmp"), "of a crash").unwrap();
        file.write(b"old").unwrap();
        file.write(b"new").unwrap();
        assert_eq!(file.read(3).unwrap().unwrap(), b"new");
        assert_eq!(file.path().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_too_large_or_no_file_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = at(&directory.path().join("file")).unwrap();
        file.write(b"four").unwrap();
        assert_eq!(file.read(3).unwrap_err().to_string(), "it is larger than 3 bytes");
        assert_eq!(at(directory.path()).unwrap().read(3).unwrap_err().to_string(), "it is no file");
        assert_eq!(at(Path::new("/dev/zero")).unwrap().read(3).unwrap_err().to_string(), "it is no file");
    }
}
