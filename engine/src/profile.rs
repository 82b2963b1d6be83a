//! An application's profile: who speaks for it, what it may reach, how fast.

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use crate::{
    digest::digest_of,
    draft::{LeaseDraft, LimitsDraft, ProfileDraft, SubjectDraft},
    fault::{Fault, Faults, Unreadable},
    host::parse_network,
    index::Rules,
    lease::{Fallback, Lifetimes},
    name::{DocumentName, parse_word},
    port::one_of,
    quota::{BOOKINGS_MAX, Quota, Rate, horizon_max, parse_burst},
    subject::{Subject, SubjectPattern},
};

/// Most subjects of a profile.
pub const SUBJECTS_MAX: usize = 64;
/// Most CIDRs of a subject.
pub const CIDRS_MAX: usize = 256;
/// Most labels of a document.
pub const LABELS_MAX: usize = 64;

/// How much an app matters when a shared limit binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Goes first.
    P1,
    /// Unless said otherwise.
    #[default]
    P2,
    /// Goes last.
    P3,
}

impl FromStr for Priority {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            "P1" => Ok(Self::P1),
            "P2" => Ok(Self::P2),
            "P3" => Ok(Self::P3),
            other => Err(one_of("priority", other, &["P1", "P2", "P3"])),
        }
    }
}

/// Whether denials bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// They are decided and logged, and let through.
    Shadow,
}

impl FromStr for Mode {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            "enforce" => Ok(Self::Enforce),
            "shadow" => Ok(Self::Shadow),
            other => Err(one_of("mode", other, &["enforce", "shadow"])),
        }
    }
}

/// What holds while the gateway can't decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnUnavailable {
    /// Nothing is let through.
    Deny,
    /// Living leases go on for at most their grace.
    #[default]
    LastGrant,
}

impl FromStr for OnUnavailable {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            "deny" => Ok(Self::Deny),
            "lastGrant" => Ok(Self::LastGrant),
            other => Err(one_of("onUnavailable", other, &["deny", "lastGrant"])),
        }
    }
}

/// Limits that a profile sets; what it leaves out is the gateway's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// R.
    pub rate: Option<Rate>,
    /// B.
    pub burst: Option<NonZeroU32>,
    /// How far ahead slots are booked.
    pub horizon: Option<Duration>,
}

impl Limits {
    /// The bucket's quota, with the gateway's default where the profile is silent.
    pub fn quota(&self, default: Quota) -> Quota {
        Quota { rate: self.rate.unwrap_or(default.rate), burst: self.burst.unwrap_or(default.burst) }
    }
}

/// Lease terms that a profile sets; what it leaves out is the gateway's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseTerms {
    /// Lease of a pod that renews.
    pub ttl: Option<Duration>,
    /// Longest life of a grant that is not renewed.
    pub max_age: Option<Duration>,
    /// Most living grants.
    pub max: Option<NonZeroU32>,
    /// How long living leases go on while the gateway is unavailable.
    pub grace: Option<Duration>,
}

/// An application's profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Name of the app.
    pub name: DocumentName,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// Whom to ask.
    pub owner: String,
    /// Priority.
    pub priority: Priority,
    /// Who may speak for the app.
    pub subjects: Box<[SubjectPattern]>,
    /// What it may reach.
    pub allow: Rules,
    /// Limits.
    pub limits: Limits,
    /// Lease terms.
    pub lease: LeaseTerms,
    /// What holds while the gateway can't decide.
    pub on_unavailable: OnUnavailable,
    /// Whether denials bind.
    pub mode: Mode,
}

impl LeaseTerms {
    /// How long grants live, with the gateway's defaults where the profile is silent.
    pub fn lifetimes(&self, default: Lifetimes) -> Lifetimes {
        Lifetimes { ttl: self.ttl.unwrap_or(default.ttl), max_age: self.max_age.unwrap_or(default.max_age) }
    }
}

impl Profile {
    /// What holds of its grants while the gateway cannot be reached, with the gateway's default of the grace.
    pub fn fallback(&self, default_grace: Duration) -> Fallback {
        match self.on_unavailable {
            OnUnavailable::Deny => Fallback::Deny,
            OnUnavailable::LastGrant => Fallback::LastGrant(self.lease.grace.unwrap_or(default_grace)),
        }
    }

    /// Reads a draft, or tells everything that is wrong with it.
    pub fn parse(draft: &ProfileDraft) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let name = faults.keep("metadata.name", DocumentName::parse(&draft.name));
        check_labels(&draft.labels, &mut faults);
        if draft.owner.len() > 253 {
            faults.add("spec.owner", "longer than 253 bytes");
        }
        let priority = parse_or_default(draft.priority.as_deref(), "spec.priority", &mut faults);
        let subjects = parse_subjects(&draft.subjects, &mut faults);
        let allow = Rules::parse(&draft.allow, "spec.allow", &draft.name, &mut faults);
        let limits = parse_limits(&draft.limits, &mut faults);
        let lease = parse_lease(&draft.lease, &mut faults);
        let on_unavailable =
            parse_or_default(draft.on_unavailable.as_deref(), "spec.onUnavailable", &mut faults);
        let mode = parse_or_default(draft.mode.as_deref(), "spec.mode", &mut faults);
        match name {
            Some(name) if faults.is_empty() => Ok(Self {
                name,
                labels: draft.labels.clone(),
                owner: draft.owner.clone(),
                priority,
                subjects,
                allow,
                limits,
                lease,
                on_unavailable,
                mode,
            }),
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// Changes with every change of content.
    pub fn etag(&self) -> u64 {
        digest_of(self)
    }

    /// Whether `subject` may speak for the app.
    pub fn lists(&self, subject: &Subject) -> bool {
        self.subjects.iter().any(|pattern| pattern.matches(subject))
    }
}

fn parse_or_default<T: FromStr<Err = Unreadable> + Default>(
    text: Option<&str>,
    path: &str,
    faults: &mut Faults,
) -> T {
    text.and_then(|text| faults.keep(path, text.parse())).unwrap_or_default()
}

pub(crate) fn check_labels(labels: &BTreeMap<String, String>, faults: &mut Faults) {
    if labels.len() > LABELS_MAX {
        faults.add("metadata.labels", format!("{} labels; expected at most {LABELS_MAX}", labels.len()));
    }
    for (key, value) in labels {
        let readable = parse_word("label key", key, 63).is_ok();
        if !readable || value.len() > 63 {
            let path = if readable { format!("metadata.labels.{key}") } else { "metadata.labels".to_owned() };
            faults
                .add(path, "expected a key of 1 to 63 printable characters and a value of at most 63 bytes");
        }
    }
}

fn parse_subjects(drafts: &[SubjectDraft], faults: &mut Faults) -> Box<[SubjectPattern]> {
    if drafts.is_empty() || drafts.len() > SUBJECTS_MAX {
        faults.add("spec.subjects", format!("{} subjects; expected 1 to {SUBJECTS_MAX}", drafts.len()));
    }
    let mut subjects = Vec::with_capacity(drafts.len().min(SUBJECTS_MAX));
    for (index, draft) in drafts.iter().enumerate().take(SUBJECTS_MAX) {
        let path = format!("spec.subjects[{index}]");
        match draft {
            SubjectDraft::ServiceAccount { cluster, namespace, name } => {
                let path = format!("{path}.serviceAccount");
                let cluster = match cluster.as_deref() {
                    None => Some(None),
                    Some(text) => {
                        faults.keep(format!("{path}.cluster"), parse_word("cluster", text, 63)).map(Some)
                    }
                };
                let namespace =
                    faults.keep(format!("{path}.namespace"), parse_word("namespace", namespace, 63));
                let name = faults.keep(format!("{path}.name"), parse_word("service account", name, 253));
                if let (Some(cluster), Some(namespace), Some(name)) = (cluster, namespace, name) {
                    subjects.push(SubjectPattern::ServiceAccount { cluster, namespace, name });
                }
            }
            SubjectDraft::Hosts { cidrs } => {
                let path = format!("{path}.hosts.cidrs");
                if cidrs.is_empty() || cidrs.len() > CIDRS_MAX {
                    faults.add(&path, format!("{} CIDRs; expected 1 to {CIDRS_MAX}", cidrs.len()));
                }
                let networks = cidrs.iter().take(CIDRS_MAX).enumerate();
                subjects.push(SubjectPattern::Hosts(
                    networks
                        .filter_map(|(at, cidr)| faults.keep(format!("{path}[{at}]"), parse_network(cidr)))
                        .collect(),
                ));
            }
            SubjectDraft::Missing => {
                faults.add(path, "names nobody; expected `serviceAccount` or `hosts`");
            }
        }
    }
    subjects.into()
}

fn parse_limits(draft: &LimitsDraft, faults: &mut Faults) -> Limits {
    let rate = draft.rate.as_deref().and_then(|text| faults.keep("spec.limits.rate", text.parse()));
    let horizon = draft.horizon.and_then(|horizon| {
        faults.keep("spec.limits.horizon", check_horizon(rate, horizon)).map(|()| horizon)
    });
    let burst = draft.burst.and_then(|number| faults.keep("spec.limits.burst", parse_burst(number)));
    Limits { rate, burst, horizon }
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Shortest and longest horizon. One that is shorter than the time for which a call is parked would book nothing.
pub const HORIZON_BOUNDS: (Duration, Duration) = (crate::desk::PARK_MAX, minutes(60));

/// Checks a horizon: its bounds, and that as many slots as the rate has in it can be kept.
pub fn check_horizon(rate: Option<Rate>, horizon: Duration) -> Result<(), Unreadable> {
    let shown = humantime::format_duration;
    let (shortest, longest) = HORIZON_BOUNDS;
    let expected = format!("expected {} to {}", shown(shortest), shown(longest));
    if horizon < shortest {
        let parked = "which a call is held open until its slot, so nothing would ever be booked";
        let horizon = shown(horizon);
        return Err(Unreadable(format!(
            "{horizon} is less than the {} for {parked}; {expected}",
            shown(shortest)
        )));
    }
    if horizon > longest {
        return Err(Unreadable(format!("{} is out of bounds; {expected}", shown(horizon))));
    }
    let Some((rate, kept)) = rate.map(|rate| (rate, horizon_max(rate))).filter(|(_, kept)| horizon > *kept)
    else {
        return Ok(());
    };
    Err(Unreadable(format!(
        "{rate} booked {} ahead are more than the {BOOKINGS_MAX} slots that are kept (rate × horizon); expected at most {} \
         at this rate",
        shown(horizon),
        shown(Duration::from_secs(kept.as_secs()))
    )))
}
/// Shortest and longest `ttl`.
pub const TTL_BOUNDS: (Duration, Duration) = (Duration::from_secs(10), minutes(24 * 60));
/// Shortest and longest `maxAge`.
pub const MAX_AGE_BOUNDS: (Duration, Duration) = (minutes(1), minutes(30 * 24 * 60));
/// Most living grants that a profile may allow its app.
pub const LEASES_MAX: u32 = 1_000_000;
/// Shortest and longest `grace`.
pub const GRACE_BOUNDS: (Duration, Duration) = (Duration::ZERO, minutes(24 * 60));

fn parse_lease(draft: &LeaseDraft, faults: &mut Faults) -> LeaseTerms {
    LeaseTerms {
        ttl: within(draft.ttl, "spec.lease.ttl", TTL_BOUNDS, faults),
        max_age: within(draft.max_age, "spec.lease.maxAge", MAX_AGE_BOUNDS, faults),
        max: draft.max.and_then(|number| {
            let max = u32::try_from(number).ok().filter(|max| *max <= LEASES_MAX).and_then(NonZeroU32::new);
            if max.is_none() {
                faults.add(
                    "spec.lease.max",
                    format!("{number} is no number of grants; expected 1 to {LEASES_MAX}"),
                );
            }
            max
        }),
        grace: within(draft.grace, "spec.lease.grace", GRACE_BOUNDS, faults),
    }
}

fn within(
    given: Option<Duration>,
    path: &str,
    (shortest, longest): (Duration, Duration),
    faults: &mut Faults,
) -> Option<Duration> {
    let given = given?;
    if given >= shortest && given <= longest {
        return Some(given);
    }
    let (given, shortest, longest) = (
        humantime::format_duration(given),
        humantime::format_duration(shortest),
        humantime::format_duration(longest),
    );
    faults.add(path, format!("{given} is out of bounds; expected {shortest} to {longest}"));
    None
}

/// A document where it stands in a policy, with the place that it comes from.
#[derive(Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The document.
    pub document: Arc<T>,
    /// Its digest.
    pub etag: u64,
    /// Where it comes from.
    pub source: Source,
}

impl<T> Clone for Sourced<T> {
    fn clone(&self) -> Self {
        Self { document: Arc::clone(&self.document), etag: self.etag, source: self.source.clone() }
    }
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file: read-only in the API.
    File(Arc<str>),
    /// The API.
    Api,
}
