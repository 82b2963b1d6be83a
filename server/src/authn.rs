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
    /// The caller behind a connection from `peer` to our address `local`.
    ///
    /// Both have to be loopback for the operator: a mesh's sidecar hands on connections from elsewhere out of loopback
    /// (Istio's from 127.0.0.6), but to the pod's own address.
    pub fn new(peer: IpAddr, local: IpAddr) -> Self {
        let address = peer.to_canonical();
        let is_operator = address.is_loopback() && local.to_canonical().is_loopback();
        Self { address, role: if is_operator { Role::Operator } else { Role::Pod } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_the_operator() {
        for (peer, local, role) in [
            ("127.0.0.1", "127.0.0.1", Role::Operator),
            ("127.9.8.7", "127.0.0.1", Role::Operator),
            ("::1", "::1", Role::Operator),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1", Role::Operator),
            ("127.0.0.6", "10.8.0.2", Role::Pod),
            ("10.8.3.17", "10.8.0.2", Role::Pod),
            ("::ffff:10.8.3.17", "::ffff:10.8.0.2", Role::Pod),
            ("fd00::7", "fd00::2", Role::Pod),
        ] {
            assert_eq!(Caller::new(peer.parse().unwrap(), local.parse().unwrap()).role, role, "{peer}");
        }
    }
}
