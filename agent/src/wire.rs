//! Messages of the watch as the agent's own types.

use std::time::Duration;

use podgate_engine::{
    destination::Destination,
    grant::GrantId,
    host::parse_address,
    port::{PortRange, Protocol},
    time::WallTime,
};
use podgate_proto::v1;
use tracing::error;

use crate::{
    books::{Step, Told},
    door::Door,
    guards::Guards,
    ledger::{Holding, Removal},
};

/// A message that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Nonsense {
    /// It is a step of no known kind.
    #[error("a step is of unknown kind {0}")]
    Step(i32),
    /// A grant that cannot be told from others.
    #[error("a grant's id makes no sense: {0}")]
    Id(String),
    /// What a grant covers, or until when, cannot be read.
    #[error("grant {id}: {what}")]
    Grant {
        /// The grant.
        id: GrantId,
        /// What is wrong.
        what: String,
    },
}

/// A step of the watch.
pub(crate) fn step(message: &v1::GrantServiceWatchResponse, guards: &Guards) -> Result<Step, Nonsense> {
    let kind = v1::WatchStep::try_from(message.step).map_err(|_| Nonsense::Step(message.step))?;
    match kind {
        v1::WatchStep::Unspecified => Err(Nonsense::Step(message.step)),
        v1::WatchStep::Snapshot => Ok(Step::Snapshot(told(message, guards)?)),
        v1::WatchStep::SnapshotEnd => Ok(Step::SnapshotEnd(told(message, guards)?)),
        v1::WatchStep::Delta => Ok(Step::Delta(told(message, guards)?)),
        v1::WatchStep::Heartbeat => Ok(Step::Heartbeat),
    }
}

fn told(message: &v1::GrantServiceWatchResponse, guards: &Guards) -> Result<Told, Nonsense> {
    Ok(Told {
        upserts: message.upserts.iter().map(|grant| holding(grant, guards)).collect::<Result<_, _>>()?,
        removals: message.removals.iter().map(removal).collect::<Result<_, _>>()?,
    })
}

fn grant_id(text: &str) -> Result<GrantId, Nonsense> {
    text.parse().map_err(|error| Nonsense::Id(format!("{error}")))
}

fn removal(removal: &v1::GrantRemoval) -> Result<Removal, Nonsense> {
    Ok(Removal { id: grant_id(&removal.grant_id)?, generation: removal.generation })
}

fn holding(grant: &v1::Grant, guards: &Guards) -> Result<Holding, Nonsense> {
    let id = grant_id(&grant.grant_id)?;
    let fault = |what: String| Nonsense::Grant { id, what };
    let address = parse_address(&grant.address).map_err(|error| fault(error.to_string()))?;
    let ends = grant.expires_at.ok_or_else(|| fault("it has no end".to_owned()))?;
    let ends = wall_time(ends).ok_or_else(|| fault("its end is before 1970".to_owned()))?;
    // As long as we hear from the gateway it says itself when the grant ends.
    let grace = grant.grace.map(Duration::try_from).transpose();
    let grace = grace.map_err(|_| fault("its grace makes no sense".to_owned()))?;
    let until = ends.plus(grace.unwrap_or_default());
    let decisions = grant.decisions.iter();
    let doors = decisions.flat_map(|decision| doors(decision, guards, id)).collect();
    Ok(Holding { id, generation: grant.generation, address, doors, until })
}

/// What one decision opens. One that cannot be read opens nothing, and the others still count.
fn doors(decision: &v1::DestinationDecision, guards: &Guards, id: GrantId) -> Vec<Door> {
    match decision.verdict() {
        v1::Verdict::Allowed | v1::Verdict::Common => {}
        v1::Verdict::Denied | v1::Verdict::Unspecified => return Vec::new(),
    }
    match decision.destination.as_ref().map(destination) {
        Some(Ok(destination)) => guards.opened_by(&destination),
        Some(Err(what)) => {
            error!(grant = %id, %what, "a destination makes no sense, and opens nothing");
            Vec::new()
        }
        None => Vec::new(),
    }
}

fn destination(message: &v1::Destination) -> Result<Destination, String> {
    let host = message.host.parse().map_err(|error| format!("{error}"))?;
    let last = if message.last_port == 0 { message.port } else { message.last_port };
    let ports = PortRange::new(message.port, last).map_err(|error| error.to_string())?;
    let protocol = match message.protocol() {
        v1::Protocol::Unspecified | v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
    };
    Ok(Destination { host, ports, protocol })
}

/// A destination as the gateway reads it.
pub(crate) fn guard(destination: &Destination) -> v1::Destination {
    let mut message = v1::Destination {
        host: destination.host.to_string(),
        port: destination.ports.first().into(),
        last_port: destination.ports.last().into(),
        ..v1::Destination::default()
    };
    message.set_protocol(match destination.protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
    });
    message
}

fn wall_time(timestamp: prost_types::Timestamp) -> Option<WallTime> {
    let seconds = u64::try_from(timestamp.seconds).ok()?;
    let ms = u64::try_from(timestamp.nanos).ok()? / 1_000_000;
    Some(WallTime::from_millis(seconds.saturating_mul(1_000).saturating_add(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> v1::Grant {
        let decision = |host: &str, port, verdict: v1::Verdict| v1::DestinationDecision {
            destination: Some(v1::Destination { host: host.to_owned(), port, ..v1::Destination::default() }),
            verdict: verdict.into(),
            ..v1::DestinationDecision::default()
        };
        v1::Grant {
            grant_id: "00000000000000aa".to_owned(),
            generation: 3,
            address: "10.8.3.17".to_owned(),
            decisions: vec![
                decision("db.svc", 3306, v1::Verdict::Allowed),
                decision("db.svc", 3307, v1::Verdict::Common),
                decision("db.svc", 3308, v1::Verdict::Denied),
                decision("db.svc", 0, v1::Verdict::Allowed),
                decision("other.svc", 3309, v1::Verdict::Allowed),
            ],
            expires_at: Some(prost_types::Timestamp { seconds: 100, nanos: 500_000_000 }),
            ..v1::Grant::default()
        }
    }

    fn read(grant: v1::Grant) -> Result<Step, Nonsense> {
        let guards = Guards::new(vec!["db.svc:1-65535".parse().unwrap()]);
        let message = v1::GrantServiceWatchResponse {
            upserts: vec![grant],
            step: v1::WatchStep::Delta.into(),
            ..v1::GrantServiceWatchResponse::default()
        };
        step(&message, &guards)
    }

    fn holding_of(grant: v1::Grant) -> Holding {
        match read(grant) {
            Ok(Step::Delta(Told { mut upserts, .. })) => upserts.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_grant_opens_what_it_allows_here() {
        let holding = holding_of(grant());
        let ports: Vec<_> = holding.doors.iter().map(|door| door.ports.first()).collect();
        assert_eq!((holding.id, holding.generation, ports), (GrantId(0xaa), 3, vec![3306, 3307]));
        assert_eq!(holding.until, WallTime::from_millis(100_500));
        let graced = v1::Grant { grace: Some(prost_types::Duration { seconds: 60, nanos: 0 }), ..grant() };
        assert_eq!(holding_of(graced).until, WallTime::from_millis(160_500));
    }

    #[test]
    fn what_makes_no_sense_is_no_grant_without_rights() {
        let negative = Some(prost_types::Duration { seconds: -60, nanos: 0 });
        for (nonsense, why) in [
            (v1::Grant { grant_id: "aa".to_owned(), ..grant() }, "id"),
            (v1::Grant { address: "10.8.3".to_owned(), ..grant() }, "10.8.3"),
            (v1::Grant { address: "::ffff:10.8.3.17".to_owned(), ..grant() }, "IPv4"),
            (v1::Grant { expires_at: None, ..grant() }, "no end"),
            (v1::Grant { grace: negative, ..grant() }, "grace"),
        ] {
            let fault = read(nonsense).unwrap_err().to_string();
            assert!(fault.contains(why), "{fault}");
        }
        let unspecified = v1::GrantServiceWatchResponse::default();
        assert!(step(&unspecified, &Guards::new(Vec::new())).is_err());
    }
}
