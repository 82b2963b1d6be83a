//! A small file system of memory, to be filled.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

/// A file system of a few megabytes. Unmounted in the end.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one on a directory; none where this machine does not let us.
    ///
    /// # Panics
    ///
    /// Panics if there is no such directory and none can be made.
    pub fn mount(directory: &Path) -> Option<Self> {
        fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(directory).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(directory.to_owned()))
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    ///
    /// Panics if it has room for more than it should.
    pub fn fill(&self) {
        match fs::write(self.filler(), vec![0; 64 << 20]) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            other => panic!("{} is not full: {other:?}", self.0.display()),
        }
    }

    /// Has room again.
    ///
    /// # Panics
    ///
    /// Panics if it was not full.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It goes with the last who has a file open on it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
