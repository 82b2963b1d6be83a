//! What an enforcer guards, and which part of a grant concerns it.

use std::sync::Arc;

use crate::{
    destination::Destination,
    grant::{Allowed, Grant},
    host::HostPattern,
};

/// Most destinations that one enforcer guards.
pub const GUARDS_MAX: usize = 256;

/// What an enforcer stands before: names, addresses and networks, with ports.
///
/// podgate resolves no names. Whoever stands before a name has to say so; without guards an enforcer is taken for one
/// that sees addresses, and is told of the rules for addresses alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Guards {
    /// The cluster whose grants are wanted; none: of any.
    cluster: Option<Box<str>>,
    guarded: Arc<[Destination]>,
}

impl Guards {
    /// Guards for grants of `cluster`, or of any.
    pub fn new(cluster: Option<Box<str>>, guarded: impl Into<Arc<[Destination]>>) -> Self {
        Self { cluster, guarded: guarded.into() }
    }

    /// Whether some of what `grant` allows is guarded here.
    pub fn concern(&self, grant: &Grant) -> bool {
        self.part_of(grant).next().is_some()
    }

    /// What `grant` allows of what is guarded here, each destination as a whole: its ports may be more than the guarded
    /// ones.
    pub fn part_of<'a>(&'a self, grant: &'a Grant) -> impl Iterator<Item = &'a Allowed> {
        let is_wanted = self.cluster.as_ref().is_none_or(|cluster| **cluster == *grant.subject.cluster);
        let allowed = if is_wanted { &*grant.allowed } else { &[] };
        allowed.iter().filter(|allowed| self.cover_some_of(&allowed.destination))
    }

    fn cover_some_of(&self, destination: &Destination) -> bool {
        if self.guarded.is_empty() {
            return match destination.host {
                HostPattern::Network(_) => true,
                HostPattern::Name(_) | HostPattern::Wildcard(_) => false,
            };
        }
        self.guarded.iter().any(|guarded| guarded.overlaps(destination))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        grant::{Basis, GrantId, Terms},
        lease::{Fallback, Tenure},
        port::{PortRange, Protocol},
        subject::{Subject, SubjectKind},
        time::{Moment, WallTime},
    };

    fn destinations(texts: &[&str]) -> Vec<Destination> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn grant(cluster: &str, allowed: Vec<Destination>) -> Grant {
        let allowed =
            allowed.into_iter().map(|destination| Allowed { destination, basis: Basis::Shadow }).collect();
        Grant {
            id: GrantId(1),
            generation: 1,
            terms: Arc::new(Terms {
                app: "order".into(),
                allowed,
                requests: [].into(),
                revision: 1,
                shadow: false,
                fallback: Fallback::Deny,
            }),
            subject: Arc::new(Subject {
                cluster: cluster.into(),
                address: [10, 8, 3, 17].into(),
                kind: SubjectKind::Host("".into()),
            }),
            tenure: Tenure::Fixed,
            admitted_at: Moment::from_nanos(1),
            created_at: WallTime::from_millis(1),
            expires_at: WallTime::from_millis(2),
        }
    }

    fn seen(guards: &[&str], allowed: &[&str]) -> Vec<String> {
        let grant = grant("", destinations(allowed));
        let guards = Guards::new(None, destinations(guards));
        guards.part_of(&grant).map(|allowed| allowed.destination.to_string()).collect()
    }

    #[test]
    fn a_guard_of_a_name_sees_the_rules_for_that_name() {
        let guards = ["mysql-order.db.svc:3306"];
        for allowed in
            ["mysql-order.db.svc:3306", "*.db.svc:3306", "*.svc:1-65535", "mysql-order.db.svc:3300-3310"]
        {
            assert_eq!(seen(&guards, &[allowed]).len(), 1, "{allowed}");
        }
        for other in [
            "mysql-pay.db.svc:3306",
            "*.mysql-order.db.svc:3306",
            "mysql-order.db.svc:3307",
            "mysql-order.db.svc:3306/udp",
            "10.9.0.0/24:3306",
        ] {
            assert!(seen(&guards, &[other]).is_empty(), "{other}");
        }
    }

    #[test]
    fn guards_of_addresses_see_what_overlaps() {
        assert_eq!(
            seen(&["10.9.0.7:3306"], &["10.9.0.0/24:3306", "10.9.1.0/24:3306"]),
            ["10.9.0.0/24:3306/TCP"]
        );
        assert_eq!(seen(&["10.9.0.0/16:1-65535"], &["10.9.0.7:3306"]), ["10.9.0.7:3306/TCP"]);
        assert!(seen(&["10.9.0.0/16:1-65535"], &["[fd00::7]:3306"]).is_empty());
    }

    #[test]
    fn who_guards_nothing_sees_the_rules_for_addresses() {
        let allowed = ["mysql.db.svc:3306", "*.redis.internal:6379", "10.9.0.0/24:3306", "[fd00::7]:53/udp"];
        assert_eq!(seen(&[], &allowed), ["10.9.0.0/24:3306/TCP", "[fd00::7]:53/UDP"]);
    }

    #[test]
    fn a_cluster_keeps_to_itself() {
        let held = grant("bj-1", destinations(&["10.9.0.7:3306"]));
        assert!(Guards::new(None, []).concern(&held));
        assert!(Guards::new(Some("bj-1".into()), []).concern(&held));
        assert!(!Guards::new(Some("bj-2".into()), []).concern(&held));
    }

    /// Every host and port of a small world, to count by hand what two destinations share.
    fn world() -> impl Iterator<Item = Destination> {
        let names = ["r", "x.r", "y.r", "z.r", "z.x.r", "z.y.r", "xr"].map(str::to_owned).into_iter();
        let hosts = names.chain((0..8).map(|last| format!("10.0.0.{last}")));
        hosts.flat_map(|host| {
            (1..=5).map(move |port| Destination {
                host: host.parse().unwrap(),
                ports: PortRange::new(port, port).unwrap(),
                protocol: Protocol::Tcp,
            })
        })
    }

    fn somewhere() -> impl Strategy<Value = Destination> {
        let host = prop_oneof![
            "(z\\.)?(x\\.|y\\.)?r|xr",
            "\\*\\.(x\\.)?r",
            (0u8..4, 29u8..=32).prop_map(|(block, prefix)| format!(
                "10.0.0.{}/{prefix}",
                (block * 2) & (0xff << (32 - prefix))
            )),
        ];
        (host, 1u32..=5, 0u32..3).prop_map(|(host, first, more)| Destination {
            host: host.parse().unwrap(),
            ports: PortRange::new(first, (first + more).min(5)).unwrap(),
            protocol: Protocol::Tcp,
        })
    }

    proptest! {
        #[test]
        fn destinations_overlap_where_they_share_a_place(one in somewhere(), other in somewhere()) {
            let shared = world().any(|place| one.covers(&place) && other.covers(&place));
            prop_assert_eq!(one.overlaps(&other), shared);
            prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        }

        #[test]
        fn what_one_covers_it_overlaps(one in somewhere(), other in somewhere()) {
            if one.covers(&other) {
                prop_assert!(one.overlaps(&other));
            }
        }
    }
}
