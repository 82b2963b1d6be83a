//! The policy in force: all profiles and common ports, compiled into one immutable set.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use crate::{
    common_ports::CommonPorts,
    decision::{Decision, Denial, Ruling, Verdict},
    destination::Destination,
    digest::digest_of,
    index::{Match, RuleRef},
    profile::{Mode, Priority, Profile, Sourced},
    subject::Subject,
};

/// Position of a profile in a policy set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppIndex(pub u32);

/// All profiles and common ports, immutable.
#[derive(Debug)]
pub struct PolicySet {
    revision: u64,
    common_revision: u64,
    profiles: Box<[Sourced<Profile>]>,
    by_name: FxHashMap<Arc<str>, AppIndex>,
    common: Box<[Sourced<CommonPorts>]>,
}

/// Whether the subject may speak for the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No profile has the app's name.
    NoProfile,
    /// The profile does not list the subject.
    NotListed(AppIndex),
    /// It does.
    Listed(AppIndex),
}

impl Standing {
    /// The profile, if there is one.
    pub fn app(self) -> Option<AppIndex> {
        match self {
            Self::NoProfile => None,
            Self::NotListed(app) | Self::Listed(app) => Some(app),
        }
    }
}

impl PolicySet {
    /// Compiles documents; the maps are by name.
    pub fn compile(
        profiles: BTreeMap<Arc<str>, Sourced<Profile>>,
        common: BTreeMap<Arc<str>, Sourced<CommonPorts>>,
    ) -> Self {
        let common: Box<[_]> = common.into_values().collect();
        let profiles: Box<[_]> = profiles.into_values().collect();
        let revision = digest_of(&Etags(&profiles, &common));
        let common_revision = digest_of(&Etags(&[], &common));
        let by_name = profiles
            .iter()
            .enumerate()
            .map(|(at, profile)| (profile.document.name.shared(), AppIndex(at as u32)))
            .collect();
        Self { revision, common_revision, profiles, by_name, common }
    }

    /// Equal for equal documents.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Equal for equal profiles of this app and equal common ports: what else changes does not concern its grants.
    pub fn app_revision(&self, app: AppIndex) -> u64 {
        self.profile(app).etag ^ self.common_revision.rotate_left(1)
    }

    /// The profiles, by name.
    pub fn profiles(&self) -> &[Sourced<Profile>] {
        &self.profiles
    }

    /// The common ports, by name.
    pub fn common(&self) -> &[Sourced<CommonPorts>] {
        &self.common
    }

    /// The profile at a position of this very set.
    pub fn profile(&self, app: AppIndex) -> &Sourced<Profile> {
        &self.profiles[app.0 as usize]
    }

    /// The position of the app's profile.
    pub fn find(&self, app: &str) -> Option<AppIndex> {
        self.by_name.get(app).copied()
    }

    /// Whether `subject` may speak for `app`.
    pub fn standing(&self, app: &str, subject: &Subject) -> Standing {
        match self.find(app) {
            None => Standing::NoProfile,
            Some(index) if self.profile(index).document.lists(subject) => Standing::Listed(index),
            Some(index) => Standing::NotListed(index),
        }
    }

    /// Decides about `destinations`, all together, for a subject of `cluster` in this standing.
    ///
    /// A destination that is a common port needs no standing. Naming none asks for all that the profile allows.
    pub fn decide(&self, standing: Standing, cluster: &str, destinations: Arc<[Destination]>) -> Decision {
        let profile = standing.app().map(|app| &*self.profile(app).document);
        if destinations.is_empty() {
            return decide_all(standing, profile);
        }
        // Only who is listed has the app's priority; naming an app gives nothing.
        let priority = match standing {
            Standing::Listed(_) => profile.map(|profile| profile.priority),
            Standing::NotListed(_) | Standing::NoProfile => None,
        };
        let verdicts: Box<[Verdict]> = destinations
            .iter()
            .map(|destination| match self.common_rule(destination, cluster, priority) {
                Some(rule) => Verdict::Common(rule),
                None => decide_one(standing, profile, destination),
            })
            .collect();
        let needs_no_grant = |destination| self.common_rule(destination, cluster, None).is_some();
        let ruling = match rule(&verdicts, standing, profile) {
            // What is common to some priorities only is recorded, since enforcers do not know an address's priority.
            Ruling::Common if !destinations.iter().all(needs_no_grant) => Ruling::Allowed,
            ruling => ruling,
        };
        Decision { destinations, verdicts, ruling }
    }

    /// The rule that makes `destination` a common port for a subject of `cluster`, whose app has `priority`; without
    /// one, only what is common to every app.
    pub fn common_rule(
        &self,
        destination: &Destination,
        cluster: &str,
        priority: Option<Priority>,
    ) -> Option<RuleRef> {
        self.common.iter().find_map(|common| {
            let common = &common.document;
            let rule = common.allow.covering(destination).filter(|_| common.applies_to(cluster, priority))?;
            Some(common.allow.reference(rule))
        })
    }
}

fn decide_one(standing: Standing, profile: Option<&Profile>, destination: &Destination) -> Verdict {
    match (standing, profile) {
        (Standing::Listed(_), Some(profile)) => match profile.allow.find(destination) {
            Match::Covered(rule) => Verdict::Allowed(profile.allow.reference(rule)),
            Match::Missed(miss, nearest) => {
                Verdict::Denied(Denial::Destination(miss), nearest.map(|rule| profile.allow.reference(rule)))
            }
        },
        (Standing::NotListed(_), _) => Verdict::Denied(Denial::SubjectNotListed, None),
        (Standing::NoProfile | Standing::Listed(_), _) => Verdict::Denied(Denial::NoProfile, None),
    }
}

fn decide_all(standing: Standing, profile: Option<&Profile>) -> Decision {
    let (Standing::Listed(_), Some(profile)) = (standing, profile) else {
        let denial = match standing {
            Standing::NoProfile => Denial::NoProfile,
            Standing::NotListed(_) | Standing::Listed(_) => Denial::SubjectNotListed,
        };
        return Decision {
            destinations: Arc::new([]),
            verdicts: Box::new([]),
            ruling: Ruling::Denied(denial),
        };
    };
    let (destinations, verdicts): (Vec<_>, Vec<_>) = profile
        .allow
        .iter()
        .flat_map(|rule| {
            let reference = profile.allow.reference(rule);
            rule.hosts.iter().flat_map(move |host| {
                let reference = reference.clone();
                rule.ports.iter().map(move |ports| {
                    let destination =
                        Destination { host: host.clone(), ports: *ports, protocol: rule.protocol };
                    (destination, Verdict::Allowed(reference.clone()))
                })
            })
        })
        .unzip();
    Decision { destinations: destinations.into(), verdicts: verdicts.into(), ruling: Ruling::Allowed }
}

fn rule(verdicts: &[Verdict], standing: Standing, profile: Option<&Profile>) -> Ruling {
    let denials = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Denied(denial, _) => Some(*denial),
        Verdict::Allowed(_) | Verdict::Common(_) => None,
    });
    let mode = profile.map(|profile| profile.mode);
    match (denials.min(), standing, mode) {
        (Some(_), Standing::Listed(_), Some(Mode::Shadow)) => Ruling::Shadowed,
        (Some(denial), _, _) => Ruling::Denied(denial),
        (None, _, _) if verdicts.iter().all(|verdict| matches!(verdict, Verdict::Common(_))) => {
            Ruling::Common
        }
        (None, _, _) => Ruling::Allowed,
    }
}

struct Etags<'a>(&'a [Sourced<Profile>], &'a [Sourced<CommonPorts>]);

impl Hash for Etags<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0.len());
        for profile in self.0 {
            profile.document.name.hash(state);
            profile.etag.hash(state);
        }
        for common in self.1 {
            common.document.name.hash(state);
            common.etag.hash(state);
        }
    }
}
