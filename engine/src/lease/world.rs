//! A gateway of engine parts alone, and pods on few addresses whose messages come late, twice or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::{
    grant::{Grant, Place},
    subject::{PodIdentity, SubjectKind},
};

/// How long a pod that renews, and one that does not, keeps its grant.
pub(crate) const LIFETIMES: Lifetimes =
    Lifetimes { ttl: Duration::from_secs(20), max_age: Duration::from_secs(120) };

/// What a store does with leases, without a disk: what is in it survives a restart.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    grants: BTreeMap<GrantId, Arc<Grant>>,
    by_address: BTreeMap<IpAddr, BTreeSet<GrantId>>,
    occupancies: BTreeMap<(IpAddr, Option<u64>), Occupancy>,
    addresses: SharedAddresses,
    quarantine: Duration,
    last: u64,
    shared: Shared,
}

/// A call as it was heard: a queue may keep it for any time.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) address: IpAddr,
    pub(crate) uid: String,
    pub(crate) app: &'static str,
    pub(crate) tenure: Tenure,
    pub(crate) seen: u64,
}

impl Ledger {
    pub(crate) fn new(addresses: SharedAddresses, quarantine: Duration) -> Self {
        Self { addresses, quarantine, ..Self::default() }
    }

    fn seat(&self, address: IpAddr, uid: &str) -> Seat {
        self.addresses.seat(Place { cluster: "".into(), address }, uid)
    }

    fn on(&self, seat: &Seat) -> Vec<Arc<Grant>> {
        self.at(seat.place.address).filter(|grant| seat.has(grant)).cloned().collect()
    }

    fn at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_address.get(&address).into_iter().flatten().filter_map(|id| self.grants.get(id))
    }

    fn remove(&mut self, grant: &Grant) {
        self.grants.remove(&grant.id);
        self.by_address.entry(grant.subject.address).or_default().remove(&grant.id);
    }

    fn occupancy(&self, seat: &Seat) -> Option<&Occupancy> {
        self.occupancies.get(&(seat.place.address, seat.uid))
    }

    /// The gateway reads a call.
    pub(crate) fn hear(&self, address: IpAddr, uid: &str, app: &'static str, tenure: Tenure) -> Heard {
        let seat = self.seat(address, uid);
        let seen = Tenancy { grants: &self.on(&seat), occupancy: self.occupancy(&seat) }.generation();
        Heard { address, uid: uid.to_owned(), app, tenure, seen }
    }

    /// The writer comes to a call.
    pub(crate) fn record(&mut self, call: &Heard, now: WallTime) -> Result<Arc<Grant>, Refused> {
        let seat = self.seat(call.address, &call.uid);
        let next = GrantId(self.last + 1);
        let grants = self.on(&seat);
        let tenancy =
            Tenancy { grants: &grants, occupancy: self.occupancies.get(&(seat.place.address, seat.uid)) };
        let Placement { grant, ended, occupancy } =
            tenancy.place(new_grant(call), next, now, &mut self.shared)?;
        self.last = self.last.max(grant.id.0);
        for ended in ended {
            self.remove(&ended);
        }
        if let Some(occupancy) = occupancy {
            assert_eq!(occupancy.generation, self.last, "a generation that no number was taken for");
            self.occupancies.insert((seat.place.address, seat.uid), occupancy);
        }
        self.grants.insert(grant.id, Arc::clone(&grant));
        self.by_address.entry(call.address).or_default().insert(grant.id);
        Ok(grant)
    }

    pub(crate) fn renew(&mut self, id: GrantId, uid: &str, now: WallTime) {
        let Some(held) = self.grants.get(&id) else { return };
        if held.subject.kind.uid() == uid && held.lives(now) {
            let renewal = Renewal { lifetimes: LIFETIMES, fallback: Fallback::Deny, narrowed: None };
            let grant = renewed(held, renewal, now, &mut self.shared);
            self.grants.insert(id, Arc::new(grant));
        }
    }

    pub(crate) fn release(&mut self, id: GrantId, uid: &str, now: WallTime) -> bool {
        let held = self.grants.get(&id).is_some_and(|held| held.subject.kind.uid() == uid);
        held && self.end(id, now)
    }

    fn end(&mut self, id: GrantId, now: WallTime) -> bool {
        let Some(grant) = self.grants.get(&id).cloned() else { return false };
        let seat = self.seat(grant.subject.address, grant.subject.kind.uid());
        self.last += 1;
        let number = GrantId(self.last);
        let tenancy = Tenancy { grants: &self.on(&seat), occupancy: self.occupancy(&seat) };
        let occupancy = tenancy.ended(&grant, number, self.quarantine, now);
        self.occupancies.insert((seat.place.address, seat.uid), occupancy);
        self.remove(&grant);
        true
    }

    pub(crate) fn expire(&mut self, now: WallTime) {
        let over = self.grants.values().filter(|grant| !grant.lives(now));
        for id in over.map(|grant| grant.id).collect::<Vec<_>>() {
            self.end(id, now);
        }
        self.occupancies.retain(|_, occupancy| now < occupancy.kept_until);
    }

    /// The uids and apps that an address is allowed by.
    pub(crate) fn rights(&self, address: IpAddr, now: WallTime) -> Vec<(String, String)> {
        let living =
            self.grants.values().filter(|grant| grant.subject.address == address && grant.lives(now));
        let mut rights: Vec<_> =
            living.map(|grant| (grant.subject.kind.uid().to_owned(), grant.app.to_string())).collect();
        rights.sort();
        rights
    }
}

fn new_grant(call: &Heard) -> NewGrant {
    NewGrant {
        app: call.app.into(),
        subject: Arc::new(Subject {
            cluster: "".into(),
            address: call.address,
            kind: SubjectKind::Pod(PodIdentity {
                namespace: "hotel".into(),
                name: "".into(),
                uid: call.uid.as_str().into(),
                service_account: "order".into(),
                node: "".into(),
            }),
        }),
        allowed: Arc::new([]),
        request: 1,
        admitted_at: Moment::from_nanos(0),
        tenure: call.tenure,
        lifetimes: LIFETIMES,
        revision: 1,
        shadow: false,
        fallback: Fallback::Deny,
        seen: call.seen,
        app_max: u32::MAX,
    }
}
