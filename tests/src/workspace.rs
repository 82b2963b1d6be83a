//! The workspace as cargo and the file system know it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::rust_file::RustFile;

/// Directories that hold no code of ours.
const NOT_OURS: [&str; 3] = ["target", "node_modules", ".git"];

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub struct Crate {
    /// Its package's name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// The names of the packages that it is built on.
    pub dependencies: BTreeSet<String>,
    /// The names of the packages that its tests and benchmarks are built on besides.
    pub dev_dependencies: BTreeSet<String>,
}

/// The workspace's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Runs cargo without the network and without touching the lock file, and returns what it says.
///
/// # Panics
///
/// Panics if it fails.
pub fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--offline", "--locked"]).current_dir(root());
    let output = command.output().unwrap_or_else(|error| panic!("cargo does not start: {error}"));
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All crates, by name.
///
/// # Panics
///
/// Panics if cargo tells something else than it does today.
pub fn crates() -> Vec<Crate> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let packages =
        metadata["packages"].as_array().unwrap_or_else(|| panic!("cargo metadata has no packages"));
    let mut crates: Vec<Crate> = packages.iter().map(read_package).collect();
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    crates
}

fn read_package(package: &Value) -> Crate {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let (dev, built_on): (Vec<&Value>, Vec<&Value>) =
        dependencies.iter().partition(|dependency| dependency["kind"] == "dev");
    let names = |of: Vec<&Value>| of.iter().map(|dependency| text(&dependency["name"])).collect();
    Crate {
        name: text(&package["name"]),
        directory: manifest.parent().unwrap_or(root()).to_owned(),
        dependencies: names(built_on),
        dev_dependencies: names(dev),
    }
}

impl Crate {
    /// The files of its `src`, read.
    pub fn sources(&self) -> Vec<RustFile> {
        rust_files(&self.directory.join("src"))
    }
}

/// All Rust files below a directory, read.
pub fn rust_files(directory: &Path) -> Vec<RustFile> {
    let mut paths = Vec::new();
    list(directory, &mut paths);
    paths.sort_unstable();
    paths.iter().map(|path| RustFile::read(path)).collect()
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
        if path.is_dir() && is_ours {
            list(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}
