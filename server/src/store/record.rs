//! Grants as records of the store, and back.

use std::{net::IpAddr, sync::Arc};

use podgate_engine::{
    destination::Destination,
    grant::{Allowed, Basis, Grant, GrantId},
    index::RuleRef,
    port::{PortRange, Protocol},
    subject::{PodIdentity, Subject, SubjectKind},
    time::{Moment, WallTime},
};
use podgate_proto::store::{DestinationRecord, GrantRecord};

/// A grant as a record.
pub fn to_record(grant: &Grant) -> GrantRecord {
    let mut record = GrantRecord {
        generation: grant.generation,
        app: grant.app.to_string(),
        cluster: grant.subject.cluster.to_string(),
        address: match grant.subject.address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        },
        destinations: grant.allowed.iter().map(to_destination).collect(),
        request_digests: grant.requests.to_vec(),
        admitted_at_ns: grant.admitted_at.as_nanos() as u64,
        created_at_ms: grant.created_at.as_millis(),
        expires_at_ms: grant.expires_at.as_millis(),
        policy_revision: grant.revision,
        shadow: grant.shadow,
        ..GrantRecord::default()
    };
    match &grant.subject.kind {
        SubjectKind::Pod(pod) => {
            record.pod_uid = pod.uid.to_string();
            record.namespace = pod.namespace.to_string();
            record.name = pod.name.to_string();
            record.service_account = pod.service_account.to_string();
            record.node = pod.node.to_string();
        }
        SubjectKind::Host(name) => record.name = name.to_string(),
    }
    record
}

fn to_destination(allowed: &Allowed) -> DestinationRecord {
    let (basis, rule) = match &allowed.basis {
        Basis::Profile(rule) => (1, Some(rule)),
        Basis::Common(rule) => (2, Some(rule)),
        Basis::Shadow => (3, None),
    };
    let Destination { host, ports, protocol } = &allowed.destination;
    DestinationRecord {
        host: host.to_string(),
        first_port: ports.first().into(),
        last_port: ports.last().into(),
        protocol: match protocol {
            Protocol::Tcp => 1,
            Protocol::Udp => 2,
        },
        rule: rule.map(|rule| rule.rule.to_string()).unwrap_or_default(),
        document: rule.map(|rule| rule.document.to_string()).unwrap_or_default(),
        basis,
    }
}

/// A record as a grant, or what is wrong with it.
pub fn from_record(id: GrantId, record: GrantRecord) -> Result<Grant, String> {
    let address = match (<[u8; 4]>::try_from(&*record.address), <[u8; 16]>::try_from(&*record.address)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        (Err(_), Err(_)) => return Err(format!("an address of {} bytes", record.address.len())),
    };
    let kind = if record.pod_uid.is_empty() {
        SubjectKind::Host(record.name.into())
    } else {
        SubjectKind::Pod(PodIdentity {
            namespace: record.namespace.into(),
            name: record.name.into(),
            uid: record.pod_uid.into(),
            service_account: record.service_account.into(),
            node: record.node.into(),
        })
    };
    Ok(Grant {
        id,
        generation: record.generation,
        app: record.app.into(),
        subject: Arc::new(Subject { cluster: record.cluster.into(), address, kind }),
        allowed: record.destinations.into_iter().map(from_destination).collect::<Result<Arc<[_]>, _>>()?,
        requests: record.request_digests.into(),
        admitted_at: Moment::from_nanos(record.admitted_at_ns as i64),
        created_at: WallTime::from_millis(record.created_at_ms),
        expires_at: WallTime::from_millis(record.expires_at_ms),
        revision: record.policy_revision,
        shadow: record.shadow,
    })
}

fn from_destination(record: DestinationRecord) -> Result<Allowed, String> {
    let rule = RuleRef { document: record.document.into(), rule: record.rule.into() };
    Ok(Allowed {
        destination: Destination {
            host: record.host.parse().map_err(|error| format!("{error}"))?,
            ports: PortRange::new(record.first_port, record.last_port).map_err(|error| error.to_string())?,
            protocol: match record.protocol {
                1 => Protocol::Tcp,
                2 => Protocol::Udp,
                other => return Err(format!("a protocol {other}")),
            },
        },
        basis: match record.basis {
            1 => Basis::Profile(rule),
            2 => Basis::Common(rule),
            3 => Basis::Shadow,
            other => return Err(format!("a basis {other}")),
        },
    })
}
