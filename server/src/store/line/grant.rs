//! A grant as a line.

use std::net::IpAddr;

use podgate_engine::{
    grant::GrantId,
    host::HostPattern,
    port::{PortRange, Protocol},
};
use podgate_proto::store::{DestinationRecord, GrantRecord};
use serde::{Deserialize, Serialize};

use crate::store::{
    contents::Entry,
    line::{
        text::{Hex, Text},
        to_address, to_bytes,
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantLine {
    id: Text<GrantId>,
    generation: u64,
    app: String,
    cluster: String,
    address: IpAddr,
    name: String,
    /// Of a pod; a machine has none.
    pod: Option<PodLine>,
    destinations: Vec<DestinationLine>,
    requests: Vec<Text<Hex>>,
    admitted_at_ns: u64,
    created_at_ms: u64,
    expires_at_ms: u64,
    policy_revision: Text<Hex>,
    shadow: bool,
    /// Whether its pod renews it. Older podgates know neither this nor the next.
    #[serde(default)]
    renewed: bool,
    #[serde(default)]
    grace_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PodLine {
    uid: String,
    namespace: String,
    service_account: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationLine {
    host: Text<HostPattern>,
    ports: Text<PortRange>,
    protocol: Text<Protocol>,
    basis: BasisName,
    document: String,
    rule: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BasisName {
    Profile,
    Common,
    Shadow,
}

/// Names each field of the record, so that none that is added later is left out.
pub(crate) fn grant_line(id: GrantId, record: GrantRecord) -> Result<GrantLine, String> {
    let GrantRecord {
        generation,
        app,
        cluster,
        address,
        pod_uid,
        namespace,
        name,
        service_account,
        node,
        destinations,
        request_digests,
        admitted_at_ns,
        created_at_ms,
        expires_at_ms,
        policy_revision,
        shadow,
        renewed,
        grace_ms,
    } = record;
    let pod = (!pod_uid.is_empty()).then_some(PodLine { uid: pod_uid, namespace, service_account, node });
    Ok(GrantLine {
        id: Text(id),
        generation,
        app,
        cluster,
        address: to_address(&address)?,
        name,
        pod,
        destinations: destinations.into_iter().map(destination_line).collect::<Result<_, _>>()?,
        requests: request_digests.into_iter().map(|digest| Text(Hex(digest))).collect(),
        admitted_at_ns,
        created_at_ms,
        expires_at_ms,
        policy_revision: Text(Hex(policy_revision)),
        shadow,
        renewed,
        grace_ms,
    })
}

impl From<GrantLine> for Entry {
    fn from(line: GrantLine) -> Self {
        let pod = line.pod.unwrap_or(PodLine {
            uid: String::new(),
            namespace: String::new(),
            service_account: String::new(),
            node: String::new(),
        });
        let record = GrantRecord {
            generation: line.generation,
            app: line.app,
            cluster: line.cluster,
            address: to_bytes(line.address),
            pod_uid: pod.uid,
            namespace: pod.namespace,
            name: line.name,
            service_account: pod.service_account,
            node: pod.node,
            destinations: line.destinations.into_iter().map(DestinationRecord::from).collect(),
            request_digests: line.requests.into_iter().map(|digest| digest.0.0).collect(),
            admitted_at_ns: line.admitted_at_ns,
            created_at_ms: line.created_at_ms,
            expires_at_ms: line.expires_at_ms,
            policy_revision: line.policy_revision.0.0,
            shadow: line.shadow,
            renewed: line.renewed,
            grace_ms: line.grace_ms,
        };
        Self::Grant(line.id.0, Box::new(record))
    }
}

fn destination_line(record: DestinationRecord) -> Result<DestinationLine, String> {
    let DestinationRecord { host, first_port, last_port, protocol, rule, document, basis } = record;
    let ports = PortRange::new(first_port, last_port).map_err(|error| error.to_string())?;
    Ok(DestinationLine {
        host: Text(host.parse().map_err(|error| format!("{error}"))?),
        ports: Text(ports),
        protocol: Text(match protocol {
            1 => Protocol::Tcp,
            2 => Protocol::Udp,
            other => return Err(format!("a protocol {other}")),
        }),
        basis: match basis {
            1 => BasisName::Profile,
            2 => BasisName::Common,
            3 => BasisName::Shadow,
            other => return Err(format!("a basis {other}")),
        },
        document,
        rule,
    })
}

impl From<DestinationLine> for DestinationRecord {
    fn from(line: DestinationLine) -> Self {
        Self {
            host: line.host.0.to_string(),
            first_port: line.ports.0.first().into(),
            last_port: line.ports.0.last().into(),
            protocol: match line.protocol.0 {
                Protocol::Tcp => 1,
                Protocol::Udp => 2,
            },
            rule: line.rule,
            document: line.document,
            basis: match line.basis {
                BasisName::Profile => 1,
                BasisName::Common => 2,
                BasisName::Shadow => 3,
            },
        }
    }
}
