//! Hosts: exact names, wildcard names, addresses and CIDRs.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::fault::{Unreadable, shown};

/// Longest DNS name, in bytes (RFC 1035 §2.3.4, without the trailing dot).
pub const NAME_BYTES_MAX: usize = 253;

/// A set of hosts, as rules and requests write them.
///
/// Names are kept in lower case and without a trailing dot. podgate never resolves them: a name covers that name
/// only, an address that address only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// One DNS name.
    Name(Box<str>),
    /// All names that end in this suffix, with at least one label more: `*.redis.internal` has the suffix
    /// `redis.internal`.
    Wildcard(Box<str>),
    /// The addresses of a network; a single address is one with a full prefix.
    Network(IpNet),
}

impl HostPattern {
    /// Whether each host of `other` is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(mine), Self::Name(theirs)) => mine == theirs,
            (Self::Wildcard(suffix), Self::Name(name)) => is_below(name, suffix),
            (Self::Wildcard(mine), Self::Wildcard(theirs)) => mine == theirs || is_below(theirs, mine),
            (Self::Network(mine), Self::Network(theirs)) => mine.contains(theirs),
            (Self::Name(_), Self::Wildcard(_) | Self::Network(_))
            | (Self::Wildcard(_), Self::Network(_))
            | (Self::Network(_), Self::Name(_) | Self::Wildcard(_)) => false,
        }
    }

    /// Whether some host is one of both. Suffixes and prefixes lie inside one another or apart, so that one covers the
    /// other where they meet.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|head| head.len() > 1 && head.ends_with('.'))
}

impl From<IpAddr> for HostPattern {
    fn from(address: IpAddr) -> Self {
        Self::Network(IpNet::from(address))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            Self::Network(net) => net.fmt(f),
        }
    }
}

impl FromStr for HostPattern {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        if text.contains('/') {
            return parse_network(text).map(Self::Network);
        }
        if text.contains(':') || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return parse_address(text).map(Self::from);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => parse_name(suffix, text).map(Self::Wildcard),
            None => parse_name(text, text).map(Self::Name),
        }
    }
}

/// Reads an address, and refuses forms that would name one host in two ways.
pub fn parse_address(text: &str) -> Result<IpAddr, Unreadable> {
    let address: IpAddr = text.parse().map_err(|_| {
        Unreadable(format!("{} is no IP address; expected one such as `10.9.0.7` or `fd00::7`", shown(text)))
    })?;
    refuse_mapped(address, text)?;
    Ok(address)
}

/// Reads a CIDR without host bits.
pub fn parse_network(text: &str) -> Result<IpNet, Unreadable> {
    let net: IpNet = text.parse().map_err(|_| {
        Unreadable(format!("{} is no CIDR; expected one such as `10.9.0.0/24` or `fd00::/64`", shown(text)))
    })?;
    refuse_mapped(net.addr(), text)?;
    if net.addr() != net.network() {
        return Err(Unreadable(format!(
            "{} has host bits set; did you mean `{}`?",
            shown(text),
            net.trunc()
        )));
    }
    Ok(net)
}

fn refuse_mapped(address: IpAddr, text: &str) -> Result<(), Unreadable> {
    match address {
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => {
            Err(Unreadable(format!("{} is an IPv4-mapped address; write it as IPv4, `{v4}`", shown(text))))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => Ok(()),
    }
}

fn parse_name(name: &str, whole: &str) -> Result<Box<str>, Unreadable> {
    let refuse = |why: &str| {
        Err(Unreadable(format!(
            "{} is no host: {why}; expected a DNS name, `*.` and a DNS name, an IP address or a CIDR",
            shown(whole)
        )))
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse("it is longer than 253 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return refuse("its labels have to be 1 to 63 bytes long");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a label neither begins nor ends with `-`");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return refuse("labels consist of letters, digits, `-` and `_`");
        }
    }
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return refuse("a name's last label is not a number");
    }
    Ok(name.to_ascii_lowercase().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn covers_what_it_names_and_nothing_else() {
        assert!(host("*.redis.internal").covers(&host("a.b.redis.internal")));
        assert!(!host("*.redis.internal").covers(&host("redis.internal")));
        assert!(!host("*.redis.internal").covers(&host("xredis.internal")));
        assert!(host("10.9.0.0/24").covers(&host("10.9.0.7")));
        assert!(host("10.9.0.0/24").covers(&host("10.9.0.128/25")));
        assert!(!host("10.9.0.128/25").covers(&host("10.9.0.0/24")));
        assert!(!host("10.9.0.0/24").covers(&host("fd00::1")));
        assert!(host("FD00::/8").covers(&host("fd12::1")));
        assert!(host("Mysql.DB.svc.").covers(&host("mysql.db.svc")));
    }

    #[test]
    fn refuses_what_looks_like_something_else() {
        for text in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "-a.b",
            "10.0.0.300",
            "10.0.1",
            "1.2.3.4.5",
            "::ffff:10.0.0.1",
            "a b",
            "10.9.0.7/24",
            "a*.b",
            "ü.de",
            "host:80",
            "a/b",
        ] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?} was read as a host");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_reads_back(text in "\\PC{0,80}") {
            if let Ok(parsed) = text.parse::<HostPattern>() {
                prop_assert_eq!(parsed.to_string().parse::<HostPattern>().unwrap(), parsed);
            }
        }

        #[test]
        fn each_pattern_covers_itself(text in "(\\*\\.)?[a-z][a-z0-9]{0,8}(\\.[a-z]{1,5}){0,3}|[0-9]{1,3}(\\.[0-9]{1,3}){3}") {
            if let Ok(parsed) = text.parse::<HostPattern>() {
                prop_assert!(parsed.covers(&parsed));
            }
        }
    }
}
