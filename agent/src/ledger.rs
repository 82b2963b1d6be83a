//! Who holds what, as the gateway told it.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use podgate_engine::{grant::GrantId, time::WallTime};

use crate::{
    door::{Door, Opening},
    openings::Openings,
};

/// A grant, as far as it opens something here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Identifies the grant.
    pub(crate) id: GrantId,
    /// Rises whenever the grant changes.
    pub(crate) generation: u64,
    /// The address that it covers.
    pub(crate) address: IpAddr,
    /// What it opens; nothing, where it is for other hosts.
    pub(crate) doors: Vec<Door>,
    /// When it ends.
    pub(crate) until: WallTime,
}

/// A grant that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    /// The grant.
    pub(crate) id: GrantId,
    /// Its last generation.
    pub(crate) generation: u64,
}

/// The living grants. Several may cover one address: of several apps, or of several pods behind one address.
#[derive(Debug)]
pub(crate) struct Ledger {
    holdings: HashMap<GrantId, Holding>,
    by_address: HashMap<IpAddr, BTreeSet<GrantId>>,
    grants_max: usize,
    turned_away: bool,
}

impl Ledger {
    /// An empty one for so many grants.
    pub(crate) fn new(grants_max: usize) -> Self {
        Self { holdings: HashMap::new(), by_address: HashMap::new(), grants_max, turned_away: false }
    }

    /// How many grants there are.
    pub(crate) fn len(&self) -> usize {
        self.holdings.len()
    }

    /// The addresses that are covered.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.by_address.keys().copied()
    }

    /// Whether some grant found no place.
    pub(crate) fn has_turned_away(&self) -> bool {
        self.turned_away
    }

    /// Writes down a grant that is new or changed, and notes whose openings that touches. One of an older generation
    /// than what is there changes nothing; a new one beyond the bound is turned away.
    pub(crate) fn upsert(&mut self, holding: Holding, touched: &mut BTreeSet<IpAddr>) {
        match self.holdings.get(&holding.id) {
            Some(held) if held.generation > holding.generation => return,
            Some(held) => {
                let address = held.address;
                self.forget(holding.id, address);
                touched.insert(address);
            }
            None if self.holdings.len() >= self.grants_max => {
                self.turned_away = true;
                return;
            }
            None => {}
        }
        touched.insert(holding.address);
        self.by_address.entry(holding.address).or_default().insert(holding.id);
        self.holdings.insert(holding.id, holding);
    }

    /// Strikes out a grant that ended, unless what is there is of a newer generation.
    pub(crate) fn remove(&mut self, Removal { id, generation }: Removal, touched: &mut BTreeSet<IpAddr>) {
        if let Some(held) = self.holdings.get(&id)
            && held.generation <= generation
        {
            let address = held.address;
            self.forget(id, address);
            touched.insert(address);
        }
    }

    /// What the grants of an address open that live at `now`.
    pub(crate) fn openings(&self, address: IpAddr, now: WallTime) -> Openings {
        let ids = self.by_address.get(&address).into_iter().flatten();
        let living = ids.filter_map(|id| self.holdings.get(id)).filter(|holding| now < holding.until);
        Openings::merged(living.flat_map(|holding| {
            let until = holding.until;
            holding.doors.iter().map(move |door| Opening { door: *door, until })
        }))
    }

    fn forget(&mut self, id: GrantId, address: IpAddr) {
        self.holdings.remove(&id);
        if let Some(ids) = self.by_address.get_mut(&address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}
