//! The grant as a file for the pod's own containers: there whole, or not there.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use podgate_client::{Ask, Granted, Holding, Host, Origin, Subject, Verdict};
use serde::{Deserialize, Serialize};

use crate::{utc, whole_file::WholeFile};

/// Who may read it: the main container may run as any user.
const MODE: u32 = 0o644;

/// Largest file that is read: room for every destination that one request may have.
const BYTES_MAX: u64 = 1 << 20;

/// A place where a grant can be written.
#[derive(Debug)]
pub(crate) struct GrantFile(WholeFile);

impl GrantFile {
    /// Tries the place, so that a wrong path is found before a grant is asked for.
    pub(crate) fn prepare(path: PathBuf) -> io::Result<Self> {
        let file = WholeFile::at(path, MODE)?;
        file.probe()?;
        Ok(Self(file))
    }

    /// A place that is only read, and perhaps cleared.
    pub(crate) fn at(path: PathBuf) -> io::Result<Self> {
        WholeFile::at(path, MODE).map(Self)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes what an earlier run left, which would else be taken for a living grant.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }

    /// The grant that is written there; none where there is no file, or none is needed for what it allows. An error says
    /// why what is there can't be used.
    pub(crate) fn read(&self) -> Result<Option<Record>, String> {
        let Some(json) = self.0.read(BYTES_MAX).map_err(|error| format!("it can't be read: {error}"))? else {
            return Ok(None);
        };
        let document: RecordDocument = serde_json::from_slice(&json)
            .map_err(|error| format!("it is not what this program writes: {error}"))?;
        let RecordDocument { app, pod, grant_id, generation } = document;
        let Some(grant_id) = grant_id else { return Ok(None) };
        let generation = generation.ok_or("it names a grant without its generation")?;
        let pod_uid = pod.map(|pod| pod.uid).unwrap_or_default();
        Ok(Some(Record { app, holding: Holding { grant_id, pod_uid, generation } }))
    }

    /// Writes the grant.
    pub(crate) fn write(&self, ask: &Ask, granted: &Granted, now: SystemTime) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&document(ask, granted, now)).map_err(io::Error::other)?;
        text.push(b'\n');
        self.0.write(&text)
    }
}

/// A grant that was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) app: String,
    pub(crate) holding: Holding,
}

/// What of the file is read again.
#[derive(Deserialize)]
struct RecordDocument {
    app: String,
    pod: Option<PodRecord>,
    grant_id: Option<String>,
    generation: Option<u64>,
}

#[derive(Deserialize)]
struct PodRecord {
    uid: String,
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
    fn what_is_read_again_names_the_grant_and_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let file = GrantFile::prepare(directory.path().join("grant.json")).unwrap();
        assert_eq!(file.read(), Ok(None));
        let read = |json: &str| {
            std::fs::write(file.path(), json).unwrap();
            file.read()
        };
        let record =
            read(r#"{"app": "a", "pod": {"uid": "u-1", "name": ""}, "grant_id": "aa", "generation": 3}"#);
        let holding = Holding { grant_id: "aa".to_owned(), pod_uid: "u-1".to_owned(), generation: 3 };
        assert_eq!(record, Ok(Some(Record { app: "a".to_owned(), holding })));
        let machine = read(r#"{"app": "a", "grant_id": "aa", "generation": 3}"#).unwrap().unwrap();
        assert_eq!(machine.holding.pod_uid, "");
        assert_eq!(read(r#"{"app": "a", "origin": "common"}"#), Ok(None));
        assert_eq!(
            read(r#"{"app": "a", "grant_id": "aa"}"#),
            Err("it names a grant without its generation".to_owned())
        );
        assert!(read(r#"{"app": "#).unwrap_err().starts_with("it is not what this program writes: "));
        let directory = GrantFile::at(directory.path().to_owned()).unwrap();
        assert_eq!(directory.read(), Err("it can't be read: it is no file".to_owned()));
    }
}
