//! What should be in force, what is, and the steps from one to the other. Pure: time comes in as `now`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    net::IpAddr,
    time::Duration,
};

use podgate_engine::time::WallTime;

use crate::{
    door::{Door, Element, Family, Opening},
    ledger::{Holding, Ledger, Removal},
    openings::Openings,
};

/// Most elements that one change takes out or puts in, but for the last address, which is changed as a whole.
pub(crate) const CHANGE_ELEMENTS_MAX: usize = 4_096;
/// An element that ends so much earlier or later than it should stays as it is: nft lists whole seconds.
const END_SLACK: Duration = Duration::from_secs(2);

/// The bounds of the books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most grants that are remembered.
    pub(crate) grants_max: usize,
    /// Most elements in each of the two sets.
    pub(crate) elements_max: usize,
}

/// A step of the watch, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A part of the snapshot.
    Snapshot(Told),
    /// Its last part: what it did not name is gone.
    SnapshotEnd(Told),
    /// A change.
    Delta(Told),
    /// Nothing new.
    Heartbeat,
}

/// What a step says of grants; of each at most one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Grants that are new or changed.
    pub(crate) upserts: Vec<Holding>,
    /// Grants that ended, or open nothing here any more.
    pub(crate) removals: Vec<Removal>,
}

/// A change came where only a snapshot makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a change came before the snapshot was whole")]
pub(crate) struct OutOfOrder;

/// How far what is in force is all that should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Completeness {
    /// No snapshot has come yet.
    Unknown,
    /// All of it is in force.
    Whole,
    /// There is no room in the sets for all that some addresses may reach.
    NoRoom {
        /// How many addresses.
        addresses: usize,
    },
    /// There were more grants than are remembered: only another snapshot helps, once there are fewer.
    GrantsLost,
}

/// A change of the sets: one transaction.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// What goes; the kernel may have dropped it already.
    pub(crate) gone: Vec<Element>,
    /// What comes, and until when.
    pub(crate) new: Vec<(Element, WallTime)>,
    /// What will be in force at each address.
    pub(crate) settled: Vec<(IpAddr, Openings)>,
}

impl Change {
    /// Whether there is nothing to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.settled.is_empty()
    }

    /// How many elements go or come.
    pub(crate) fn len(&self) -> usize {
        self.gone.len() + self.new.len()
    }
}

/// Ledger and kernel side by side.
#[derive(Debug)]
pub(crate) struct Books {
    limits: Limits,
    /// None before the first snapshot is whole: until then nothing is known, and nothing is changed.
    ledger: Option<Ledger>,
    /// The snapshot that is on its way.
    staged: Option<Ledger>,
    /// What the kernel holds, as far as we know.
    in_force: HashMap<IpAddr, Openings>,
    counts: BTreeMap<Family, usize>,
    /// Addresses at which the two may differ.
    touched: BTreeSet<IpAddr>,
    /// Addresses for which there was no room.
    left_out: BTreeSet<IpAddr>,
    /// What is not open any more, and whose connections are still to be closed.
    closing: BTreeSet<Element>,
}

impl Books {
    /// Books of an agent that knows nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ledger: None,
            staged: None,
            in_force: HashMap::new(),
            counts: BTreeMap::new(),
            touched: BTreeSet::new(),
            left_out: BTreeSet::new(),
            closing: BTreeSet::new(),
        }
    }

    /// A watch begins: a snapshot that was on its way does not go on.
    pub(crate) fn watch_begins(&mut self) {
        self.staged = None;
    }

    /// Takes in a step.
    pub(crate) fn take(&mut self, step: Step) -> Result<(), OutOfOrder> {
        match step {
            Step::Snapshot(part) => {
                self.stage(part);
            }
            Step::SnapshotEnd(part) => {
                self.stage(part);
                self.ledger = self.staged.take();
                self.touch_all();
            }
            Step::Delta(told) => {
                let ledger = self.ledger.as_mut().filter(|_| self.staged.is_none()).ok_or(OutOfOrder)?;
                write(ledger, told, &mut self.touched);
            }
            Step::Heartbeat => {}
        }
        Ok(())
    }

    fn stage(&mut self, part: Told) {
        let grants_max = self.limits.grants_max;
        let staged = self.staged.get_or_insert_with(|| Ledger::new(grants_max));
        // At the end of the snapshot everything is compared, whatever it touched.
        write(staged, part, &mut BTreeSet::new());
    }

    /// Takes what a listing of the sets found for what is in force. The listing took a while, and so the ends that it
    /// tells are early by as much.
    pub(crate) fn found(&mut self, listed: Vec<(Element, WallTime)>, took: Duration) {
        let before = mem::take(&mut self.in_force);
        let mut by_address: HashMap<IpAddr, Vec<Opening>> = HashMap::new();
        for (Element { address, door }, until) in listed {
            let known = before.get(&address).and_then(|held| held.at(door)).map(|known| known.until);
            let until = known.filter(|known| is_near(*known, until, END_SLACK + took)).unwrap_or(until);
            by_address.entry(address).or_default().push(Opening { door, until });
        }
        let found = by_address.into_iter().map(|(address, openings)| (address, Openings::held(openings)));
        self.in_force = found.collect();
        for (address, openings) in before {
            let held = self.in_force.get(&address);
            let is_lost = |door| held.is_none_or(|held| held.at(door).is_none());
            let lost = openings.iter().map(|opening| opening.door).filter(|door| is_lost(*door));
            self.closing.extend(lost.map(|door| Element { address, door }));
        }
        self.counts.clear();
        for (address, openings) in &self.in_force {
            *self.counts.entry(Family::of(*address)).or_default() += openings.len();
        }
        self.touch_all();
    }

    /// Marks the addresses where something has ended by itself.
    pub(crate) fn touch_ended(&mut self, now: WallTime) {
        let ended = self.in_force.iter().filter(|(_, openings)| openings.iter().any(|one| one.until <= now));
        self.touched.extend(ended.map(|(address, _)| *address));
    }

    fn touch_all(&mut self) {
        self.touched.extend(self.in_force.keys());
        self.touched.extend(self.ledger.iter().flat_map(Ledger::addresses));
    }

    /// The next change to be made. What it does not hold for want of room is left out, and what goes goes all the same.
    pub(crate) fn plan(&mut self, now: WallTime) -> Change {
        let Self { limits, ledger: Some(ledger), in_force, counts, touched, left_out, .. } = self else {
            return Change::default();
        };
        let mut change = Change::default();
        let mut counts = counts.clone();
        while change.len() < CHANGE_ELEMENTS_MAX
            && let Some(address) = touched.pop_first()
        {
            let nothing = Openings::default();
            let held = in_force.get(&address).unwrap_or(&nothing);
            let wanted = unless_near(&ledger.openings(address, now), held);
            let count = counts.entry(Family::of(address)).or_default();
            let others = count.saturating_sub(held.len());
            let wanted = if others + wanted.len() <= limits.elements_max {
                left_out.remove(&address);
                wanted
            } else {
                left_out.insert(address);
                Openings::held(wanted.iter().filter(|opening| held.at(opening.door).is_some()))
            };
            *count = others + wanted.len();
            let of = |opening: Opening| (Element { address, door: opening.door }, opening.until);
            let gone = held.iter().filter(|opening| wanted.at(opening.door) != Some(*opening));
            change.gone.extend(gone.map(|opening| of(opening).0));
            change
                .new
                .extend(wanted.iter().filter(|opening| held.at(opening.door) != Some(*opening)).map(of));
            if wanted != *held {
                change.settled.push((address, wanted));
            }
        }
        change
    }

    /// The kernel has made a change.
    pub(crate) fn done(&mut self, change: Change) {
        for element in change.gone {
            self.closing.insert(element);
        }
        let mut freed = false;
        for (address, openings) in change.settled {
            let count = self.counts.entry(Family::of(address)).or_default();
            let held = self.in_force.remove(&address).unwrap_or_default();
            freed |= openings.len() < held.len();
            *count = count.saturating_sub(held.len()) + openings.len();
            if !openings.is_empty() {
                self.in_force.insert(address, openings);
            }
        }
        if freed {
            self.touched.append(&mut self.left_out);
        }
    }

    /// The kernel has not made a change: it is to be planned again.
    pub(crate) fn undone(&mut self, change: Change) {
        self.touched.extend(change.settled.into_iter().map(|(address, _)| address));
    }

    /// What is not open any more, and whose connections have not been closed yet. Ranges come in the parts that
    /// nothing else opens.
    pub(crate) fn to_close(&self) -> Vec<Element> {
        let nothing = Openings::default();
        let parts = self.closing.iter().flat_map(|Element { address, door }| {
            let held = self.in_force.get(address).unwrap_or(&nothing);
            held.missing(*door).into_iter().map(|door: Door| Element { address: *address, door })
        });
        parts.collect()
    }

    /// Their connections are closed.
    pub(crate) fn closed(&mut self) {
        self.closing.clear();
    }

    /// How far what is in force is all that should be, once nothing is left to be planned.
    pub(crate) fn completeness(&self) -> Completeness {
        match &self.ledger {
            None => Completeness::Unknown,
            Some(ledger) if ledger.has_turned_away() => Completeness::GrantsLost,
            Some(_) if self.left_out.is_empty() => Completeness::Whole,
            Some(_) => Completeness::NoRoom { addresses: self.left_out.len() },
        }
    }

    /// Whether so many grants have ended that another snapshot would find a place for all.
    pub(crate) fn has_places_again(&self) -> bool {
        let is_roomy = |ledger: &Ledger| ledger.len() < self.limits.grants_max / 10 * 9;
        self.ledger.as_ref().is_some_and(|ledger| ledger.has_turned_away() && is_roomy(ledger))
    }

    /// How many grants are known.
    pub(crate) fn grants(&self) -> usize {
        self.ledger.as_ref().map_or(0, Ledger::len)
    }

    /// How many elements are in force.
    pub(crate) fn elements(&self) -> usize {
        self.counts.values().sum()
    }
}

/// What ended goes first: it makes room.
fn write(ledger: &mut Ledger, Told { upserts, removals }: Told, touched: &mut BTreeSet<IpAddr>) {
    for removal in removals {
        ledger.remove(removal, touched);
    }
    for holding in upserts {
        ledger.upsert(holding, touched);
    }
}

/// What is wanted, but with the ends of what is held wherever these are as good.
fn unless_near(wanted: &Openings, held: &Openings) -> Openings {
    Openings::held(wanted.iter().map(|opening| match held.at(opening.door) {
        Some(near) if is_near(near.until, opening.until, END_SLACK) => near,
        Some(_) | None => opening,
    }))
}

fn is_near(a: WallTime, b: WallTime, slack: Duration) -> bool {
    u128::from(a.as_millis().abs_diff(b.as_millis())) <= slack.as_millis()
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
