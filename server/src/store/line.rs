//! The lines of an exported store: JSON, one thing a line, the header first.

mod grant;
mod occupancy;
mod text;

use std::net::IpAddr;

use podgate_engine::{
    grant::GrantId,
    ticket::{KEY_BYTES, Key, Keys},
    time::WallTime,
};
use podgate_proto::store::TombstoneRecord;
use serde::{Deserialize, Serialize};

use self::text::{Base64, Hex};
pub(crate) use self::{grant::GrantLine, occupancy::OccupancyLine, text::Text};
use crate::store::{
    Kind,
    contents::{Entry, Frontier},
    desk::Secrets,
};

/// Version of the lines. It rises where an older podgate would misread them; unknown fields it refuses anyway.
pub(crate) const FORMAT: u32 = 1;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// What the file is, and how much of each must follow.
    Header(Header),
    /// What seals tickets.
    Secrets(SecretsLine),
    /// A document of the API.
    Document(DocumentLine),
    /// How far an app's slots may have been told.
    Frontier(FrontierLine),
    /// A grant.
    Grant(Box<GrantLine>),
    /// The end of a grant that the upstream has not heard of.
    End(EndLine),
    /// What is remembered of an address.
    Occupancy(OccupancyLine),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// [`FORMAT`].
    pub(crate) podgate_export: u32,
    /// The id of the next grant: ids never come twice.
    pub(crate) next_grant: Text<GrantId>,
    pub(crate) exported_at_ms: u64,
    pub(crate) counts: Counts,
}

/// How much there is of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Sets of keys that seal tickets, with the epoch.
    pub secrets: u64,
    /// Documents of the API.
    pub documents: u64,
    /// Frontiers of apps.
    pub frontiers: u64,
    /// Grants.
    pub grants: u64,
    /// Ends of grants that the upstream has not heard of.
    pub ends: u64,
    /// Addresses of which something is remembered.
    #[serde(default)]
    pub occupancies: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretsLine {
    epoch: Text<Hex>,
    keys_made_at_ms: u64,
    current: KeyLine,
    previous: Option<KeyLine>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyLine {
    id: u8,
    secret: Text<Base64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentLine {
    kind: KindName,
    name: String,
    /// The message of podgate.v1, encoded.
    message: Text<Base64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum KindName {
    AppProfile,
    CommonPorts,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrontierLine {
    app: String,
    at_ns: i64,
    interval_ns: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndLine {
    id: Text<GrantId>,
    generation: u64,
    app: String,
    cluster: String,
    address: IpAddr,
}

impl From<Secrets> for SecretsLine {
    fn from(secrets: Secrets) -> Self {
        let key = |key: Key| KeyLine { id: key.id, secret: Text(Base64(key.secret.to_vec())) };
        let Keys { current, previous } = secrets.keys;
        Self {
            epoch: Text(Hex(secrets.epoch)),
            keys_made_at_ms: secrets.keys_made_at.as_millis(),
            current: key(current),
            previous: previous.map(key),
        }
    }
}

impl TryFrom<SecretsLine> for Secrets {
    type Error = String;

    fn try_from(line: SecretsLine) -> Result<Self, String> {
        let key = |name: &str, line: KeyLine| {
            let secret = <[u8; KEY_BYTES]>::try_from(line.secret.0.0);
            let secret = secret.map_err(|_| format!("{name}.secret: a key has {KEY_BYTES} bytes"))?;
            Ok::<_, String>(Key { id: line.id, secret })
        };
        Ok(Self {
            epoch: line.epoch.0.0,
            keys: Keys {
                current: key("current", line.current)?,
                previous: line.previous.map(|line| key("previous", line)).transpose()?,
            },
            keys_made_at: WallTime::from_millis(line.keys_made_at_ms),
        })
    }
}

impl TryFrom<Entry> for Line {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        Ok(match entry {
            Entry::Document(kind, name, bytes) => {
                let kind = match kind {
                    Kind::Profile => KindName::AppProfile,
                    Kind::CommonPorts => KindName::CommonPorts,
                };
                Self::Document(DocumentLine { kind, name, message: Text(Base64(bytes)) })
            }
            Entry::Frontier(Frontier { app, at_ns, interval_ns }) => {
                Self::Frontier(FrontierLine { app, at_ns, interval_ns })
            }
            Entry::Grant(id, record) => Self::Grant(Box::new(grant::grant_line(id, *record)?)),
            Entry::Occupancy(number, record) => Self::Occupancy(occupancy::occupancy_line(number, record)?),
            Entry::End(id, TombstoneRecord { generation, app, cluster, address }) => {
                Self::End(EndLine { id: Text(id), generation, app, cluster, address: to_address(&address)? })
            }
        })
    }
}

impl From<DocumentLine> for Entry {
    fn from(line: DocumentLine) -> Self {
        let kind = match line.kind {
            KindName::AppProfile => Kind::Profile,
            KindName::CommonPorts => Kind::CommonPorts,
        };
        Self::Document(kind, line.name, line.message.0.0)
    }
}

impl From<FrontierLine> for Entry {
    fn from(FrontierLine { app, at_ns, interval_ns }: FrontierLine) -> Self {
        Self::Frontier(Frontier { app, at_ns, interval_ns })
    }
}

impl From<EndLine> for Entry {
    fn from(EndLine { id, generation, app, cluster, address }: EndLine) -> Self {
        Self::End(id.0, TombstoneRecord { generation, app, cluster, address: to_bytes(address) })
    }
}

fn to_address(bytes: &[u8]) -> Result<IpAddr, String> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Ok(v4.into()),
        (_, Ok(v6)) => Ok(v6.into()),
        (Err(_), Err(_)) => Err(format!("an address of {} bytes", bytes.len())),
    }
}

fn to_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
