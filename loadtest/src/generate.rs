//! `generate`: profiles for any number of apps, from a seed.

mod directory;
mod names;
mod profile;
mod rule;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cli::GenerateArgs,
    figures::grouped,
    generate::directory::{DirectoryError, Marker},
};

/// Files a sub-directory.
const FILES_PER_DIRECTORY: u32 = 1000;
/// Name of the file with the common ports.
const COMMON_PORTS_FILE: &str = "common-ports.yaml";

/// Why profiles could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The directory must not or cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the profiles, and says what it wrote.
pub fn run(args: &GenerateArgs) -> Result<String, GenerateError> {
    let marker = Marker { apps: args.apps, rules: args.rules, seed: args.seed, per_file: args.per_file };
    directory::claim(&args.out, &marker)?;
    write(&args.out.join(COMMON_PORTS_FILE), profile::COMMON_PORTS)?;
    let files = args.apps.div_ceil(args.per_file);
    for file in 0..files {
        let into = args.out.join(format!("{:04}", file / FILES_PER_DIRECTORY));
        if file % FILES_PER_DIRECTORY == 0 {
            fs::create_dir(&into).map_err(|source| GenerateError::Write { path: into.clone(), source })?;
        }
        let first = file * args.per_file;
        let documents: Vec<String> = (first..args.apps.min(first + args.per_file))
            .map(|app| profile::document(args.seed, app, args.rules))
            .collect();
        write(&into.join(format!("apps-{file:06}.yaml")), &documents.join("---\n"))?;
    }
    Ok(format!(
        "Wrote {} profiles of {} rules each into {} files under {}, and common ports beside them (seed {}).\n",
        grouped(u64::from(args.apps)),
        args.rules,
        grouped(u64::from(files)),
        args.out.display(),
        args.seed
    ))
}

fn write(path: &Path, text: &str) -> Result<(), GenerateError> {
    fs::write(path, text).map_err(|source| GenerateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn args(out: &Path, apps: u32, per_file: u32) -> GenerateArgs {
        GenerateArgs { apps, rules: 20, seed: 7, out: out.to_owned(), per_file }
    }

    /// All files below, by path.
    fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path));
            } else {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path, text);
            }
        }
        found
    }

    #[test]
    fn the_seed_decides_every_byte() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(&args(one.path(), 25, 10)).unwrap();
        run(&args(two.path(), 25, 10)).unwrap();
        let texts = |directory: &Path| files(directory).into_values().collect::<Vec<_>>();
        assert_eq!(texts(one.path()), texts(two.path()));
        let profiles: usize =
            texts(one.path()).iter().map(|text| text.matches("kind: AppProfile").count()).sum();
        assert_eq!(profiles, 25);
    }

    #[test]
    fn a_thousand_files_a_directory() {
        let out = tempfile::tempdir().unwrap();
        run(&args(out.path(), 1001, 1)).unwrap();
        let count = |name: &str| fs::read_dir(out.path().join(name)).unwrap().count();
        assert_eq!((count("0000"), count("0001")), (1000, 1));
    }

    #[test]
    fn a_second_run_leaves_nothing_of_the_first() {
        let out = tempfile::tempdir().unwrap();
        run(&args(out.path(), 1500, 1)).unwrap();
        run(&args(out.path(), 3, 1)).unwrap();
        let names: Vec<_> =
            files(out.path()).into_keys().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(
            names,
            [
                ".podgate-loadtest.json",
                "apps-000000.yaml",
                "apps-000001.yaml",
                "apps-000002.yaml",
                "common-ports.yaml"
            ]
        );
    }
}
