//! A temporary directory of one test, with the files in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// A temporary directory, removed in the end.
#[derive(Debug)]
pub struct Home(TempDir);

impl Home {
    /// A new one.
    ///
    /// # Panics
    ///
    /// Panics if there can be none.
    #[expect(clippy::new_without_default, reason = "a directory is made")]
    pub fn new() -> Self {
        match tempfile::Builder::new().prefix("podgate-tests-").tempdir() {
            Ok(directory) => Self(directory),
            Err(error) => panic!("no temporary directory: {error}"),
        }
    }

    /// The path of something in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there as a whole: whoever watches sees the old one or the new one.
    ///
    /// # Panics
    ///
    /// Panics if that fails.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        let directory = path.parent().unwrap_or(self.0.path());
        let hidden = directory.join(".being-written");
        let written = fs::create_dir_all(directory)
            .and_then(|()| fs::write(&hidden, text))
            .and_then(|()| fs::rename(&hidden, &path));
        if let Err(error) = written {
            panic!("{} cannot be written: {error}", path.display());
        }
    }

    /// Removes a file.
    ///
    /// # Panics
    ///
    /// Panics if that fails.
    pub fn remove(&self, name: impl AsRef<Path>) {
        let path = self.path(name);
        if let Err(error) = fs::remove_file(&path) {
            panic!("{} cannot be removed: {error}", path.display());
        }
    }

    /// The text of a file, if it is there.
    pub fn read(&self, name: impl AsRef<Path>) -> Option<String> {
        fs::read(self.path(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
