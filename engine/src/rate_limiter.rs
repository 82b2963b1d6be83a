//! Rate limits as they stand: the buckets of all documents in force, and decisions over several of them at once.
//!
//! A call is decided as a whole: it spends in each of its buckets, or, where one of them that binds has no room, in none.

use std::{collections::BTreeMap, fmt::Write as _, mem, sync::Arc, time::Duration};

use crate::{
    meter::Meter,
    quota::Quota,
    rate_limits::{Descriptors, Effect, Limit, RateLimits, VALUE_BYTES_MAX},
    time::Moment,
};

/// Most buckets of values, in all. Who comes with further values shares their limit's one other bucket.
pub const VALUES_MAX: usize = 100_000;

/// The limits in force, and what has been spent of them.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    domains: BTreeMap<Arc<str>, Domain>,
    values: usize,
    values_max: usize,
    shared: u64,
}

/// A descriptor that a call asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Keys and values, in order.
    pub entries: Vec<(&'a str, &'a str)>,
    /// How much it spends.
    pub hits: u32,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Of all descriptors together.
    pub ruling: Ruling,
    /// Of each descriptor, in order; none where nothing limits it.
    pub standings: Vec<Option<Standing>>,
}

/// Whether there was room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// There was, or nothing that limits.
    Within,
    /// There was none, but the limit does not bind.
    Shadowed,
    /// There was none.
    Over,
}

/// How a bucket stands after the decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it had room.
    pub ruling: Ruling,
    /// Names the limit.
    pub name: Arc<str>,
    /// What it allows.
    pub quota: Quota,
    /// How many there is room for now.
    pub remaining: u32,
    /// Where there was no room: how long until the same call finds it, if nobody else comes. Else, and where the call wants
    /// more than a whole burst: how long until the bucket is as good as new.
    pub resets_in: Duration,
}

/// A document in force, and what has been spent of its limits, by their numbers.
#[derive(Clone, Debug)]
struct Domain {
    document: Arc<RateLimits>,
    spent: Vec<Spent>,
}

/// What has been spent of one limit.
#[derive(Clone, Debug)]
struct Spent {
    /// By all, where each descriptor on the way has its value; else by those whose values have no bucket.
    by_all: Meter,
    /// By values, which callers choose: no hash, so that nobody can choose those that collide.
    by_values: BTreeMap<Box<str>, Meter>,
}

/// Whose bucket of a limit a call comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whose {
    Everyones,
    OfValues(Box<str>),
}

/// A bucket that a call comes to.
struct Found<'a> {
    limit: &'a Limit,
    whose: Whose,
    /// How much this call spends there, with what its earlier descriptors do.
    hits: u32,
    meter: Meter,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new(VALUES_MAX)
    }
}

impl RateLimiter {
    /// No limits yet, and room for so many buckets of values.
    pub fn new(values_max: usize) -> Self {
        Self { domains: BTreeMap::new(), values: 0, values_max, shared: 0 }
    }

    /// Puts documents in force, one a domain. What has been spent of a limit that is still in its place stays spent.
    pub fn set<'a>(&mut self, documents: impl IntoIterator<Item = &'a Arc<RateLimits>>, now: Moment) {
        let mut before = mem::take(&mut self.domains);
        for document in documents {
            let mut domain = Domain::new(Arc::clone(document), now);
            if let Some(mut old) = before.remove(&document.domain) {
                let (from, to) = (&old.document.descriptors, &document.descriptors);
                carry(from, &mut old.spent, to, &mut domain.spent, now);
            }
            self.domains.insert(Arc::clone(&document.domain), domain);
        }
        self.count_values();
    }

    /// Decides about all descriptors of a call together.
    pub fn decide(&mut self, domain: &str, asked: &[Asked<'_>], now: Moment) -> Decided {
        let Some(Domain { document, spent }) = self.domains.get_mut(domain) else {
            return Decided { ruling: Ruling::Within, standings: vec![None; asked.len()] };
        };
        let mut found: Vec<Option<Found<'_>>> = Vec::with_capacity(asked.len());
        let mut values = self.values;
        for Asked { entries, hits } in asked {
            found.push(document.descriptors.resolve(entries).map(|(limit, its_values)| {
                let spent = &spent[limit.at];
                let whose = spent.whose(&its_values, values < self.values_max);
                self.shared += u64::from(whose == Whose::Everyones && !its_values.is_empty());
                let same = |other: &&Found<'_>| other.limit.at == limit.at && other.whose == whose;
                let earlier = found.iter().flatten().rev().find(same);
                let meter = match (earlier, spent.meter(&whose)) {
                    (Some(earlier), _) => earlier.meter.clone(),
                    (None, Some(meter)) => meter.clone(),
                    (None, None) => {
                        values += 1;
                        Meter::empty(now)
                    }
                };
                let hits = hits.saturating_add(earlier.map_or(0, |earlier| earlier.hits));
                Found { limit, whose, hits, meter }
            }));
        }
        let is_refused = found.iter().flatten().any(|found| found.ruling(now) == Ruling::Over);
        if !is_refused {
            for found in found.iter().flatten() {
                self.values += found.spend(&mut spent[found.limit.at], now);
            }
        }
        let standing = |found: Found<'_>| {
            let meter = spent[found.limit.at].meter(&found.whose).unwrap_or(&found.meter);
            found.standing(meter, now)
        };
        Decided {
            ruling: if is_refused { Ruling::Over } else { Ruling::Within },
            standings: found.into_iter().map(|found| found.map(standing)).collect(),
        }
    }

    /// Forgets the buckets of values that are as good as new.
    pub fn sweep(&mut self, now: Moment) {
        for spent in self.domains.values_mut().flat_map(|domain| &mut domain.spent) {
            spent.by_values.retain(|_, meter| !meter.is_empty(now));
        }
        self.count_values();
    }

    /// Buckets of values now, and how often values found no bucket of their own.
    pub fn usage(&self) -> (usize, u64) {
        (self.values, self.shared)
    }

    fn count_values(&mut self) {
        let spent = self.domains.values().flat_map(|domain| &domain.spent);
        self.values = spent.map(|spent| spent.by_values.len()).sum();
    }
}

impl Domain {
    fn new(document: Arc<RateLimits>, now: Moment) -> Self {
        let count = document.descriptors.limits().len();
        let nothing = Spent { by_all: Meter::empty(now), by_values: BTreeMap::new() };
        Self { document, spent: vec![nothing; count] }
    }
}

/// Moves what was spent of old limits to the new ones in the same places; where the quota is another, token for token.
fn carry(from: &Descriptors, spent: &mut [Spent], to: &Descriptors, into: &mut [Spent], now: Moment) {
    for new in to.iter() {
        let Some(old) = from.find(&new.key, new.value.as_deref()) else {
            continue;
        };
        if let Some((old, new)) = old.limit.as_ref().zip(new.limit.as_ref()) {
            let rescaled = |meter: &Meter| meter.rescaled(old.quota, new.quota, now);
            let Spent { by_all, by_values } = &mut spent[old.at];
            let by_values = mem::take(by_values).into_iter();
            into[new.at] = Spent {
                by_all: rescaled(by_all),
                by_values: by_values.map(|(values, meter)| (values, rescaled(&meter))).collect(),
            };
        }
        carry(&old.below, spent, &new.below, into, now);
    }
}

impl Spent {
    fn whose(&self, values: &[&str], has_place: bool) -> Whose {
        let bytes: usize = values.iter().map(|value| value.len()).sum();
        if values.is_empty() || bytes > VALUE_BYTES_MAX {
            return Whose::Everyones;
        }
        // With its length before each, so that no two lists read the same.
        let joined = values.iter().fold(String::new(), |mut joined, value| {
            let _ = write!(joined, "{}:{value}", value.len());
            joined
        });
        if has_place || self.by_values.contains_key(joined.as_str()) {
            Whose::OfValues(joined.into())
        } else {
            Whose::Everyones
        }
    }

    fn meter(&self, whose: &Whose) -> Option<&Meter> {
        match whose {
            Whose::Everyones => Some(&self.by_all),
            Whose::OfValues(values) => self.by_values.get(values),
        }
    }
}

impl Found<'_> {
    fn ruling(&self, now: Moment) -> Ruling {
        match (self.room_at(), self.limit.effect) {
            (Some(at), _) if at <= now => Ruling::Within,
            (Some(_) | None, Effect::Enforce) => Ruling::Over,
            (Some(_) | None, Effect::Shadow) => Ruling::Shadowed,
        }
    }

    /// When there is room; never for more than a whole burst.
    fn room_at(&self) -> Option<Moment> {
        let quota = self.limit.quota;
        (self.hits <= quota.burst.get()).then(|| self.meter.has_room_for_at(quota, self.hits))
    }

    /// Spends where there is room; returns how many buckets are new for it.
    fn spend(&self, spent: &mut Spent, now: Moment) -> usize {
        if self.ruling(now) != Ruling::Within || self.hits == 0 {
            return 0;
        }
        let mut meter = self.meter.clone();
        meter.raise_by(now, self.limit.quota, self.hits);
        match &self.whose {
            Whose::Everyones => {
                spent.by_all = meter;
                0
            }
            Whose::OfValues(values) => usize::from(spent.by_values.insert(values.clone(), meter).is_none()),
        }
    }

    fn standing(&self, meter: &Meter, now: Moment) -> Standing {
        let ruling = self.ruling(now);
        let resets_in = match (ruling, self.room_at()) {
            (Ruling::Over | Ruling::Shadowed, Some(at)) => at.since(now),
            (Ruling::Over | Ruling::Shadowed, None) | (Ruling::Within, _) => meter.empties_in(now),
        };
        let quota = self.limit.quota;
        Standing {
            ruling,
            name: Arc::clone(&self.limit.name),
            quota,
            remaining: meter.room(quota, now),
            resets_in,
        }
    }
}

#[cfg(test)]
mod limiter_tests;
