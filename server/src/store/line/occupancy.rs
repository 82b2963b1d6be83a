//! What is remembered of an address, as a line.

use std::net::IpAddr;

use podgate_proto::store::{FormerRecord, OccupancyRecord};
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
pub(crate) struct OccupancyLine {
    number: u64,
    cluster: String,
    address: IpAddr,
    seat: Option<Text<Hex>>,
    holder: Text<Hex>,
    taken_from: Option<u64>,
    quarantined_until_ms: u64,
    former: Vec<FormerLine>,
    kept_until_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormerLine {
    uid: Text<Hex>,
    until_ms: u64,
}

/// Names each field of the record, so that none that is added later is left out.
pub(crate) fn occupancy_line(number: u64, record: OccupancyRecord) -> Result<OccupancyLine, String> {
    let OccupancyRecord {
        cluster,
        address,
        seat,
        holder,
        taken_from,
        quarantined_until_ms,
        former,
        kept_until_ms,
    } = record;
    let former_line = |FormerRecord { uid, until_ms }| FormerLine { uid: Text(Hex(uid)), until_ms };
    Ok(OccupancyLine {
        number,
        cluster,
        address: to_address(&address)?,
        seat: seat.map(|seat| Text(Hex(seat))),
        holder: Text(Hex(holder)),
        taken_from,
        quarantined_until_ms,
        former: former.into_iter().map(former_line).collect(),
        kept_until_ms,
    })
}

impl From<OccupancyLine> for Entry {
    fn from(line: OccupancyLine) -> Self {
        let former = |FormerLine { uid, until_ms }| FormerRecord { uid: uid.0.0, until_ms };
        let record = OccupancyRecord {
            cluster: line.cluster,
            address: to_bytes(line.address),
            seat: line.seat.map(|seat| seat.0.0),
            holder: line.holder.0.0,
            taken_from: line.taken_from,
            quarantined_until_ms: line.quarantined_until_ms,
            former: line.former.into_iter().map(former).collect(),
            kept_until_ms: line.kept_until_ms,
        };
        Self::Occupancy(line.number, record)
    }
}
