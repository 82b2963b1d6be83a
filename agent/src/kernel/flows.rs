//! Connections that the kernel tracks, as `conntrack` lists them and takes them for deletion.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use podgate_engine::port::Protocol;

use crate::door::{Door, Element, Family, protocol_name};

/// Most flows that are told to conntrack in one run.
pub(crate) const FLOWS_MAX: usize = 4_096;

/// Connections from an address to a port, whatever ports they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    address: IpAddr,
    protocol: Protocol,
    port: u16,
}

/// What is to be closed, by what conntrack can list by itself.
#[derive(Debug, Default)]
pub(crate) struct Closing(BTreeMap<(Family, Protocol), BTreeMap<IpAddr, Vec<Door>>>);

impl Closing {
    /// Sorts elements that are not open any more.
    pub(crate) fn of(elements: &[Element]) -> Self {
        let mut closing = Self::default();
        for Element { address, door } in elements {
            let listing = closing.0.entry((Family::of(*address), door.protocol)).or_default();
            listing.entry(*address).or_default().push(*door);
        }
        closing
    }

    /// The listings that are needed.
    pub(crate) fn listings(&self) -> impl Iterator<Item = (Family, Protocol)> {
        self.0.keys().copied()
    }

    /// Those among the listed connections that are to be closed, up to the bound.
    pub(crate) fn among(&self, (family, protocol): (Family, Protocol), listed: &[u8]) -> BTreeSet<Flow> {
        let Some(doors) = self.0.get(&(family, protocol)) else { return BTreeSet::new() };
        let lines = listed.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let flows = lines.filter_map(|line| flow(line, protocol));
        let is_closing = |flow: &Flow| {
            let mut doors = doors.get(&flow.address).into_iter().flatten();
            doors.any(|door| (door.ports.first()..=door.ports.last()).contains(&flow.port))
        };
        let mut found = BTreeSet::new();
        for flow in flows.filter(is_closing) {
            if found.len() == FLOWS_MAX {
                break;
            }
            found.insert(flow);
        }
        found
    }
}

/// The arguments of the listing of a family and protocol.
pub(crate) fn listing((family, protocol): (Family, Protocol)) -> [&'static str; 5] {
    ["-L", "-f", family_name(family), "-p", protocol_name(protocol)]
}

/// What conntrack reads to delete them: one command a line.
pub(crate) fn deletion(flows: &BTreeSet<Flow>) -> String {
    let line = |Flow { address, protocol, port }: &Flow| {
        let (family, protocol) = (family_name(Family::of(*address)), protocol_name(*protocol));
        format!("-D -f {family} -p {protocol} -s {address} --dport {port}\n")
    };
    flows.iter().map(line).collect()
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// The direction in which the connection was opened, which stands first on the line.
fn flow(line: &str, protocol: Protocol) -> Option<Flow> {
    let value = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
    Some(Flow { address: value("src=")?.parse().ok()?, protocol, port: value("dport=")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use podgate_engine::port::PortRange;

    use super::*;

    /// As conntrack 1.4.7 writes it.
    const LISTED: &str = "\
tcp      6 431999 ESTABLISHED src=10.77.0.2 dst=10.77.0.1 sport=53609 dport=3306 src=10.77.0.1 dst=10.77.0.2 sport=3306 dport=53609 [ASSURED] mark=0 use=1
tcp      6 431999 ESTABLISHED src=10.77.0.2 dst=10.77.0.1 sport=46503 dport=3306 src=10.77.0.1 dst=10.77.0.2 sport=3306 dport=46503 [ASSURED] mark=0 use=1
tcp      6 431999 ESTABLISHED src=10.77.0.2 dst=10.77.0.1 sport=46504 dport=3310 src=10.77.0.1 dst=10.77.0.2 sport=3310 dport=46504 [ASSURED] mark=0 use=1
tcp      6 431999 ESTABLISHED src=10.77.0.3 dst=10.77.0.1 sport=56213 dport=3306 src=10.77.0.1 dst=10.77.0.3 sport=3306 dport=56213 [ASSURED] mark=0 use=1
";

    #[test]
    fn only_what_is_to_be_closed_is_found() {
        let ports = PortRange::new(3300, 3307).unwrap();
        let address = "10.77.0.2".parse().unwrap();
        let closing = Closing::of(&[Element { address, door: Door { protocol: Protocol::Tcp, ports } }]);
        let listings: Vec<_> = closing.listings().collect();
        assert_eq!(listings, [(Family::V4, Protocol::Tcp)]);
        let flows = closing.among(listings[0], LISTED.as_bytes());
        assert_eq!(deletion(&flows), "-D -f ipv4 -p tcp -s 10.77.0.2 --dport 3306\n");
        assert!(closing.among((Family::V6, Protocol::Tcp), LISTED.as_bytes()).is_empty());
    }
}
