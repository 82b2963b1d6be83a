//! Reads the documents of a directory, and only what changed since the last time.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use podgate_engine::{
    common_ports::CommonPorts,
    profile::{Profile, Source, Sourced},
    rate_limits::RateLimits,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::document::{
    fault::{DocumentFault, Position},
    policy::{self, Document},
};

/// Largest file.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most files.
const FILES_MAX: usize = 1_000_000;
/// Deepest sub-directory, so that a link to a parent ends.
const DEPTH_MAX: usize = 8;
/// Most faults told at once; beyond these there is a line that counts the rest.
const FAULTS_MAX: usize = 200;

/// Documents, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// The profiles.
    pub profiles: BTreeMap<Arc<str>, Sourced<Profile>>,
    /// The common ports.
    pub common: BTreeMap<Arc<str>, Sourced<CommonPorts>>,
    /// The rate limits.
    pub rate_limits: BTreeMap<Arc<str>, Sourced<RateLimits>>,
}

/// A directory of documents, with what was read of it before.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    files: FxHashMap<PathBuf, ReadFile>,
    state: State,
}

/// What the last look at all files came to.
#[derive(Debug)]
enum State {
    /// There was none that could read them all.
    Unread,
    /// They fit together.
    Good,
    /// Each is good by itself, and yet they do not fit together.
    Clashing(Vec<DocumentFault>),
}

/// What came of a look at the directory.
#[derive(Debug)]
pub enum Look {
    /// All files are as they were at the last good look.
    Unchanged,
    /// The documents as they stand now.
    Changed {
        /// All documents.
        documents: Documents,
        /// How many files were read anew.
        files_read: usize,
    },
    /// Something is wrong, and so the whole is not to be used.
    Faulty(Vec<DocumentFault>),
}

#[derive(Debug)]
struct ReadFile {
    stamp: Stamp,
    documents: Vec<ReadDocument>,
}

#[derive(Debug)]
struct ReadDocument {
    at: Position,
    etag: u64,
    document: Document,
}

/// Tells a file that may have changed from one that has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Directory {
    /// A directory of which nothing has been read yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root, files: FxHashMap::default(), state: State::Unread }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Looks at the directory, and reads what is new or changed.
    pub fn look(&mut self) -> Look {
        let mut found = Vec::new();
        let mut faults = Vec::new();
        list(&self.root, 0, &mut found, &mut faults);
        if !faults.is_empty() {
            return Look::Faulty(faults);
        }
        let is_known =
            |(path, stamp): &&(PathBuf, Stamp)| self.files.get(path).is_some_and(|file| file.stamp == *stamp);
        let changed: Vec<&(PathBuf, Stamp)> = found.iter().filter(|file| !is_known(file)).collect();
        if changed.is_empty() && found.len() == self.files.len() {
            match &self.state {
                State::Good => return Look::Unchanged,
                State::Clashing(faults) => return Look::Faulty(faults.clone()),
                State::Unread => {}
            }
        }
        let files_read = changed.len();
        let mut fresh = FxHashMap::default();
        for (path, stamp, result) in read_all(&changed) {
            match result {
                Ok(documents) => {
                    fresh.insert(path, ReadFile { stamp, documents });
                }
                Err(found) => faults.extend(found),
            }
        }
        if !faults.is_empty() {
            return Look::Faulty(bounded(faults));
        }
        let names: FxHashSet<&PathBuf> = found.iter().map(|(path, _)| path).collect();
        let kept = std::mem::take(&mut self.files);
        let mut files: FxHashMap<PathBuf, ReadFile> =
            kept.into_iter().filter(|(path, _)| names.contains(path)).collect();
        files.extend(fresh);
        let merged = merge(&files);
        self.files = files;
        match merged {
            Ok(documents) => {
                self.state = State::Good;
                Look::Changed { documents, files_read }
            }
            Err(faults) => {
                let faults = bounded(faults);
                self.state = State::Clashing(faults.clone());
                Look::Faulty(faults)
            }
        }
    }
}

fn bounded(mut faults: Vec<DocumentFault>) -> Vec<DocumentFault> {
    if faults.len() > FAULTS_MAX {
        let more = faults.len() - FAULTS_MAX;
        faults.truncate(FAULTS_MAX);
        faults.push(file_fault(Path::new("…"), format!("{more} more faults")));
    }
    faults
}

fn file_fault(path: &Path, message: String) -> DocumentFault {
    DocumentFault { file: path.display().to_string().into(), position: None, path: String::new(), message }
}

/// Lists the YAML files below `directory` by name. Hidden names are left out: so Kubernetes hides the versions of a
/// ConfigMap (`..data`), to which the visible names are links.
fn list(directory: &Path, depth: usize, found: &mut Vec<(PathBuf, Stamp)>, faults: &mut Vec<DocumentFault>) {
    let mut fault = |path: &Path, message: String| faults.push(file_fault(path, message));
    if depth > DEPTH_MAX {
        return fault(directory, format!("nested deeper than {DEPTH_MAX} directories"));
    }
    let entries = match fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => entries,
        Err(error) => return fault(directory, format!("cannot be read: {error}")),
    };
    let mut paths: Vec<PathBuf> = entries
        .iter()
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(fs::DirEntry::path)
        .collect();
    paths.sort_unstable();
    for path in paths {
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => list(&path, depth + 1, found, faults),
            Ok(metadata) if is_yaml && !metadata.is_file() => {
                faults.push(file_fault(&path, "is no file".to_owned()));
            }
            Ok(metadata) if is_yaml && metadata.len() > FILE_BYTES_MAX => {
                let message = format!("{} bytes; expected at most {FILE_BYTES_MAX}", metadata.len());
                faults.push(file_fault(&path, message));
            }
            Ok(metadata) if is_yaml && found.len() < FILES_MAX => found.push((path, Stamp::of(&metadata))),
            Ok(_) if is_yaml => {
                return faults.push(file_fault(directory, format!("more than {FILES_MAX} files")));
            }
            // A link to nowhere may stand for a whole team's directory; what is gone altogether went meanwhile.
            Err(error) if is_yaml || path.is_symlink() => {
                faults.push(file_fault(&path, format!("cannot be read: {error}")));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

type FileResult = (PathBuf, Stamp, Result<Vec<ReadDocument>, Vec<DocumentFault>>);

/// Reads files on all cores, and returns them in their order.
fn read_all(files: &[&(PathBuf, Stamp)]) -> Vec<FileResult> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let share = files.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = files
            .chunks(share)
            .map(|chunk| {
                scope.spawn(|| {
                    let files = chunk.iter();
                    files.map(|(path, stamp)| (path.clone(), *stamp, read_file(path))).collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = workers.into_iter();
        joined
            .flat_map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn read_file(path: &Path) -> Result<Vec<ReadDocument>, Vec<DocumentFault>> {
    let text = fs::read(path)
        .map_err(|error| format!("cannot be read: {error}"))
        .and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|error| format!("is not UTF-8 text (at byte {})", error.utf8_error().valid_up_to()))
        })
        .map_err(|message| vec![file_fault(path, message)])?;
    let documents = policy::read(&path.display().to_string().into(), &text)?;
    let documents = documents.into_iter();
    Ok(documents
        .map(|(at, document)| {
            let etag = match &document {
                Document::Profile(profile) => profile.etag(),
                Document::CommonPorts(common) => common.etag(),
                Document::RateLimits(limits) => limits.etag(),
            };
            ReadDocument { at, etag, document }
        })
        .collect())
}

fn merge(files: &FxHashMap<PathBuf, ReadFile>) -> Result<Documents, Vec<DocumentFault>> {
    let mut by_path: Vec<_> = files.iter().collect();
    by_path.sort_unstable_by_key(|(path, _)| *path);
    let (mut profiles, mut common, mut rate_limits) = (Vec::new(), Vec::new(), Vec::new());
    for (path, file) in by_path {
        let file_name: Arc<str> = path.display().to_string().into();
        for ReadDocument { at, etag, document } in &file.documents {
            let (etag, source) = (*etag, Source::File(Arc::clone(&file_name)));
            match document {
                Document::Profile(document) => {
                    let sourced = Sourced { document: Arc::clone(document), etag, source };
                    profiles.push((document.name.shared(), *at, sourced));
                }
                Document::CommonPorts(document) => {
                    let sourced = Sourced { document: Arc::clone(document), etag, source };
                    common.push((document.name.shared(), *at, sourced));
                }
                Document::RateLimits(document) => {
                    let sourced = Sourced { document: Arc::clone(document), etag, source };
                    rate_limits.push((document.name.shared(), *at, sourced));
                }
            }
        }
    }
    let mut faults = Vec::new();
    let by_domain =
        rate_limits.iter().map(|(_, at, limits)| (Arc::clone(&limits.document.domain), *at, limits.clone()));
    unique("RateLimits", "spec.domain", by_domain.collect(), &mut faults);
    let documents = Documents {
        profiles: unique("AppProfile", "metadata.name", profiles, &mut faults),
        common: unique("CommonPorts", "metadata.name", common, &mut faults),
        rate_limits: unique("RateLimits", "metadata.name", rate_limits, &mut faults),
    };
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

/// Documents by what has to tell them apart.
fn unique<T>(
    kind: &str,
    field: &str,
    mut named: Vec<(Arc<str>, Position, Sourced<T>)>,
    faults: &mut Vec<DocumentFault>,
) -> BTreeMap<Arc<str>, Sourced<T>> {
    let noun = field.rsplit('.').next().unwrap_or(field);
    named.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    for pair in named.windows(2) {
        if let [(name, first_at, first), (second_name, at, second)] = pair
            && name == second_name
            && let (Source::File(first_file), Source::File(file)) = (&first.source, &second.source)
        {
            faults.push(DocumentFault {
                file: Arc::clone(file),
                position: Some(*at),
                path: field.to_owned(),
                message: format!(
                    "a second {kind} has the {noun} `{name}`; the first is at {first_file}:{}:{}",
                    first_at.line, first_at.column
                ),
            });
        }
    }
    named.into_iter().map(|(name, _, sourced)| (name, sourced)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str) -> String {
        format!(
            "apiVersion: podgate.io/v1\nkind: AppProfile\nmetadata: {{ name: {name} }}\nspec:\n  subjects:\n    - \
             serviceAccount: {{ namespace: a, name: b }}\n  allow:\n    - {{ name: r, hosts: [db], ports: [1] }}\n"
        )
    }

    #[test]
    fn only_what_changed_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(home.path().join(name), text).unwrap();
        write("a.yaml", &profile("a"));
        write("b.yml", &profile("b"));
        write(".hidden.yaml", "not read");
        write("README.md", "not read");
        let mut directory = Directory::new(home.path().to_owned());
        assert!(
            matches!(directory.look(), Look::Changed { files_read: 2, documents } if documents.profiles.len() == 2)
        );
        assert!(matches!(directory.look(), Look::Unchanged));
        write("b.yml", &format!("{}---\n{}", profile("b"), profile("c")));
        assert!(
            matches!(directory.look(), Look::Changed { files_read: 1, documents } if documents.profiles.len() == 3)
        );
        fs::remove_file(home.path().join("a.yaml")).unwrap();
        assert!(
            matches!(directory.look(), Look::Changed { files_read: 0, documents } if documents.profiles.len() == 2)
        );
    }

    #[test]
    fn one_bad_file_spoils_the_whole_until_it_is_mended() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &[u8]| fs::write(home.path().join(name), text).unwrap();
        write("a.yaml", profile("a").as_bytes());
        let mut directory = Directory::new(home.path().to_owned());
        assert!(matches!(directory.look(), Look::Changed { .. }));
        write("b.yaml", b"kind: \xff");
        for _ in 0..2 {
            assert!(matches!(directory.look(), Look::Faulty(faults) if faults[0].message.contains("UTF-8")));
        }
        write("b.yaml", profile("a").as_bytes());
        for _ in 0..2 {
            assert!(
                matches!(directory.look(), Look::Faulty(faults) if faults[0].message.contains("a second AppProfile"))
            );
        }
        write("b.yaml", profile("b").as_bytes());
        assert!(matches!(directory.look(), Look::Changed { documents, .. } if documents.profiles.len() == 2));
    }

    #[test]
    fn an_empty_directory_is_read_once() {
        let home = tempfile::tempdir().unwrap();
        let mut directory = Directory::new(home.path().to_owned());
        assert!(matches!(directory.look(), Look::Changed { files_read: 0, .. }));
        assert!(matches!(directory.look(), Look::Unchanged));
        std::os::unix::fs::symlink("nowhere", home.path().join("team-a")).unwrap();
        assert!(matches!(directory.look(), Look::Faulty(_)));
    }

    #[test]
    fn a_missing_directory_and_a_loop_are_faults() {
        let home = tempfile::tempdir().unwrap();
        let missing = home.path().join("missing");
        assert!(matches!(Directory::new(missing).look(), Look::Faulty(_)));
        std::os::unix::fs::symlink(home.path(), home.path().join("loop")).unwrap();
        assert!(matches!(Directory::new(home.path().to_owned()).look(), Look::Faulty(_)));
    }
}
