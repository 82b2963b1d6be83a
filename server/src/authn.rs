//! Who calls, and what callers of that kind may do.
//!
//! Nobody proves an identity yet: whoever calls from loopback is the operator, and whoever calls from elsewhere
//! (only where `--insecure` opens the door) has the role of a pod.

use std::net::IpAddr;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Ask for itself, and give back.
    Pod,
    /// Everything.
    Operator,
}

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address that the call comes from, IPv4 where it is mapped into IPv6.
    pub address: IpAddr,
    /// The role.
    pub role: Role,
}

impl Caller {
    /// The caller behind a connection from `peer`.
    pub fn from_peer(peer: IpAddr) -> Self {
        let address = peer.to_canonical();
        let role = if address.is_loopback() { Role::Operator } else { Role::Pod };
        Self { address, role }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_the_operator() {
        for (peer, role) in [
            ("127.0.0.1", Role::Operator),
            ("127.9.8.7", Role::Operator),
            ("::1", Role::Operator),
            ("::ffff:127.0.0.1", Role::Operator),
            ("10.8.3.17", Role::Pod),
            ("::ffff:10.8.3.17", Role::Pod),
            ("fd00::7", Role::Pod),
        ] {
            assert_eq!(Caller::from_peer(peer.parse().unwrap()).role, role, "{peer}");
        }
    }
}
