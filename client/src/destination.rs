//! What is to be reached: `host:port[-last][/tcp|udp]`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use crate::{endpoint::looks_numeric, text};

/// A place that an app wants to reach.
///
/// Parsed from `host:port[-last][/tcp|udp]`, where the host is a DNS name, an IPv4 address or an IPv6 address in
/// brackets, or a CIDR (`10.0.0.0/8:443`, `[2001:db8::/32]:443`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    host: Host,
    port: u16,
    last_port: u16,
    protocol: Protocol,
}

/// The host of a [`Destination`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name, in lower case.
    Name(String),
    /// A wildcard name such as `*.redis.internal`: only in an answer, where a profile allows it.
    Wildcard(String),
    /// An address.
    Address(IpAddr),
    /// A CIDR without host bits: its first address and its prefix length.
    Network(IpAddr, u8),
}

/// The transport protocol of a [`Destination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Why a text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a destination: {why}; expected host:port[-last][/tcp|udp]")]
pub struct DestinationError {
    given: String,
    why: &'static str,
}

impl Destination {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The first port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The last port, equal to the first where there is one only.
    pub fn last_port(&self) -> u16 {
        self.last_port
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A destination of an answer: as [`FromStr`] takes it, and wildcard names besides.
    pub(crate) fn of_answer(host: &str, port: u16, last_port: u16, protocol: Protocol) -> Option<Self> {
        let host = match host.strip_prefix("*.") {
            Some(suffix) => Host::Wildcard(format!("*.{}", dns_name(suffix).ok()?)),
            None => parse_host(host, Brackets::Absent).ok()?,
        };
        (port != 0 && port <= last_port).then_some(Self { host, port, last_port, protocol })
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(given: &str) -> Result<Self, DestinationError> {
        parse(given).map_err(|why| DestinationError { given: text::shown(given), why })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            host @ (Host::Address(IpAddr::V6(_)) | Host::Network(IpAddr::V6(_), _)) => {
                write!(f, "[{host}]:{}", self.port)?;
            }
            host => write!(f, "{host}:{}", self.port)?,
        }
        if self.last_port != self.port {
            write!(f, "-{}", self.last_port)?;
        }
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Wildcard(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::Network(address, length) => write!(f, "{address}/{length}"),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Whether the host stood in brackets, as an IPv6 address before a port has to.
#[derive(Clone, Copy)]
enum Brackets {
    Present,
    Absent,
}

fn parse(given: &str) -> Result<Destination, &'static str> {
    let (host, ports) = if let Some(bracketed) = given.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("the bracket is not closed")?;
        let ports = rest.strip_prefix(':').ok_or("the port is missing")?;
        (parse_host(host, Brackets::Present)?, ports)
    } else {
        let (host, ports) = given.rsplit_once(':').ok_or("the port is missing")?;
        if host.contains(':') {
            return Err("an IPv6 address stands in brackets");
        }
        (parse_host(host, Brackets::Absent)?, ports)
    };
    let (ports, protocol) = match ports.split_once('/') {
        None => (ports, Protocol::Tcp),
        Some((ports, name)) if name.eq_ignore_ascii_case("tcp") => (ports, Protocol::Tcp),
        Some((ports, name)) if name.eq_ignore_ascii_case("udp") => (ports, Protocol::Udp),
        Some(_) => return Err("the protocol is neither tcp nor udp"),
    };
    let (port, last_port) = match ports.split_once('-') {
        Some((first, last)) => (parse_port(first)?, parse_port(last)?),
        None => (parse_port(ports)?, parse_port(ports)?),
    };
    if last_port < port {
        return Err("the port range ends before it begins");
    }
    Ok(Destination { host, port, last_port, protocol })
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() {
        return Err("the port is missing");
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("the port is not a number");
    }
    text.parse().ok().filter(|port| *port != 0).ok_or("the port is not between 1 and 65535")
}

fn parse_host(host: &str, brackets: Brackets) -> Result<Host, &'static str> {
    if let Some((address, length)) = host.split_once('/') {
        let address = parse_address(address).ok_or("the CIDR does not begin with an address")??;
        return parse_network(address, length);
    }
    if let Some(address) = parse_address(host) {
        return address.map(Host::Address);
    }
    match brackets {
        Brackets::Present => Err("what stands in brackets is not an IPv6 address"),
        Brackets::Absent => dns_name(host).map(Host::Name),
    }
}

/// None where the text is no address at all.
fn parse_address(text: &str) -> Option<Result<IpAddr, &'static str>> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    Some(if mapped { Err("an IPv4 address is written as such, not mapped into IPv6") } else { Ok(address) })
}

fn parse_network(address: IpAddr, length: &str) -> Result<Host, &'static str> {
    let digits = !length.is_empty() && length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (Ipv6Addr::to_bits(v6), 128),
    };
    let length: u8 = Some(length)
        .filter(|_| digits)
        .and_then(|length| length.parse().ok())
        .filter(|length| *length <= width)
        .ok_or("the prefix length of the CIDR is out of bounds")?;
    if bits.checked_shl(u32::from(length)).unwrap_or(0) != 0 {
        return Err("the CIDR has bits set beyond its prefix");
    }
    Ok(Host::Network(address, length))
}

fn dns_name(name: &str) -> Result<String, &'static str> {
    if name.is_empty() {
        return Err("the host is missing");
    }
    if name.contains('*') {
        return Err("a wildcard belongs into a profile, not into a request");
    }
    if name.len() > 253 {
        return Err("the host is longer than 253 bytes");
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Err("the host is neither a DNS name nor an address");
    }
    if looks_numeric(name) {
        return Err("the host is not an IPv4 address");
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn destinations_are_read_and_shown_in_one_form() {
        for (given, shown) in [
            ("mysql-order.db.svc:3306", "mysql-order.db.svc:3306"),
            ("MySQL:3306/TCP", "mysql:3306"),
            ("redis_1:6379-6381", "redis_1:6379-6381"),
            ("dns:53/udp", "dns:53/udp"),
            ("10.9.0.1:80", "10.9.0.1:80"),
            ("10.9.0.0/24:80-80", "10.9.0.0/24:80"),
            ("0.0.0.0/0:1-65535/udp", "0.0.0.0/0:1-65535/udp"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("[::/0]:443", "[::/0]:443"),
            ("[2001:db8::1/128]:443", "[2001:db8::1/128]:443"),
        ] {
            assert_eq!(given.parse::<Destination>().unwrap().to_string(), shown, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, why) in [
            ("", "the port is missing"),
            ("mysql", "the port is missing"),
            ("mysql:", "the port is missing"),
            (":3306", "the host is missing"),
            ("mysql:0", "the port is not between 1 and 65535"),
            ("mysql:65536", "the port is not between 1 and 65535"),
            ("mysql:-1", "the port is missing"),
            ("mysql:+1", "the port is not a number"),
            ("mysql:mysql", "the port is not a number"),
            ("mysql:9-1", "the port range ends before it begins"),
            ("mysql:1-", "the port is missing"),
            ("mysql:80/sctp", "the protocol is neither tcp nor udp"),
            ("*.redis.internal:6379", "a wildcard belongs into a profile, not into a request"),
            ("my sql:80", "the host is neither a DNS name nor an address"),
            ("-mysql:80", "the host is neither a DNS name nor an address"),
            ("mysql.:80", "the host is neither a DNS name nor an address"),
            ("10.9.0.300:80", "the host is not an IPv4 address"),
            ("10.9.0.1/24:80", "the CIDR has bits set beyond its prefix"),
            ("10.9.0.0/33:80", "the prefix length of the CIDR is out of bounds"),
            ("10.9.0.0/:80", "the prefix length of the CIDR is out of bounds"),
            ("mysql/24:80", "the CIDR does not begin with an address"),
            ("::1:80", "an IPv6 address stands in brackets"),
            ("[::1:80", "the bracket is not closed"),
            ("[::1]80", "the port is missing"),
            ("[mysql]:80", "what stands in brackets is not an IPv6 address"),
            ("[::ffff:10.0.0.1]:80", "an IPv4 address is written as such, not mapped into IPv6"),
        ] {
            assert_eq!(given.parse::<Destination>().unwrap_err().why, why, "{given}");
        }
    }

    #[test]
    fn an_answer_may_name_a_wildcard() {
        let redis = Destination::of_answer("*.Redis.internal", 6379, 6381, Protocol::Tcp).unwrap();
        assert_eq!(redis.to_string(), "*.redis.internal:6379-6381");
        assert_eq!(Destination::of_answer("*.*", 1, 1, Protocol::Tcp), None);
        assert_eq!(
            Destination::of_answer("2001:db8::1", 1, 1, Protocol::Udp).unwrap().to_string(),
            "[2001:db8::1]:1/udp"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(given in "[a-z0-9.:/\\[\\]*-]{0,24}|\\PC{0,40}") {
            if let Ok(destination) = given.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
            }
        }

        #[test]
        fn networks_hold_no_host_bits(bits in any::<u32>(), length in 0u8..=32) {
            let address = std::net::Ipv4Addr::from_bits(bits);
            let clean = bits.checked_shl(u32::from(length)).unwrap_or(0) == 0;
            prop_assert_eq!(format!("{address}/{length}:80").parse::<Destination>().is_ok(), clean);
        }
    }
}
