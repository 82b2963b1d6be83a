//! A disk for tests that forgets what was not synced: when its power goes, each write since the last sync is kept, lost or
//! torn between sectors, by a seed. And one that is full for a while.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use redb::StorageBackend;

use crate::store::{
    StoreError,
    database::furnish,
    finding::Left,
    medium::{Medium, open_backend},
    recovery::Recovery,
};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk. It outlives whoever writes to it.
#[derive(Clone, Debug)]
pub(crate) struct ForgetfulDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What is there whatever comes.
    durable: Vec<u8>,
    /// What is read: also what was written since the last sync.
    seen: Vec<u8>,
    pending: Vec<Pending>,
    chance: StdRng,
    /// Operations until the power goes.
    fuse: Option<u32>,
    power: Power,
    /// Rises with each failure of the power; whoever was connected before gets errors.
    life: u32,
    room: Room,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Left,
    /// A write may still seem to succeed; a sync does not.
    Full,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl ForgetfulDisk {
    /// An empty disk; all that it loses follows from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            seen: Vec::new(),
            pending: Vec::new(),
            chance: StdRng::seed_from_u64(seed),
            fuse: None,
            power: Power::On,
            life: 0,
            room: Room::Left,
        })))
    }

    /// Has the power go after so many operations.
    pub(crate) fn light_fuse(&self, operations: u32) {
        self.state().fuse = Some(operations);
    }

    /// Has the power go now, if it has not gone, and come back.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        if state.power == Power::On {
            state.cut_power();
        }
        state.power = Power::On;
        state.fuse = None;
    }

    /// Whether the power has gone.
    pub(crate) fn is_off(&self) -> bool {
        self.state().power == Power::Off
    }

    /// Has no room for anything.
    pub(crate) fn fill(&self) {
        self.state().room = Room::Full;
    }

    /// Has room again.
    pub(crate) fn make_room(&self) {
        self.state().room = Room::Left;
    }

    /// Makes a store on it.
    pub(crate) fn make_store(&self) {
        let mut database = redb::Builder::new().create_with_backend(self.connection()).unwrap();
        furnish(&mut database).unwrap();
        database.close().unwrap();
    }

    /// The way to it until the next failure of the power.
    fn connection(&self) -> Connection {
        Connection { disk: self.clone(), life: self.state().life }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(begin, written) => {
                let end = begin + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*begin..end].copy_from_slice(written);
            }
        }
    }
}

impl State {
    fn change(&mut self, change: Pending) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Each sector ends as one of the writes since the last sync left it, or as it was before all of them; the length is
    /// one of those that were set.
    fn cut_power(&mut self) {
        self.life += 1;
        self.power = Power::Off;
        self.fuse = None;
        let pending = std::mem::take(&mut self.pending);
        let kept_of_all = [0.0, 0.1, 0.5, 0.9, 1.0][self.chance.random_range(0..5)];
        let torn_of_all = [0.0, 0.3][self.chance.random_range(0..2)];
        let mut lengths = vec![self.durable.len()];
        let mut sectors: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut seen = self.durable.clone();
        for change in &pending {
            change.apply(&mut seen);
            match change {
                Pending::Length(length) => lengths.push(*length),
                Pending::Write(begin, bytes) => {
                    let is_kept = self.chance.random_bool(kept_of_all);
                    let is_torn = self.chance.random_bool(torn_of_all);
                    for sector in begin / SECTOR..(begin + bytes.len()).div_ceil(SECTOR) {
                        if if is_torn { self.chance.random_bool(0.5) } else { is_kept } {
                            let end = seen.len().min((sector + 1) * SECTOR);
                            sectors.insert(sector, seen[sector * SECTOR..end].to_vec());
                        }
                    }
                }
            }
        }
        for (sector, bytes) in sectors {
            Pending::Write(sector * SECTOR, bytes).apply(&mut self.durable);
        }
        let length = lengths[self.chance.random_range(0..lengths.len())];
        self.durable.resize(length, 0);
        self.seen = self.durable.clone();
    }
}

/// The way to a disk, as a process has it open.
#[derive(Debug)]
pub(crate) struct Connection {
    disk: ForgetfulDisk,
    life: u32,
}

impl Connection {
    /// The disk, if its power is on and stays on through this operation.
    fn at(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.state();
        if let Some(left) = &mut state.fuse {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.cut_power();
            }
        }
        if state.life != self.life || state.power == Power::Off {
            return Err(io::Error::other("the power is off"));
        }
        Ok(state)
    }
}

impl StorageBackend for Connection {
    fn len(&self) -> io::Result<u64> {
        Ok(self.at()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.at()?;
        let begin = offset as usize;
        let bytes = state.seen.get(begin..begin + out.len());
        out.copy_from_slice(bytes.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.at()?;
        if state.room == Room::Full && len > state.seen.len() as u64 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.change(Pending::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.at()?;
        if state.room == Room::Full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let State { durable, pending, .. } = &mut *state;
        pending.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.at()?;
        if state.room == Room::Full && state.chance.random_bool(0.5) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.change(Pending::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

impl Medium for ForgetfulDisk {
    fn open(&self) -> Result<(redb::Database, Recovery), StoreError> {
        open_backend(self.connection(), Left::Open, self.name())
    }

    fn name(&self) -> &Path {
        Path::new("forgetful")
    }
}
