//! Writes a JSON file whole or not at all.

use std::{io, path::Path};

use serde::Serialize;

use crate::whole_file;

/// Writes `value`, indented, as [`whole_file::write`] does.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    whole_file::write(path, &text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn ends_with_a_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        super::write(&path, &"second").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\"second\"\n");
    }
}
