//! Rules, and an index that finds the rule for a destination.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    destination::Destination,
    draft::RuleDraft,
    fault::Faults,
    host::HostPattern,
    name::parse_word,
    port::{PortRange, Protocol},
};

/// Most rules of a document.
pub const RULES_MAX: usize = 256;
/// Most hosts of a rule.
pub const HOSTS_MAX: usize = 256;
/// Most ports and port ranges of a rule.
pub const PORTS_MAX: usize = 256;
/// Most pairs of a host and a port range in a document: what a grant for all that a profile allows holds.
pub const DOCUMENT_DESTINATIONS_MAX: usize = 4096;
/// Of how many hosts the nearest to a denied one is sought, so that a denial costs no more than so much.
const NEAREST_HOSTS_MAX: usize = 512;

/// Allows the hosts at the ports over the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Name, unique in its document.
    pub name: Arc<str>,
    /// The hosts.
    pub hosts: Box<[HostPattern]>,
    /// The ports.
    pub ports: Box<[PortRange]>,
    /// The protocol.
    pub protocol: Protocol,
}

/// A rule of a document, by the names of both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// The document's name.
    pub document: Arc<str>,
    /// The rule's name.
    pub rule: Arc<str>,
}

/// How near the rules came to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// The rule covers it.
    Covered(&'a Rule),
    /// The nearest rule, and what it lacks.
    Missed(Miss, Option<&'a Rule>),
}

/// What the nearest rule lacks, from far to near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Miss {
    /// The host.
    Host,
    /// The host is there, the protocol is not.
    Protocol,
    /// Host and protocol are there, the ports are not, or not all of them in one range.
    Port,
}

/// The rules of one document, indexed by host.
///
/// The index holds positions, not copies: 8 bytes a host. Exact names and wildcard suffixes are sorted for binary
/// search, networks are tried one by one.
#[derive(Clone, Debug)]
pub struct Rules {
    document: Arc<str>,
    all: Box<[Rule]>,
    names: Box<[Place]>,
    suffixes: Box<[Place]>,
    networks: Box<[Place]>,
}

/// Where in the document a host stands. `RULES_MAX` and `HOSTS_MAX` fit into 16 bits.
#[derive(Clone, Copy, Debug)]
struct Place {
    rule: u16,
    host: u16,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document && self.all == other.all
    }
}

impl Eq for Rules {}

impl Hash for Rules {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
    }
}

impl Rules {
    /// Reads rules, and notes what is wrong with them.
    pub(crate) fn parse(drafts: &[RuleDraft], path: &str, document: &str, faults: &mut Faults) -> Self {
        if drafts.is_empty() || drafts.len() > RULES_MAX {
            faults.add(path, format!("{} rules; expected 1 to {RULES_MAX}", drafts.len()));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(drafts.len().min(RULES_MAX));
        for (index, draft) in drafts.iter().enumerate().take(RULES_MAX) {
            let path = format!("{path}[{index}]");
            if !draft.name.is_empty() && !names.insert(draft.name.as_str()) {
                faults.add(format!("{path}.name"), format!("a second rule has the name `{}`", draft.name));
            }
            rules.extend(parse_rule(draft, &path, faults));
        }
        let pairs: usize = rules.iter().map(|rule| rule.hosts.len() * rule.ports.len()).sum();
        if pairs > DOCUMENT_DESTINATIONS_MAX {
            faults.add(
                path,
                format!(
                    "{pairs} pairs of host and ports in all; expected at most {DOCUMENT_DESTINATIONS_MAX}"
                ),
            );
        }
        Self::index(document.into(), rules.into())
    }

    fn index(document: Arc<str>, rules: Box<[Rule]>) -> Self {
        let (mut names, mut suffixes, mut networks) = (Vec::new(), Vec::new(), Vec::new());
        for (rule_at, rule) in rules.iter().enumerate() {
            for (host_at, host) in rule.hosts.iter().enumerate() {
                let place = Place { rule: rule_at as u16, host: host_at as u16 };
                match host {
                    HostPattern::Name(name) => names.push((&**name, place)),
                    HostPattern::Wildcard(suffix) => suffixes.push((&**suffix, place)),
                    HostPattern::Network(_) => networks.push(place),
                }
            }
        }
        let sorted = |mut places: Vec<(&str, Place)>| -> Box<[Place]> {
            places.sort_by_key(|(text, _)| *text);
            places.into_iter().map(|(_, place)| place).collect()
        };
        let (names, suffixes) = (sorted(names), sorted(suffixes));
        Self { document, names, suffixes, networks: networks.into(), all: rules }
    }

    /// The rules, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.all.iter()
    }

    /// Names a rule of these for the record.
    pub fn reference(&self, rule: &Rule) -> RuleRef {
        RuleRef { document: Arc::clone(&self.document), rule: Arc::clone(&rule.name) }
    }

    /// Finds the rule that covers all of `destination`, or else the nearest.
    pub fn find(&self, destination: &Destination) -> Match<'_> {
        let mut nearest: Option<(Miss, &Rule)> = None;
        for rule in self.rules_for(&destination.host) {
            let miss = if rule.protocol != destination.protocol {
                Miss::Protocol
            } else if rule.ports.iter().any(|ports| ports.covers(destination.ports)) {
                return Match::Covered(rule);
            } else {
                Miss::Port
            };
            if nearest.is_none_or(|(best, _)| best < miss) {
                nearest = Some((miss, rule));
            }
        }
        match nearest {
            Some((miss, rule)) => Match::Missed(miss, Some(rule)),
            None => Match::Missed(Miss::Host, self.nearest_host(&destination.host)),
        }
    }

    /// Whether some rule covers all of `destination`; what `find` does without seeking the nearest.
    pub fn covering(&self, destination: &Destination) -> Option<&Rule> {
        self.rules_for(&destination.host).find(|rule| {
            rule.protocol == destination.protocol
                && rule.ports.iter().any(|ports| ports.covers(destination.ports))
        })
    }

    /// The rules that have a host which covers `host`.
    fn rules_for<'a, 'h>(&'a self, host: &'h HostPattern) -> impl Iterator<Item = &'a Rule> {
        let (exact, below, network): (&'a [Place], Option<&'h str>, Option<&'h IpNet>) = match host {
            HostPattern::Name(name) => (self.equal(&self.names, name), Some(name), None),
            HostPattern::Wildcard(suffix) => (self.equal(&self.suffixes, suffix), Some(suffix), None),
            HostPattern::Network(network) => (&[], None, Some(network)),
        };
        let suffixes = below.filter(|_| !self.suffixes.is_empty()).into_iter().flat_map(move |name| {
            name.match_indices('.').flat_map(move |(dot, _)| self.equal(&self.suffixes, &name[dot + 1..]))
        });
        let networks = network.into_iter().flat_map(move |asked| {
            self.networks.iter().filter(
                move |place| matches!(self.host(**place), HostPattern::Network(mine) if mine.contains(asked)),
            )
        });
        exact.iter().chain(suffixes).chain(networks).map(move |place| &self.all[usize::from(place.rule)])
    }

    fn host(&self, place: Place) -> &HostPattern {
        &self.all[usize::from(place.rule)].hosts[usize::from(place.host)]
    }

    fn text(&self, place: Place) -> &str {
        match self.host(place) {
            HostPattern::Name(text) | HostPattern::Wildcard(text) => text,
            HostPattern::Network(_) => "",
        }
    }

    fn equal<'a>(&self, places: &'a [Place], text: &str) -> &'a [Place] {
        let start = places.partition_point(|place| self.text(*place) < text);
        let length = places[start..].iter().take_while(|place| self.text(**place) == text).count();
        &places[start..start + length]
    }

    /// The rule with the host that looks most like `host`, if one looks like it at all: by the bytes that both have
    /// in common at their ends, at least half of them.
    fn nearest_host(&self, host: &HostPattern) -> Option<&Rule> {
        let (HostPattern::Name(asked) | HostPattern::Wildcard(asked)) = host else {
            return None;
        };
        let alike = |text: &str| {
            let pairs = asked.bytes().zip(text.bytes());
            let head = pairs.take_while(|(a, b)| a == b).count();
            let pairs = asked.bytes().rev().zip(text.bytes().rev());
            head + pairs.take_while(|(a, b)| a == b).count()
        };
        self.names
            .iter()
            .chain(&self.suffixes)
            .take(NEAREST_HOSTS_MAX)
            .map(|place| (alike(self.text(*place)), *place))
            .filter(|(score, place)| score * 2 >= asked.len().max(self.text(*place).len()))
            .max_by_key(|(score, _)| *score)
            .map(|(_, place)| &self.all[usize::from(place.rule)])
    }
}

fn parse_rule(draft: &RuleDraft, path: &str, faults: &mut Faults) -> Option<Rule> {
    let name = faults.keep(format!("{path}.name"), parse_word("rule name", &draft.name, 63));
    let mut count = |field: &str, length: usize, most: usize| {
        if length == 0 || length > most {
            faults.add(format!("{path}.{field}"), format!("{length} {field}; expected 1 to {most}"));
        }
    };
    count("hosts", draft.hosts.len(), HOSTS_MAX);
    count("ports", draft.ports.len(), PORTS_MAX);
    let hosts = draft.hosts.iter().take(HOSTS_MAX).enumerate();
    let hosts =
        hosts.filter_map(|(at, text)| faults.keep(format!("{path}.hosts[{at}]"), text.parse())).collect();
    let ports = draft.ports.iter().take(PORTS_MAX).enumerate();
    let ports =
        ports.filter_map(|(at, text)| faults.keep(format!("{path}.ports[{at}]"), text.parse())).collect();
    let protocol = match draft.protocol.as_deref() {
        None => Some(Protocol::default()),
        Some(text) => faults.keep(format!("{path}.protocol"), text.parse()),
    };
    Some(Rule { name: name?, hosts, ports, protocol: protocol? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(drafts: &[(&str, &[&str], &[&str])]) -> Rules {
        let drafts: Vec<RuleDraft> = drafts
            .iter()
            .map(|(name, hosts, ports)| RuleDraft {
                name: (*name).to_owned(),
                hosts: hosts.iter().map(ToString::to_string).collect(),
                ports: ports.iter().map(ToString::to_string).collect(),
                protocol: None,
            })
            .collect();
        let mut faults = Faults::default();
        let rules = Rules::parse(&drafts, "allow", "app", &mut faults);
        assert!(faults.is_empty(), "{:?}", faults.into_vec());
        rules
    }

    fn ask(host: &str, ports: &str) -> Destination {
        Destination { host: host.parse().unwrap(), ports: ports.parse().unwrap(), protocol: Protocol::Tcp }
    }

    #[test]
    fn the_nearest_miss_names_what_is_lacking() {
        let rules = rules(&[
            ("db", &["mysql-order.db.svc", "10.9.0.0/24"], &["3306"]),
            ("cache", &["*.redis.internal"], &["6379-6381"]),
        ]);
        let miss = |host, ports| match rules.find(&ask(host, ports)) {
            Match::Covered(rule) => panic!("covered by {}", rule.name),
            Match::Missed(miss, rule) => (miss, rule.map(|rule| rule.name.to_string())),
        };
        assert_eq!(miss("mysql-order.db.svc", "3307"), (Miss::Port, Some("db".into())));
        assert_eq!(miss("a.redis.internal", "6380-6382"), (Miss::Port, Some("cache".into())));
        assert_eq!(miss("mysql-oder.db.svc", "3306"), (Miss::Host, Some("db".into())));
        assert_eq!(miss("example.com", "3306"), (Miss::Host, None));
        assert_eq!(miss("10.9.1.1", "3306"), (Miss::Host, None));
        let udp = Destination { protocol: Protocol::Udp, ..ask("10.9.0.1", "3306") };
        assert!(matches!(rules.find(&udp), Match::Missed(Miss::Protocol, Some(_))));
    }

    #[test]
    fn faults_are_told_all_at_once_with_their_fields() {
        let drafts = [
            RuleDraft { name: "a".into(), hosts: vec!["-".into()], ports: vec!["0".into()], protocol: None },
            RuleDraft {
                name: "a".into(),
                hosts: vec![],
                ports: vec!["1".into()],
                protocol: Some("tcp".into()),
            },
        ];
        let mut faults = Faults::default();
        Rules::parse(&drafts, "spec.allow", "app", &mut faults);
        let paths: Vec<String> = faults.into_vec().into_iter().map(|fault| fault.path).collect();
        assert_eq!(
            paths,
            [
                "spec.allow[0].hosts[0]",
                "spec.allow[0].ports[0]",
                "spec.allow[1].name",
                "spec.allow[1].hosts",
                "spec.allow[1].protocol"
            ]
        );
    }

    fn hosts() -> impl Strategy<Value = String> {
        prop_oneof![
            "(\\*\\.)?[ab](\\.[ab]){0,3}",
            "10\\.[0-3]\\.[0-3]\\.[0-3]",
            (0u8..4, 8u8..=32).prop_map(|(octet, prefix)| {
                IpNet::new([10, octet, octet, octet].into(), prefix).unwrap().trunc().to_string()
            }),
            "fd00::[0-3]",
        ]
    }

    proptest! {
        /// The index finds what a plain search through all rules finds.
        #[test]
        fn the_index_agrees_with_a_plain_search(
            drafts in prop::collection::vec((prop::collection::vec(hosts(), 1..5), 1u32..5, 0u32..3), 1..8),
            asked in hosts(),
            first in 1u32..6,
            length in 0u32..2,
        ) {
            let drafts: Vec<RuleDraft> = drafts.into_iter().enumerate().map(|(at, (hosts, first, length))| RuleDraft {
                name: format!("rule-{at}"),
                hosts,
                ports: vec![format!("{first}-{}", first + length)],
                protocol: None,
            }).collect();
            let mut faults = Faults::default();
            let rules = Rules::parse(&drafts, "allow", "app", &mut faults);
            prop_assert!(faults.is_empty());
            let destination = ask(&asked, &format!("{first}-{}", first + length));
            let plain = rules.iter().any(|rule| {
                rule.hosts.iter().any(|host| host.covers(&destination.host))
                    && rule.ports.iter().any(|ports| ports.covers(destination.ports))
            });
            prop_assert_eq!(matches!(rules.find(&destination), Match::Covered(_)), plain);
            prop_assert_eq!(rules.covering(&destination).is_some(), plain);
        }
    }
}
