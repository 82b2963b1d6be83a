//! Writes a JSON file whole or not at all.

use std::{
    io::{self, Write as _},
    path::Path,
};

use serde::Serialize;
use tempfile::NamedTempFile;

/// Writes `value` beside `path` under another name and renames it into place, so that a reader never sees half a file.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn replaces_what_was_there_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        super::write(&path, &[1, 2]).unwrap();
        super::write(&path, &"second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\"second\"\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
