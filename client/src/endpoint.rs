//! Where a gateway listens.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use crate::text;

/// The port of a gateway whose endpoint names none.
const DEFAULT_PORT: u16 = 7420;

/// A gateway's address, parsed from `http://host[:port]` or `https://host[:port]`; the port is 7420 unless given.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Parts {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// Whether the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an endpoint: {why}; expected http://host:port or https://host:port")]
pub struct EndpointError {
    given: String,
    why: &'static str,
}

impl Endpoint {
    /// Name or address of the host; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.0.scheme
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(given: &str) -> Result<Self, EndpointError> {
        parse(given)
            .map(|parts| Self(Arc::new(parts)))
            .map_err(|why| EndpointError { given: without_credentials(given), why })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { scheme, host, port } = &*self.0;
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

fn parse(given: &str) -> Result<Parts, &'static str> {
    let (scheme, rest) = match given.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some(_) => return Err("the scheme is unknown"),
        None => return Err("the scheme is missing"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err("an endpoint carries no user or password");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("an endpoint carries no path");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or("the bracket is not closed")?;
            let address: std::net::Ipv6Addr =
                host.parse().map_err(|_| "what stands in brackets is not an IPv6 address")?;
            (
                address.to_string(),
                port.strip_prefix(':')
                    .or(port.is_empty().then_some(""))
                    .ok_or("what follows the bracket is not a port")?,
            )
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address stands in brackets"),
            Some((_, "")) => return Err("the port is missing after the colon"),
            Some((host, port)) => (host_name(host)?, port),
            None => (host_name(authority)?, ""),
        },
    };
    let port = match port {
        "" => DEFAULT_PORT,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or("the port is not between 1 and 65535")?
        }
        _ => return Err("the port is not a number"),
    };
    Ok(Parts { scheme, host, port })
}

fn host_name(host: &str) -> Result<String, &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if host.len() > 253 || !host.bytes().all(legal) {
        return Err("the host is neither a DNS name nor an address");
    }
    if looks_numeric(host) && host.parse::<IpAddr>().is_err() {
        return Err("the host is not an IPv4 address");
    }
    Ok(host.to_ascii_lowercase())
}

/// Whether a resolver would take this for an address: its last label is a number (URL standard, §3.5).
pub(crate) fn looks_numeric(host: &str) -> bool {
    host.rsplit('.')
        .next()
        .is_some_and(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()))
}

/// The text as it may be shown: a password in it goes no further.
fn without_credentials(given: &str) -> String {
    match (given.find("://"), given.rfind('@')) {
        (scheme, Some(at)) => {
            let start = scheme.map_or(0, |at| at + 3).min(at);
            text::shown(&format!("{}…{}", &given[..start], &given[at..]))
        }
        _ => text::shown(given),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_are_read_and_shown_in_one_form() {
        for (given, shown) in [
            ("http://127.0.0.1:7420", "http://127.0.0.1:7420"),
            ("https://Gateway.podgate.svc", "https://gateway.podgate.svc:7420"),
            ("HTTP://gateway:80/", "http://gateway:80"),
            ("http://[::1]:7420", "http://[::1]:7420"),
            ("http://[2001:DB8::0:1]", "http://[2001:db8::1]:7420"),
        ] {
            assert_eq!(given.parse::<Endpoint>().unwrap().to_string(), shown, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, why) in [
            ("gateway:7420", "the scheme is missing"),
            ("ftp://gateway:7420", "the scheme is unknown"),
            ("http://", "the host is missing"),
            ("http://:7420", "the host is missing"),
            ("http://gateway:", "the port is missing after the colon"),
            ("http://gateway:0", "the port is not between 1 and 65535"),
            ("http://gateway:65536", "the port is not between 1 and 65535"),
            ("http://gateway:http", "the port is not a number"),
            ("http://gateway:+80", "the port is not a number"),
            ("http://::1:7420", "an IPv6 address stands in brackets"),
            ("http://[::1:7420", "the bracket is not closed"),
            ("http://[gateway]:7420", "what stands in brackets is not an IPv6 address"),
            ("http://[::1]7420", "what follows the bracket is not a port"),
            ("http://gateway:7420/path", "an endpoint carries no path"),
            ("http://10.0.0.300:7420", "the host is not an IPv4 address"),
            ("http://gäteway:7420", "the host is neither a DNS name nor an address"),
        ] {
            assert_eq!(given.parse::<Endpoint>().unwrap_err().why, why, "{given}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let error = "http://admin:hunter2@gateway:7420".parse::<Endpoint>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"http://…@gateway:7420\" is not an endpoint: an endpoint carries no user or password; \
             expected http://host:port or https://host:port"
        );
        assert!(!"admin:hunter2@gateway".parse::<Endpoint>().unwrap_err().to_string().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(given in any::<String>()) {
            if let Ok(endpoint) = given.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }

        #[test]
        fn what_is_shown_reads_back(host in "[a-z]([a-z0-9-]{0,8}[a-z])?(\\.[a-z]{1,5}){0,3}", port in 1u16..) {
            let endpoint: Endpoint = format!("https://{host}:{port}").parse().unwrap();
            prop_assert_eq!((endpoint.host(), endpoint.port()), (host.as_str(), port));
            prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
        }
    }
}
