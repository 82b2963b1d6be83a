//! Reads fields of messages, and gathers what is wrong with them.

use std::{fmt::Display, net::IpAddr, time::Duration};

use podgate_engine::{
    destination::Destination,
    fault::shown,
    host::parse_address,
    port::{PortRange, Protocol},
};
use podgate_proto::v1;

use crate::gate::{Refusal, refusal::Violation};

/// Most violations told at once.
const VIOLATIONS_MAX: usize = 32;

/// A duration; none where it is negative. That is looked at first: prost-types overflows over the most negative one.
pub fn span(wire: prost_types::Duration) -> Option<Duration> {
    if wire.seconds < 0 { None } else { Duration::try_from(wire).ok() }
}

/// Reads fields of one message.
#[derive(Debug, Default)]
pub struct Fields(Vec<Violation>);

impl Fields {
    /// Notes that a field is wrong. Beyond a bound nothing is added: one who sends 10,000 wrong fields reads the first.
    pub fn violation(&mut self, field: impl Display, description: impl Into<String>) {
        if self.0.len() < VIOLATIONS_MAX {
            self.0.push(Violation { field: field.to_string(), description: description.into() });
        }
    }

    /// Passes a parsed value on, or notes why there is none.
    pub fn keep<T>(&mut self, field: impl Display, parsed: Result<T, impl Display>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(error) => {
                self.violation(field, error.to_string());
                None
            }
        }
    }

    /// The whole, if nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Refusal> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(Refusal::Fields(self.0)),
        }
    }

    /// A word of printable ASCII, as names of clusters, nodes and pods are.
    pub fn word(&mut self, field: &str, text: String, bytes_max: usize) -> Box<str> {
        let printable = text.len() <= bytes_max && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !printable {
            let expected = format!(
                "{} is no name; expected at most {bytes_max} printable ASCII characters without spaces",
                shown(&text)
            );
            self.violation(field, expected);
        }
        text.into_boxed_str()
    }

    /// A word that has to be there.
    pub fn required(&mut self, field: &str, text: String, bytes_max: usize) -> Box<str> {
        if text.is_empty() {
            self.violation(field, "missing");
        }
        self.word(field, text, bytes_max)
    }

    /// An address.
    pub fn address(&mut self, field: impl Display, text: &str) -> Option<IpAddr> {
        self.keep(field, parse_address(text))
    }

    /// A destination.
    pub fn destination(&mut self, field: impl Display, message: &v1::Destination) -> Option<Destination> {
        let host = self.keep(format_args!("{field}.host"), message.host.parse());
        let last = if message.last_port == 0 { message.port } else { message.last_port };
        let ports = self.keep(format_args!("{field}.port"), PortRange::new(message.port, last));
        let protocol = match message.protocol() {
            v1::Protocol::Unspecified | v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
        };
        if v1::Protocol::try_from(message.protocol).is_err() {
            self.violation(format_args!("{field}.protocol"), "unknown protocol; expected TCP or UDP");
        }
        Some(Destination { host: host?, ports: ports?, protocol })
    }
}
