//! A destination: where a subject wants to go.

use std::{fmt, str::FromStr};

use crate::{
    fault::{Unreadable, shown},
    host::HostPattern,
    port::{PortRange, Protocol},
};

/// Most destinations of one request.
pub const DESTINATIONS_MAX: usize = 256;

/// Hosts, ports and protocol that a request asks for, or a grant allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The hosts.
    pub host: HostPattern,
    /// The ports.
    pub ports: PortRange,
    /// The protocol.
    pub protocol: Protocol,
}

impl Destination {
    /// Whether all of `other` lies inside.
    pub fn covers(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.ports.covers(other.ports) && self.host.covers(&other.host)
    }

    /// Whether something lies inside both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.ports.overlaps(other.ports) && self.host.overlaps(&other.host)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Network(network) if network.addr().is_ipv6() => {
                write!(f, "[{}]:{}/{}", self.host, self.ports, self.protocol)
            }
            host => write!(f, "{host}:{}/{}", self.ports, self.protocol),
        }
    }
}

impl FromStr for Destination {
    type Err = Unreadable;

    /// Reads `host:port`, `host:first-last`, `[v6]:port`, each with `/tcp` or `/udp` behind it or without.
    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let malformed = || {
            Unreadable(format!(
                "{} is no destination; expected one such as `mysql.db.svc:3306`, `10.9.0.0/24:6379-6381/udp` or \
                 `[fd00::7]:53`",
                shown(text)
            ))
        };
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, word)) if word.eq_ignore_ascii_case("tcp") => (rest, Protocol::Tcp),
            Some((rest, word)) if word.eq_ignore_ascii_case("udp") => (rest, Protocol::Udp),
            Some(_) | None => (text, Protocol::default()),
        };
        let (host, ports) = rest.rsplit_once(':').ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        Ok(Self { host: host.parse()?, ports: ports.parse()?, protocol })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn destinations_are_read_in_every_form() {
        for (text, shown) in [
            ("mysql.db.svc:3306", "mysql.db.svc:3306/TCP"),
            ("*.redis.internal:6379-6381/tcp", "*.redis.internal:6379-6381/TCP"),
            ("10.9.0.0/24:53/UDP", "10.9.0.0/24:53/UDP"),
            ("[fd00::7]:53/udp", "[fd00::7]:53/UDP"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown);
        }
        for text in
            ["", "mysql", "mysql:", ":3306", "fd00::7:53", "[fd00::7:53", "mysql:3306/sctp", "mysql:0"]
        {
            assert!(text.parse::<Destination>().is_err(), "{text:?} was read as a destination");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}|[a-z.*]{0,10}:[0-9-]{0,8}(/[a-z]{3})?") {
            let _ = text.parse::<Destination>();
        }
    }
}
