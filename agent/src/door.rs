//! What is opened: ports of a protocol, to one source address, until an instant.

use std::{fmt, net::IpAddr};

use podgate_engine::{
    port::{PortRange, Protocol},
    time::WallTime,
};

/// Ports over one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Door {
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The ports.
    pub(crate) ports: PortRange,
}

/// A door that is open until an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opening {
    /// The door.
    pub(crate) door: Door,
    /// When it closes by itself.
    pub(crate) until: WallTime,
}

/// An element of the kernel's set: a door for one source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    /// The source address.
    pub(crate) address: IpAddr,
    /// What it may reach.
    pub(crate) door: Door,
}

/// Which of the two sets an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The protocol's name, as nft and conntrack write it.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

impl fmt::Display for Element {
    /// As nft reads it: `10.8.3.17 . tcp . 6379-6381`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, door: Door { protocol, ports } } = self;
        write!(f, "{address} . {} . {ports}", protocol_name(*protocol))
    }
}
