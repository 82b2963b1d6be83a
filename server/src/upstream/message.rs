//! Grants and their ends as messages of `podgate.upstream.v1`.

use podgate_engine::{
    grant::{Allowed, Grant},
    port::Protocol,
    subject::SubjectKind,
    time::WallTime,
};
use podgate_proto::upstream::{self as wire, AppliedGrant, Destination, RevokedGrant};
use prost_types::Timestamp;

use crate::store::Tombstone;

/// Most bytes of a batch: what gRPC servers take unless they are told otherwise is 4 MiB. One grant is always less.
pub(crate) const BATCH_BYTES_MAX: usize = 3 << 20;
/// Most bytes of a grant beside its destinations, and of one destination.
const GRANT_BYTES_MAX: usize = 1_024;
const DESTINATION_BYTES_MAX: usize = 288;

/// More bytes than the grant's message has; reckoned, not measured, since this is done with the intake locked.
pub(crate) fn bytes_max(grant: &Grant) -> usize {
    GRANT_BYTES_MAX + DESTINATION_BYTES_MAX * grant.allowed.len()
}

/// A grant as it is applied.
pub(crate) fn applied(grant: &Grant) -> AppliedGrant {
    let subject = &grant.subject;
    let (pod_uid, pod_name, namespace) = match &subject.kind {
        SubjectKind::Pod(pod) => (pod.uid.to_string(), pod.name.to_string(), pod.namespace.to_string()),
        SubjectKind::Host(name) => (String::new(), name.to_string(), String::new()),
    };
    AppliedGrant {
        grant_id: grant.id.to_string(),
        generation: grant.generation,
        app: grant.app.to_string(),
        cluster: subject.cluster.to_string(),
        address: subject.address.to_string(),
        pod_uid,
        pod_name,
        namespace,
        destinations: grant.allowed.iter().map(destination).collect(),
        expires_at: Some(timestamp(grant.expires_at)),
    }
}

/// An end as it is told.
pub(crate) fn revoked(tombstone: &Tombstone) -> RevokedGrant {
    RevokedGrant {
        grant_id: tombstone.id.to_string(),
        generation: tombstone.generation,
        app: tombstone.app.to_string(),
        cluster: tombstone.cluster.to_string(),
        address: tombstone.address.to_string(),
    }
}

fn destination(allowed: &Allowed) -> Destination {
    let podgate_engine::destination::Destination { host, ports, protocol } = &allowed.destination;
    Destination {
        host: host.to_string(),
        port: ports.first().into(),
        last_port: ports.last().into(),
        protocol: match protocol {
            Protocol::Tcp => wire::Protocol::Tcp.into(),
            Protocol::Udp => wire::Protocol::Udp.into(),
        },
    }
}

fn timestamp(time: WallTime) -> Timestamp {
    let ms = time.as_millis();
    Timestamp { seconds: (ms / 1_000) as i64, nanos: (ms % 1_000 * 1_000_000) as i32 }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use podgate_engine::{
        grant::{Basis, GrantId, Terms},
        lease::{Fallback, Tenure},
        subject::{PodIdentity, Subject},
        time::Moment,
        uid::Uid,
    };
    use prost::Message as _;

    use super::*;

    /// The largest grant that the engine makes is smaller than what is reckoned, and fits into a message.
    #[test]
    fn a_grant_is_never_larger_than_it_is_reckoned() {
        let label = "a".repeat(63);
        let host = [&*label, &*label, &*label, &"a".repeat(59)].join(".");
        let allowed = |port: u16| Allowed {
            destination: format!("*.{host}:{port}-65535/udp").parse().unwrap(),
            basis: Basis::Shadow,
        };
        let terms = |allowed| Terms {
            app: "a".repeat(253).into(),
            allowed,
            requests: Box::new([]),
            revision: 1,
            shadow: false,
            fallback: Fallback::Deny,
        };
        let uid: Uid = "u".repeat(64).into();
        let mut grant = Grant {
            id: GrantId(u64::MAX),
            generation: u64::MAX,
            terms: Arc::new(terms(Arc::new([]))),
            subject: Arc::new(Subject {
                cluster: label.clone().into(),
                address: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
                kind: SubjectKind::Pod(PodIdentity {
                    namespace: label.into(),
                    name: "n".repeat(253).into(),
                    uid,
                    service_account: "".into(),
                    node: "".into(),
                }),
            }),
            tenure: Tenure::Fixed,
            admitted_at: Moment::from_nanos(0),
            created_at: WallTime::from_millis(0),
            expires_at: WallTime::from_millis(0).plus(Duration::MAX),
        };
        assert!(applied(&grant).encoded_len() <= bytes_max(&grant));
        grant.terms = Arc::new(terms((0..8_192).map(|port| allowed(port + 50_000)).collect()));
        assert!(applied(&grant).encoded_len() <= bytes_max(&grant));
        assert!(applied(&grant).encoded_len() < 4 << 20);
        assert_eq!(applied(&grant).destinations[0].last_port, 65_535);
    }
}
