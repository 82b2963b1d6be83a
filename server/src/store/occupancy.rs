//! What is remembered of addresses, as records under the number of their last change: like grants, new ones go to the right
//! edge of the tree.

use podgate_engine::{
    grant::Place,
    lease::{Former, Move, Occupancy, Seat},
    time::WallTime,
};
use podgate_proto::store::{FormerRecord, OccupancyRecord};
use prost::Message as _;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use crate::store::{StoreError, record};

pub(crate) const OCCUPANCIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("occupancies");

/// Reads all of them, those first that are forgotten first.
pub(crate) fn load(write: &WriteTransaction) -> Result<Vec<(Seat, Occupancy)>, StoreError> {
    let mut occupancies = Vec::new();
    for entry in write.open_table(OCCUPANCIES)?.iter()? {
        let (generation, bytes) = entry?;
        let generation = generation.value();
        let occupancy = OccupancyRecord::decode(bytes.value())
            .map_err(|error| error.to_string())
            .and_then(|record| from_record(generation, record))
            .map_err(|why| StoreError::Record { table: "occupancies", key: generation.to_string(), why })?;
        occupancies.push(occupancy);
    }
    occupancies.sort_by_key(|(_, occupancy)| occupancy.kept_until);
    Ok(occupancies)
}

/// Writes and forgets, by number.
pub(crate) fn write<'a>(
    write: &WriteTransaction,
    changes: impl Iterator<Item = (u64, Option<(&'a Seat, &'a Occupancy)>)>,
) -> Result<(), StoreError> {
    let mut table = write.open_table(OCCUPANCIES)?;
    for (generation, change) in changes {
        match change {
            Some((seat, occupancy)) => {
                table.insert(generation, to_record(seat, occupancy).encode_to_vec().as_slice())?;
            }
            None => {
                table.remove(generation)?;
            }
        }
    }
    Ok(())
}

fn to_record(seat: &Seat, occupancy: &Occupancy) -> OccupancyRecord {
    let former = |former: &Former| FormerRecord { uid: former.uid, until_ms: former.until.as_millis() };
    OccupancyRecord {
        cluster: seat.place.cluster.to_string(),
        address: record::to_bytes(seat.place.address),
        seat: seat.uid,
        holder: occupancy.holder,
        taken_from: match occupancy.last {
            Move::Taken { before } => Some(before),
            Move::Ended => None,
        },
        quarantined_until_ms: occupancy.quarantined_until.as_millis(),
        former: occupancy.former.iter().map(former).collect(),
        kept_until_ms: occupancy.kept_until.as_millis(),
    }
}

/// A record as what is remembered, or what is wrong with it.
pub(crate) fn from_record(generation: u64, record: OccupancyRecord) -> Result<(Seat, Occupancy), String> {
    let address = record::to_address(&record.address)?;
    let former =
        |former: FormerRecord| Former { uid: former.uid, until: WallTime::from_millis(former.until_ms) };
    let occupancy = Occupancy {
        generation,
        holder: record.holder,
        last: record.taken_from.map_or(Move::Ended, |before| Move::Taken { before }),
        quarantined_until: WallTime::from_millis(record.quarantined_until_ms),
        former: record.former.into_iter().map(former).collect(),
        kept_until: WallTime::from_millis(record.kept_until_ms),
    };
    Ok((Seat { place: Place { cluster: record.cluster.into(), address }, uid: record.seat }, occupancy))
}
