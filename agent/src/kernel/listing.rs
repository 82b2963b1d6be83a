//! What `nft -j list set` says of a set's elements.

use std::{net::IpAddr, time::Duration};

use podgate_engine::{
    port::{PortRange, Protocol},
    time::WallTime,
};
use serde::Deserialize;

use crate::door::{Door, Element};

/// Why a listing cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingError {
    /// It is not the JSON that nft writes.
    #[error("what nft lists is not understood")]
    Json(#[from] serde_json::Error),
    /// An element is none that the agent could have put in.
    #[error("an element is not understood: {0}")]
    Element(String),
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

/// Of the items only the set matters.
#[derive(Deserialize)]
struct Item {
    set: Option<Set>,
}

#[derive(Deserialize)]
struct Set {
    #[serde(default)]
    elem: Vec<Listed>,
}

/// With a timeout an element is an object, without one only its value.
#[derive(Deserialize)]
#[serde(untagged)]
enum Listed {
    Whole { elem: Whole },
    Bare(Value),
}

#[derive(Deserialize)]
struct Whole {
    val: Value,
    expires: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Value {
    concat: (IpAddr, Word, Ports),
}

/// A protocol by name, or by number where nft knows no name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Word {
    Name(String),
    Number(u8),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ports {
    One(u32),
    Range { range: (u32, u32) },
}

/// The elements, and when each ends; one that somebody put in without an end never does.
pub(crate) fn elements(json: &[u8], now: WallTime) -> Result<Vec<(Element, WallTime)>, ListingError> {
    let Listing { nftables } = serde_json::from_slice(json)?;
    let listed = nftables.into_iter().filter_map(|item| item.set).flat_map(|set| set.elem);
    listed
        .map(|listed| {
            let (value, expires) = match listed {
                Listed::Whole { elem: Whole { val, expires } } => (val, expires),
                Listed::Bare(value) => (value, None),
            };
            let until = match expires {
                Some(seconds) => now.plus(Duration::from_secs(seconds)),
                None => WallTime::from_millis(u64::MAX),
            };
            Ok((element(&value).ok_or_else(|| ListingError::Element(format!("{value:?}")))?, until))
        })
        .collect()
}

fn element(Value { concat: (address, protocol, ports) }: &Value) -> Option<Element> {
    let protocol = match protocol {
        Word::Name(name) if name == "tcp" => Protocol::Tcp,
        Word::Name(name) if name == "udp" => Protocol::Udp,
        Word::Number(6) => Protocol::Tcp,
        Word::Number(17) => Protocol::Udp,
        Word::Name(_) | Word::Number(_) => return None,
    };
    let ports = match ports {
        Ports::One(port) => PortRange::new(*port, *port),
        Ports::Range { range: (first, last) } => PortRange::new(*first, *last),
    };
    Some(Element { address: *address, door: Door { protocol, ports: ports.ok()? } })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 writes it.
    const LISTED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5",
        "json_schema_version": 1}}, {"set": {"family": "inet", "name": "allowed4", "table": "podgate", "type":
        ["ipv4_addr", "inet_proto", "inet_service"], "handle": 1, "size": 2000, "flags": ["interval", "timeout"],
        "elem": [{"elem": {"val": {"concat": ["10.0.0.2", "tcp", 6380]}, "timeout": 5, "expires": 4}}, {"elem":
        {"val": {"concat": ["fd00::1", "udp", {"range": [6381, 6390]}]}, "timeout": 9, "expires": 8}},
        {"concat": ["10.0.0.9", "tcp", 22]}]}}]}"#;

    #[test]
    fn elements_are_read_as_nft_writes_them() {
        let listed = elements(LISTED.as_bytes(), WallTime::from_millis(1_000)).unwrap();
        let shown: Vec<_> =
            listed.iter().map(|(element, until)| (element.to_string(), until.as_millis())).collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.2 . tcp . 6380".to_owned(), 5_000),
                ("fd00::1 . udp . 6381-6390".to_owned(), 9_000),
                ("10.0.0.9 . tcp . 22".to_owned(), u64::MAX),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_no_empty_set() {
        let now = WallTime::from_millis(0);
        assert!(elements(b"", now).is_err() && elements(br#"{"nftables": {}}"#, now).is_err());
        let strange = LISTED.replace("\"tcp\", 22", "\"sctp\", 22");
        assert!(elements(strange.as_bytes(), now).unwrap_err().to_string().contains("sctp"));
        assert_eq!(elements(br#"{"nftables": [{"set": {"name": "allowed4"}}]}"#, now).unwrap(), []);
    }
}
