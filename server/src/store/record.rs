//! Grants as records of the store, and back.

use std::{net::IpAddr, sync::Arc, time::Duration};

use podgate_engine::{
    destination::Destination,
    grant::{Allowed, Basis, Grant, GrantId, Terms},
    index::RuleRef,
    lease::{Fallback, Tenure},
    port::{PortRange, Protocol},
    shared::Shared,
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
        address: to_bytes(grant.subject.address),
        destinations: grant.allowed.iter().map(to_destination).collect(),
        request_digests: grant.requests.to_vec(),
        admitted_at_ns: grant.admitted_at.as_nanos() as u64,
        created_at_ms: grant.created_at.as_millis(),
        expires_at_ms: grant.expires_at.as_millis(),
        policy_revision: grant.revision,
        shadow: grant.shadow,
        renewed: match grant.tenure {
            Tenure::Fixed => false,
            Tenure::Renewed => true,
        },
        grace_ms: match grant.fallback {
            Fallback::Deny => None,
            Fallback::LastGrant(grace) => Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
        },
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

/// An address as 4 or 16 bytes.
pub(crate) fn to_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// 4 or 16 bytes as an address, or what is wrong with them.
pub(crate) fn to_address(bytes: &[u8]) -> Result<IpAddr, String> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Ok(IpAddr::from(v4)),
        (_, Ok(v6)) => Ok(IpAddr::from(v6)),
        (Err(_), Err(_)) => Err(format!("an address of {} bytes", bytes.len())),
    }
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

/// A record as a grant that shares what others have as well, or what is wrong with it.
pub fn from_record(id: GrantId, record: GrantRecord, shared: &mut Shared) -> Result<Grant, String> {
    let address = to_address(&record.address)?;
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
        terms: shared.terms(Terms {
            app: record.app.into(),
            allowed: record
                .destinations
                .into_iter()
                .map(from_destination)
                .collect::<Result<Arc<[_]>, _>>()?,
            requests: record.request_digests.into(),
            revision: record.policy_revision,
            shadow: record.shadow,
            fallback: record
                .grace_ms
                .map_or(Fallback::Deny, |ms| Fallback::LastGrant(Duration::from_millis(ms))),
        }),
        subject: shared.subject(&Subject { cluster: record.cluster.into(), address, kind }),
        tenure: if record.renewed { Tenure::Renewed } else { Tenure::Fixed },
        admitted_at: Moment::from_nanos(record.admitted_at_ns as i64),
        created_at: WallTime::from_millis(record.created_at_ms),
        expires_at: WallTime::from_millis(record.expires_at_ms),
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
