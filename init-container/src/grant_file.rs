//! The grant as a file for the pod's own containers: there whole, or not there.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use podgate_client::{Ask, Granted, Host, Origin, Subject, Verdict};
use serde::Serialize;

use crate::utc;

/// Who may read it: the main container may run as any user.
const MODE: u32 = 0o644;

/// A place where a grant can be written.
#[derive(Debug)]
pub(crate) struct GrantFile {
    path: PathBuf,
    /// In the same directory, for a rename is atomic only there.
    temporary: PathBuf,
}

impl GrantFile {
    /// Tries the place, so that a wrong path is found before a grant is asked for.
    pub(crate) fn prepare(path: PathBuf) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        if path.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".tmp");
        let file = Self { temporary: path.with_file_name(hidden), path };
        file.open_temporary()?;
        fs::remove_file(&file.temporary)?;
        Ok(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an earlier run left, which would else be taken for a living grant.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the grant: whoever reads the file sees the old one or the new one, even through a power failure.
    pub(crate) fn write(&self, ask: &Ask, granted: &Granted, now: SystemTime) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&document(ask, granted, now)).map_err(io::Error::other)?;
        text.push(b'\n');
        let written = self.open_temporary().and_then(|mut file| {
            file.write_all(&text)?;
            // The mode given at opening is narrowed by the umask.
            file.set_permissions(Permissions::from_mode(MODE))?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            File::open(self.directory())?.sync_all()
        });
        if written.is_err() {
            // The error at hand says more than one from tidying up.
            let _ = fs::remove_file(&self.temporary);
        }
        written
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// A file of our own making: one that a crash left behind is removed, a link is not followed.
    fn open_temporary(&self) -> io::Result<File> {
        match fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(MODE).open(&self.temporary)
    }
}

#[derive(Serialize)]
struct Document<'a> {
    app: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodDocument<'a>>,
    origin: &'static str,
    shadow: bool,
    /// Absent for common ports, which need no grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    addresses: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    granted_at: String,
    policy_revision: &'a str,
    endpoint: String,
    destinations: Vec<DestinationDocument<'a>>,
}

#[derive(Serialize)]
struct PodDocument<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
}

#[derive(Serialize)]
struct DestinationDocument<'a> {
    host: String,
    port: u16,
    last_port: u16,
    protocol: String,
    verdict: &'static str,
    rule: &'a str,
    document: &'a str,
}

fn document<'a>(ask: &'a Ask, granted: &'a Granted, now: SystemTime) -> Document<'a> {
    let lease = granted.lease.as_ref();
    Document {
        app: &ask.app,
        pod: match &ask.subject {
            Subject::Pod(pod) => {
                Some(PodDocument { namespace: &pod.namespace, name: &pod.name, uid: &pod.uid })
            }
            Subject::StaticHost(_) => None,
        },
        origin: match granted.origin {
            Origin::Fresh => "fresh",
            Origin::Repeated => "repeated",
            Origin::Common => "common",
        },
        shadow: granted.shadow,
        grant_id: lease.map(|lease| lease.grant_id.as_str()),
        generation: lease.map(|lease| lease.generation),
        addresses: lease.map_or(&[], |lease| lease.addresses.as_slice()),
        expires_at: lease.and_then(|lease| lease.expires_at).map(utc::rfc3339),
        granted_at: utc::rfc3339(now),
        policy_revision: &granted.policy_revision,
        endpoint: granted.endpoint.to_string(),
        destinations: granted
            .decisions
            .iter()
            .map(|decision| DestinationDocument {
                host: match decision.destination.host() {
                    Host::Name(name) | Host::Wildcard(name) => name.clone(),
                    host @ (Host::Address(_) | Host::Network(..)) => host.to_string(),
                },
                port: decision.destination.port(),
                last_port: decision.destination.last_port(),
                protocol: decision.destination.protocol().to_string(),
                verdict: match decision.verdict {
                    Verdict::Allowed => "allowed",
                    Verdict::Common => "common",
                    Verdict::Denied(_) => "denied",
                },
                rule: &decision.rule,
                document: &decision.document,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_tried_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        GrantFile::prepare(directory.path().join("grant.json")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let refused = |path: &Path| GrantFile::prepare(path.to_owned()).unwrap_err().to_string();
        assert_eq!(refused(directory.path()), "it is a directory");
        assert_eq!(refused(Path::new("/")), "it names no file");
        assert_eq!(refused(Path::new("/nonexistent/g")), "No such file or directory (os error 2)");
    }

    #[test]
    fn an_old_grant_is_removed_and_a_missing_one_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = GrantFile::prepare(directory.path().join("grant.json")).unwrap();
        fs::write(file.path(), "old").unwrap();
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(!file.path().exists());
    }
}
