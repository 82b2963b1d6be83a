//! A wall clock of a gateway's own, by which leases end, set forward with libfaketime.

use std::{fs, path::PathBuf};

use crate::gateway::Setup;

/// The wall clock of one gateway.
#[derive(Debug)]
pub struct WallClock(PathBuf);

impl WallClock {
    /// Gives a gateway that is to start a wall clock of its own. Its other clocks are those of the machine.
    pub fn of(setup: Setup) -> (Setup, Self) {
        let clock = Self(setup.home().path("clock"));
        clock.forward("0");
        let file = clock.0.display().to_string();
        let setup = setup.variable("LD_PRELOAD", &libfaketime()).variable("FAKETIME_NO_CACHE", "1");
        let setup = setup.variable("FAKETIME_TIMESTAMP_FILE", &file);
        (setup.variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"), clock)
    }

    /// Sets it so far before the machine's, such as `61m`.
    ///
    /// # Panics
    ///
    /// Panics if it cannot.
    pub fn forward(&self, by: &str) {
        if let Err(error) = fs::write(&self.0, format!("+{by}")) {
            panic!("{}: {error}", self.0.display());
        }
    }
}

fn libfaketime() -> String {
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let paths = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = paths.into_iter().find(|path| path.is_file());
    let found =
        found.unwrap_or_else(|| panic!("libfaketime is not there; `./test` installs it (Debian: faketime)"));
    found.display().to_string()
}
