//! What this host guards, and which doors a grant opens here.

use podgate_engine::{
    destination::Destination,
    port::{PortRange, Protocol},
};

use crate::door::Door;

/// The guarded ports, by all the names and addresses under which profiles know this host.
#[derive(Clone, Debug)]
pub(crate) struct Guards(Vec<Destination>);

impl Guards {
    /// Those that were declared.
    pub(crate) fn new(guards: Vec<Destination>) -> Self {
        Self(guards)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.0.iter()
    }

    /// The guarded ports that a granted destination opens: the destination has to cover the guarded host as a whole,
    /// and of the ports those count that both have.
    pub(crate) fn opened_by(&self, granted: &Destination) -> Vec<Door> {
        let guards = self
            .0
            .iter()
            .filter(|guard| guard.protocol == granted.protocol && granted.host.covers(&guard.host));
        let common = guards.filter_map(|guard| common(guard.ports, granted.ports));
        common.map(|ports| Door { protocol: granted.protocol, ports }).collect()
    }

    /// The guarded ports of a protocol.
    pub(crate) fn ports(&self, protocol: Protocol) -> impl Iterator<Item = PortRange> {
        self.0.iter().filter(move |guard| guard.protocol == protocol).map(|guard| guard.ports)
    }
}

fn common(a: PortRange, b: PortRange) -> Option<PortRange> {
    // Where they have nothing in common the range runs backwards, and there is none.
    PortRange::new(a.first().max(b.first()).into(), a.last().min(b.last()).into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(guards: &[&str], granted: &str) -> Vec<String> {
        let guards = Guards::new(guards.iter().map(|guard| guard.parse().unwrap()).collect());
        let doors = guards.opened_by(&granted.parse().unwrap());
        doors.into_iter().map(|Door { protocol, ports }| format!("{ports}/{protocol}")).collect()
    }

    #[test]
    fn a_grant_opens_the_ports_that_both_have() {
        let guards = ["mysql.db.svc:3306", "10.9.0.5:3306-3310", "10.9.0.5:53/udp"];
        for (granted, expected) in [
            ("mysql.db.svc:3306", &["3306/TCP"][..]),
            ("mysql.db.svc:3300-3400", &["3306/TCP"]),
            ("*.db.svc:3306", &["3306/TCP"]),
            ("10.9.0.0/24:3308-3400", &["3308-3310/TCP"]),
            ("10.9.0.0/24:1-100/udp", &["53/UDP"]),
            ("mysql.db.svc:3307", &[]),
            ("mysql.db.svc:3306/udp", &[]),
            ("other.db.svc:3306", &[]),
            ("10.9.0.6:3306", &[]),
        ] {
            assert_eq!(opened(&guards, granted), expected, "{granted}");
        }
        // A part of a guarded network is not the whole of it, and the set cannot tell its hosts apart.
        assert_eq!(opened(&["10.9.0.0/24:3306"], "10.9.0.5:3306"), [""; 0]);
        assert_eq!(opened(&["10.9.0.0/24:3306"], "10.0.0.0/8:3306"), ["3306/TCP"]);
    }
}
