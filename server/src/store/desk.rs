//! What the store keeps of the desk, so that tickets outlive a restart: the epoch, the keys, the frontiers up to which
//! slots may have been told, and the clock that all these are written in.

use std::{sync::Arc, time::Duration};

use podgate_engine::{
    desk::Kept,
    ticket::{KEY_BYTES, Key, Keys},
    time::{Moment, WallTime},
};
use rand::RngExt as _;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    clock,
    store::{StoreError, database::Origin},
};

pub(crate) const DESK: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("desk");
/// By app: the frontier, in nanoseconds of the kept clock, and T of its bucket in nanoseconds.
pub(crate) const FRONTIERS: TableDefinition<'_, &str, (i64, u64)> = TableDefinition::new("frontiers");
const EPOCH: &str = "epoch";
const BOOT: &str = "boot";
const CLOCK_OFFSET: &str = "clock_offset_ns";
const KEYS: &str = "ticket_keys";
/// Age at which a key is replaced. Two are valid at a time, and no slot lies further ahead than an hour.
const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a store kept of the desk.
#[derive(Clone, Debug)]
pub struct KeptDesk {
    /// Whether the store is new: nobody has been admitted, and nothing told.
    pub is_new: bool,
    /// Begins with the store: tickets of another one are worth nothing.
    pub epoch: u64,
    /// Seal and read tickets.
    pub keys: Keys,
    /// When the present key was made.
    pub keys_made_at: WallTime,
    /// The kept clock less the boot clock. It is the wall clock as it was when the machine was first seen after a boot,
    /// and goes on from there as the boot clock does: the wall clock may jump, and slots must not.
    pub clock_offset_ns: i64,
    /// Frontiers that lie ahead, on the boot clock.
    pub frontiers: Vec<Kept>,
}

/// What seals and reads tickets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secrets {
    /// Of the store.
    pub(crate) epoch: u64,
    /// The keys, and when the present one was made.
    pub(crate) keys: Keys,
    pub(crate) keys_made_at: WallTime,
}

/// Reads the secrets of a store, if it has any yet.
pub(crate) fn secrets(
    desk: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<Secrets>, StoreError> {
    let epoch = number(desk.get(EPOCH)?.map(|kept| kept.value().to_vec()), EPOCH)?;
    let keys = desk.get(KEYS)?.map(|kept| kept.value().to_vec());
    let keys =
        keys.map(|bytes| decode(&bytes).ok_or_else(|| unreadable(KEYS, "keys cut short"))).transpose()?;
    Ok(epoch.zip(keys).map(|(epoch, (keys, keys_made_at))| Secrets { epoch, keys, keys_made_at }))
}

/// Gives a store the secrets of another.
pub(crate) fn put_secrets(write: &WriteTransaction, secrets: &Secrets) -> Result<(), StoreError> {
    let mut desk = write.open_table(DESK)?;
    desk.insert(EPOCH, secrets.epoch.to_be_bytes().as_slice())?;
    desk.insert(KEYS, encode(&secrets.keys, secrets.keys_made_at).as_slice())?;
    Ok(())
}

/// Reads what is kept, and makes what is not there yet.
pub(crate) fn load(write: &WriteTransaction, origin: Origin) -> Result<KeptDesk, StoreError> {
    let mut desk = write.open_table(DESK)?;
    let kept_epoch = number(desk.get(EPOCH)?.map(|kept| kept.value().to_vec()), EPOCH)?;
    let epoch = match kept_epoch {
        Some(epoch) => epoch,
        None => {
            let epoch = rand::rng().random::<u64>();
            desk.insert(EPOCH, epoch.to_be_bytes().as_slice())?;
            epoch
        }
    };
    let (now, boot) = (clock::now(), clock::boot_id());
    let kept_boot = number(desk.get(BOOT)?.map(|kept| kept.value().to_vec()), BOOT)?;
    let kept_offset = number(desk.get(CLOCK_OFFSET)?.map(|kept| kept.value().to_vec()), CLOCK_OFFSET)?;
    let clock_offset_ns = match (kept_boot, kept_offset) {
        (Some(kept), Some(offset)) if kept == boot => offset.cast_signed(),
        _ => {
            let wall_ns =
                i64::try_from(u128::from(clock::wall().as_millis()) * 1_000_000).unwrap_or(i64::MAX);
            let offset = wall_ns.saturating_sub(now.as_nanos());
            desk.insert(BOOT, boot.to_be_bytes().as_slice())?;
            desk.insert(CLOCK_OFFSET, offset.cast_unsigned().to_be_bytes().as_slice())?;
            offset
        }
    };
    let kept_keys = desk.get(KEYS)?.map(|kept| kept.value().to_vec());
    let (keys, keys_made_at) = match kept_keys {
        Some(bytes) => decode(&bytes).ok_or_else(|| unreadable(KEYS, "keys cut short"))?,
        None => {
            let (keys, made_at) = (Keys::new(rand::rng().random::<[u8; KEY_BYTES]>()), clock::wall());
            desk.insert(KEYS, encode(&keys, made_at).as_slice())?;
            (keys, made_at)
        }
    };
    let frontiers = load_frontiers(write, now, clock_offset_ns)?;
    Ok(KeptDesk { is_new: origin == Origin::New, epoch, keys, keys_made_at, clock_offset_ns, frontiers })
}

/// Frontiers that lie ahead; those that have passed are forgotten.
fn load_frontiers(write: &WriteTransaction, now: Moment, offset_ns: i64) -> Result<Vec<Kept>, StoreError> {
    let mut table = write.open_table(FRONTIERS)?;
    let kept_now = now.offset(offset_ns).as_nanos();
    table.retain(|_, (frontier_ns, _)| frontier_ns > kept_now)?;
    let mut frontiers = Vec::new();
    for entry in table.iter()? {
        let (app, kept) = entry?;
        let (frontier_ns, interval_ns) = kept.value();
        let frontier = Moment::from_nanos(frontier_ns).offset(-offset_ns);
        let interval = Duration::from_nanos(interval_ns);
        frontiers.push(Kept { app: Arc::from(app.value()), frontier, interval });
    }
    Ok(frontiers)
}

/// Writes how far an app's slots may be told.
pub(crate) fn write_frontier(
    write: &WriteTransaction,
    app: &str,
    (frontier_ns, interval): (i64, Duration),
) -> Result<(), StoreError> {
    let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    write.open_table(FRONTIERS)?.insert(app, (frontier_ns, interval_ns))?;
    Ok(())
}

/// Writes the keys.
pub(crate) fn write_keys(write: &WriteTransaction, bytes: &[u8]) -> Result<(), StoreError> {
    write.open_table(DESK)?.insert(KEYS, bytes)?;
    Ok(())
}

/// The keys with a new one, where the present one is old; a clock that went back makes none old.
pub(crate) fn renewed(keys: &Keys, made_at: WallTime, now: WallTime) -> Option<Keys> {
    (made_at.plus(KEY_LIFE) <= now).then(|| keys.rotated(rand::rng().random::<[u8; KEY_BYTES]>()))
}

/// When it was made, and id and secret of each key.
pub(crate) fn encode(keys: &Keys, made_at: WallTime) -> Vec<u8> {
    let mut bytes = made_at.as_millis().to_be_bytes().to_vec();
    for key in std::iter::once(&keys.current).chain(&keys.previous) {
        bytes.push(key.id);
        bytes.extend(key.secret);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<(Keys, WallTime)> {
    let (made_at, keys) = bytes.split_first_chunk::<8>()?;
    let mut keys = keys.chunks(1 + KEY_BYTES).map(|bytes| {
        let (id, secret) = bytes.split_first()?;
        Some(Key { id: *id, secret: secret.try_into().ok()? })
    });
    let current = keys.next()??;
    let previous = match keys.next() {
        Some(key) => Some(key?),
        None => None,
    };
    Some((Keys { current, previous }, WallTime::from_millis(u64::from_be_bytes(*made_at))))
}

fn number(kept: Option<Vec<u8>>, key: &str) -> Result<Option<u64>, StoreError> {
    kept.map(|bytes| {
        let bytes = bytes.try_into().map_err(|_| unreadable(key, "not eight bytes"))?;
        Ok(u64::from_be_bytes(bytes))
    })
    .transpose()
}

fn unreadable(key: &str, why: &str) -> StoreError {
    StoreError::Record { table: "desk", key: key.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_renewed_when_they_are_old() {
        let made_at = WallTime::from_millis(1_000);
        let first = Keys::new([7; KEY_BYTES]);
        assert_eq!(decode(&encode(&first, made_at)), Some((first.clone(), made_at)));
        let day = made_at.plus(KEY_LIFE);
        assert_eq!(renewed(&first, made_at, WallTime::from_millis(0)), None);
        assert_eq!(renewed(&first, made_at, WallTime::from_millis(day.as_millis() - 1)), None);
        let second = renewed(&first, made_at, day).unwrap();
        assert_eq!(second.previous, Some(first.current));
        assert_ne!(second.current.secret, [7; KEY_BYTES]);
        assert_eq!(decode(&encode(&second, day)), Some((second, day)));
        assert_eq!(decode(&[1, 2, 3]), None);
    }
}
