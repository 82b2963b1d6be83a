//! The directory that profiles are generated into: never one that holds somebody's own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{generate::COMMON_PORTS_FILE, json_file};

/// The file that says whose the directory is. The gateway skips hidden names.
const MARKER_FILE: &str = ".podgate-loadtest.json";

/// What was generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    pub(crate) apps: u32,
    pub(crate) rules: u32,
    pub(crate) seed: u64,
    pub(crate) per_file: u32,
}

/// Why a directory is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It holds something that `generate` did not make.
    #[error("{} is not empty, and not made by `podgate-loadtest generate`: choose another directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// It could not be read, made or emptied.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the directory, or empties one of an earlier run, and marks it.
pub(crate) fn claim(directory: &Path, marker: &Marker) -> Result<(), DirectoryError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| DirectoryError::Io { path, source }
    };
    fs::create_dir_all(directory).map_err(io(directory))?;
    let entries: Vec<PathBuf> = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(io(directory))?;
    let marker_file = directory.join(MARKER_FILE);
    if !entries.is_empty() && !is_marker(&marker_file) {
        return Err(DirectoryError::NotOurs { path: directory.to_owned() });
    }
    // The marker stays first and last, so that a run that is broken off can be repeated.
    json_file::write(&marker_file, marker).map_err(io(&marker_file))?;
    for path in entries.iter().filter(|path| is_generated(path)) {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(io(path))?;
    }
    Ok(())
}

fn is_marker(file: &Path) -> bool {
    fs::read(file).is_ok_and(|text| serde_json::from_slice::<Marker>(&text).is_ok())
}

/// Only what `generate` names so: whatever else somebody put beside it stays.
fn is_generated(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let directory = name.len() >= 4 && name.bytes().all(|byte| byte.is_ascii_digit());
    name == COMMON_PORTS_FILE || directory && path.is_dir() && !path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker { apps: 1, rules: 2, seed: 3, per_file: 4 };

    #[test]
    fn refuses_what_it_did_not_make() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mine.yaml"), "x").unwrap();
        assert!(matches!(claim(directory.path(), &MARKER), Err(DirectoryError::NotOurs { .. })));
        fs::write(directory.path().join(MARKER_FILE), "{}").unwrap();
        assert!(matches!(claim(directory.path(), &MARKER), Err(DirectoryError::NotOurs { .. })));
        assert_eq!(fs::read_to_string(directory.path().join("mine.yaml")).unwrap(), "x");
    }

    #[test]
    fn empties_its_own_and_spares_what_stands_beside() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        claim(&directory, &MARKER).unwrap();
        fs::create_dir(directory.join("0000")).unwrap();
        fs::write(directory.join("0000/apps-000000.yaml"), "x").unwrap();
        fs::write(directory.join("notes.txt"), "y").unwrap();
        claim(&directory, &MARKER).unwrap();
        assert!(!directory.join("0000").exists());
        assert!(directory.join("notes.txt").exists());
    }
}
