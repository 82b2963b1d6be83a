//! The grant as a file for the pod's own containers: there whole, or not there.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use podgate_client::{Ask, Granted, Host, Origin, Subject, Verdict};
use serde::Serialize;

use crate::{utc, whole_file::WholeFile};

/// Who may read it: the main container may run as any user.
const MODE: u32 = 0o644;

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

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Removes what an earlier run left, which would else be taken for a living grant.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.0.remove()
    }

    /// Writes the grant.
    pub(crate) fn write(&self, ask: &Ask, granted: &Granted, now: SystemTime) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&document(ask, granted, now)).map_err(io::Error::other)?;
        text.push(b'\n');
        self.0.write(&text)
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
