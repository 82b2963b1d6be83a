//! `podgate validate`: the check that editors and CI run.

use std::path::PathBuf;

use clap::ArgMatches;

use crate::{
    command::{complain, exit_code, say},
    source::directory::{Directory, Documents, Look},
};

/// Runs `podgate validate DIR`.
pub fn run(matches: &ArgMatches) -> u8 {
    let Some(root) = matches.get_one::<PathBuf>("directory") else {
        return exit_code::MISCONFIGURED;
    };
    match load(root.clone()) {
        Ok(documents) => {
            let Documents { profiles, common, rate_limits } = documents;
            say([format!(
                "{}: {} profiles, {} common-ports documents and {} rate-limits documents, all good",
                root.display(),
                profiles.len(),
                common.len(),
                rate_limits.len()
            )]);
            exit_code::OK
        }
        Err(faults) => {
            let count = faults.len();
            complain(
                faults.into_iter().chain([format!("{count} faults; nothing of this would be put in force")]),
            );
            exit_code::MISCONFIGURED
        }
    }
}

/// Reads all documents of a directory, or tells everything that is wrong with them.
pub fn load(root: PathBuf) -> Result<Documents, Vec<String>> {
    match Directory::new(root).look() {
        Look::Changed { documents, .. } => Ok(documents),
        Look::Unchanged => Ok(Documents::default()),
        Look::Faulty(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}
