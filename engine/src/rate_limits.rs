//! Rate limits for what Envoys ask about: which descriptors have a bucket, and of what size.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
};

use crate::{
    digest::digest_of,
    draft::{DescriptorDraft, RateLimitsDraft},
    fault::{Fault, Faults, Unreadable},
    name::{DocumentName, parse_word},
    port::one_of,
    profile::check_labels,
    quota::{Quota, parse_burst},
};

/// Most descriptors of a document, in all.
pub const DESCRIPTORS_MAX: usize = 1_000;
/// How deep descriptors may lie in descriptors.
pub const DEPTH_MAX: usize = 8;
/// Longest domain, in bytes.
pub const DOMAIN_BYTES_MAX: usize = 253;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 256;

/// A rate-limits document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateLimits {
    /// Its name.
    pub name: DocumentName,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The domain that Envoys name.
    pub domain: Arc<str>,
    /// The descriptors.
    pub descriptors: Descriptors,
}

/// Descriptors of one level, sorted by key and value: of one key the one without a value comes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Descriptors(Box<[Descriptor]>);

/// A descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Descriptor {
    /// The key of the entry that it matches.
    pub key: Arc<str>,
    /// The value; none: any, and each has a bucket of its own.
    pub value: Option<Arc<str>>,
    /// What limits those whose entries end here.
    pub limit: Option<Limit>,
    /// What matches their further entries.
    pub below: Descriptors,
}

/// What limits the requests of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Its number among the limits of the document, from 0.
    pub at: usize,
    /// Names it to people: the keys that lead to it.
    pub name: Arc<str>,
    /// What its buckets allow.
    pub quota: Quota,
    /// Whether it binds.
    pub effect: Effect,
}

/// Whether a limit binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It does.
    #[default]
    Enforce,
    /// It is counted, and lets through.
    Shadow,
}

impl FromStr for Effect {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            "false" => Ok(Self::Enforce),
            "true" => Ok(Self::Shadow),
            other => Err(one_of("answer", other, &["true", "false"])),
        }
    }
}

impl RateLimits {
    /// Reads a draft, or tells everything that is wrong with it.
    pub fn parse(draft: &RateLimitsDraft) -> Result<Self, Vec<Fault>> {
        let mut limits = 0;
        let mut faults = Faults::default();
        let name = faults.keep("metadata.name", DocumentName::parse(&draft.name));
        check_labels(&draft.labels, &mut faults);
        let domain = faults.keep("spec.domain", parse_word("domain", &draft.domain, DOMAIN_BYTES_MAX));
        let count = count(&draft.descriptors);
        if count == 0 || count > DESCRIPTORS_MAX {
            faults.add("spec.descriptors", format!("{count} descriptors; expected 1 to {DESCRIPTORS_MAX}"));
        }
        let descriptors = match count {
            0..=DESCRIPTORS_MAX => {
                let around = Around { path: "spec", names: "", depth: 1 };
                level(&draft.descriptors, around, &mut limits, &mut faults)
            }
            _ => Descriptors::default(),
        };
        match name.zip(domain) {
            Some((name, domain)) if faults.is_empty() => {
                Ok(Self { name, labels: draft.labels.clone(), domain, descriptors })
            }
            Some(_) | None => Err(faults.into_vec()),
        }
    }

    /// Changes with every change of content.
    pub fn etag(&self) -> u64 {
        digest_of(self)
    }
}

impl Descriptors {
    /// All of this level.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.iter()
    }

    /// What limits a call with these entries, and the values among them for which any would do. At each level the very value
    /// goes before any, and what it leads to counts, even where that is nothing.
    pub fn resolve<'a>(&self, entries: &[(&'a str, &'a str)]) -> Option<(&Limit, Vec<&'a str>)> {
        let (mut level, mut limit, mut values) = (self, None, Vec::new());
        for (key, value) in entries {
            let found = match level.find(key, Some(value)) {
                Some(found) => found,
                None => {
                    values.push(*value);
                    level.find(key, None)?
                }
            };
            (level, limit) = (&found.below, found.limit.as_ref());
        }
        Some((limit?, values))
    }

    /// The one of this key and value.
    pub fn find(&self, key: &str, value: Option<&str>) -> Option<&Descriptor> {
        let at = self.0.binary_search_by(|mine| (&*mine.key, mine.value.as_deref()).cmp(&(key, value)));
        at.ok().map(|at| &self.0[at])
    }

    /// All limits, of this level and below.
    pub fn limits(&self) -> Vec<&Limit> {
        let all = self.iter().flat_map(|one| one.limit.iter().chain(one.below.limits()));
        all.collect()
    }
}

/// How many there are, at any depth; how deep a document is, its reader bounds.
fn count(drafts: &[DescriptorDraft]) -> usize {
    drafts.iter().map(|draft| 1 + count(&draft.descriptors)).sum()
}

/// What lies around a level.
#[derive(Clone, Copy)]
struct Around<'a> {
    path: &'a str,
    names: &'a str,
    depth: usize,
}

fn level(
    drafts: &[DescriptorDraft],
    around: Around<'_>,
    limits: &mut usize,
    faults: &mut Faults,
) -> Descriptors {
    let path = format!("{}.descriptors", around.path);
    if around.depth > DEPTH_MAX && !drafts.is_empty() {
        faults.add(path, format!("deeper than {DEPTH_MAX} descriptors"));
        return Descriptors::default();
    }
    let mut seen = BTreeSet::new();
    let mut read: Vec<Descriptor> = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !seen.insert((&draft.key, &draft.value)) {
            faults.add(&path, "a second descriptor of the same key and value");
        }
        read.extend(descriptor(draft, Around { path: &path, ..around }, limits, faults));
    }
    read.sort_unstable_by(|a, b| (&a.key, &a.value).cmp(&(&b.key, &b.value)));
    Descriptors(read.into())
}

fn descriptor(
    draft: &DescriptorDraft,
    around: Around<'_>,
    limits: &mut usize,
    faults: &mut Faults,
) -> Option<Descriptor> {
    let Around { path, names, depth } = around;
    let key = faults.keep(format!("{path}.key"), parse_key(&draft.key));
    let value = draft.value.as_deref();
    let value = value.map(|text| faults.keep(format!("{path}.value"), parse_value(text)));
    let name = format!("{names}{}", draft.key);
    let limit = limit(draft, path, &name, *limits, faults);
    *limits += usize::from(limit.is_some());
    if draft.rate.is_none() && draft.burst.is_none() && draft.shadow.is_none() && draft.descriptors.is_empty()
    {
        faults.add(path, "limits nothing; expected rate and burst, or descriptors");
    }
    let around = Around { path, names: &format!("{name}/"), depth: depth + 1 };
    let below = level(&draft.descriptors, around, limits, faults);
    Some(Descriptor { key: key?, value: value.map_or(Some(None), |value| value.map(Some))?, limit, below })
}

fn limit(draft: &DescriptorDraft, path: &str, name: &str, at: usize, faults: &mut Faults) -> Option<Limit> {
    let effect = draft.shadow.as_deref().map(|text| faults.keep(format!("{path}.shadow"), text.parse()));
    match (&draft.rate, draft.burst) {
        (Some(rate), Some(burst)) => {
            let rate = faults.keep(format!("{path}.rate"), rate.parse());
            let burst = faults.keep(format!("{path}.burst"), parse_burst(burst));
            let quota = Quota { rate: rate?, burst: burst? };
            Some(Limit { at, name: name.into(), quota, effect: effect.unwrap_or(Some(Effect::Enforce))? })
        }
        (None, None) if effect.is_none() => None,
        (rate, burst) => {
            for (field, is_there) in [("rate", rate.is_some()), ("burst", burst.is_some())] {
                if !is_there {
                    faults.add(format!("{path}.{field}"), "missing; a limit has a rate and a burst");
                }
            }
            None
        }
    }
}

/// A key stands in the name that Envoy puts between quotes into a header.
fn parse_key(text: &str) -> Result<Arc<str>, Unreadable> {
    let key = parse_word("key", text, KEY_BYTES_MAX)?;
    if key.contains(['"', '\\']) {
        return Err(Unreadable("a key holds no quotes and no backslashes".to_owned()));
    }
    Ok(key)
}

fn parse_value(text: &str) -> Result<Arc<str>, Unreadable> {
    if text.is_empty() || text.len() > VALUE_BYTES_MAX {
        let bytes = text.len();
        return Err(Unreadable(format!(
            "{bytes} bytes; expected a value of 1 to {VALUE_BYTES_MAX}, or none"
        )));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(key: &str, value: Option<&str>, rate: Option<&str>) -> DescriptorDraft {
        DescriptorDraft {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            rate: rate.map(str::to_owned),
            burst: rate.map(|_| 5),
            ..DescriptorDraft::default()
        }
    }

    fn parse(descriptors: Vec<DescriptorDraft>) -> Result<RateLimits, Vec<String>> {
        let draft = RateLimitsDraft {
            name: "hotel".to_owned(),
            domain: "hotel".to_owned(),
            descriptors,
            ..RateLimitsDraft::default()
        };
        RateLimits::parse(&draft).map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_entrys_own_value_goes_before_any() {
        let below = DescriptorDraft {
            descriptors: vec![draft("user", None, Some("1/s"))],
            ..draft("path", Some("/order"), Some("10/s"))
        };
        let limits = parse(vec![draft("path", None, Some("100/s")), below]).unwrap();
        let found = |entries: &[(&'static str, &'static str)]| {
            let (limit, values) = limits.descriptors.resolve(entries)?;
            Some((limit.quota.rate.to_string(), limit.name.to_string(), values))
        };
        let of = |rate: &str, name: &str, values: &[&'static str]| {
            Some((rate.to_owned(), name.to_owned(), values.to_vec()))
        };
        assert_eq!(found(&[("path", "/order")]), of("10/s", "path", &[]));
        assert_eq!(found(&[("path", "/other")]), of("100/s", "path", &["/other"]));
        assert_eq!(found(&[("path", "/order"), ("user", "li")]), of("1/s", "path/user", &["li"]));
        for entries in [&[("path", "/other"), ("user", "li")][..], &[("user", "li")], &[]] {
            assert_eq!(found(entries), None);
        }
        let numbers: BTreeSet<usize> = limits.descriptors.limits().iter().map(|limit| limit.at).collect();
        assert_eq!(numbers, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let half = DescriptorDraft { burst: Some(1), ..draft("a", None, None) };
        let shadow = DescriptorDraft { shadow: Some("yes".to_owned()), ..draft("b", None, Some("1/s")) };
        let faults = parse(vec![
            draft("a", Some("x"), None),
            half,
            shadow,
            draft("c\"", Some(""), Some("1/d")),
            draft("b", None, Some("1/s")),
        ]);
        assert_eq!(
            faults.unwrap_err(),
            [
                "spec.descriptors[0]: limits nothing; expected rate and burst, or descriptors",
                "spec.descriptors[1].rate: missing; a limit has a rate and a burst",
                "spec.descriptors[2].shadow: `yes` is no answer; expected true, false",
                "spec.descriptors[3].key: a key holds no quotes and no backslashes",
                "spec.descriptors[3].value: 0 bytes; expected a value of 1 to 256, or none",
                "spec.descriptors[3].rate: `1/d` is no rate; expected one such as `50/s`, `600/m` or `36000/h`, from 1/h to \
                 1000000/s",
                "spec.descriptors[4]: a second descriptor of the same key and value",
            ]
        );
        assert!(parse(Vec::new()).is_err());
        assert!(
            parse((0..=DESCRIPTORS_MAX).map(|n| draft(&n.to_string(), None, Some("1/s"))).collect()).is_err()
        );
        let deep = (0..DEPTH_MAX).fold(draft("z", None, Some("1/s")), |below, _| DescriptorDraft {
            descriptors: vec![below],
            ..draft("y", None, None)
        });
        assert!(parse(vec![deep]).unwrap_err()[0].contains("deeper than 8"));
    }
}
