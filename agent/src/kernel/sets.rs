//! The names of the two sets, and the text of what nft is to do with them.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
    time::Duration,
};

use podgate_engine::time::WallTime;

use crate::{
    books::{CHANGE_ELEMENTS_MAX, Change},
    door::{Element, Family},
};

/// A name of nft: letters, digits and `_`, so that it means nothing else in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NftName(String);

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a letter, and then at most 23 letters, digits and `_`")]
pub(crate) struct NftNameError;

impl FromStr for NftName {
    type Err = NftNameError;

    fn from_str(text: &str) -> Result<Self, NftNameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        // nft allows 31 bytes for a set, of which the family's digit takes one.
        if begins_well && text.len() <= 24 && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NftNameError)
        }
    }
}

impl fmt::Display for NftName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the agent keeps what is open: `table inet <table>`, sets `<set>4` and `<set>6`.
#[derive(Clone, Debug)]
pub(crate) struct Sets {
    /// The table.
    pub(crate) table: NftName,
    /// The sets' name, without the digit.
    pub(crate) set: NftName,
    /// Most elements in each.
    pub(crate) elements_max: u32,
}

impl Sets {
    /// The name of one of them.
    pub(crate) fn name(&self, family: Family) -> String {
        match family {
            Family::V4 => format!("{}4", self.set),
            Family::V6 => format!("{}6", self.set),
        }
    }

    /// Makes table and sets; where they are there, nothing changes.
    pub(crate) fn creation(&self) -> String {
        let Self { table, .. } = self;
        let sets = Family::ALL.map(|family| {
            format!("add set inet {table} {} {{ {} }}\n", self.name(family), self.definition(family))
        });
        format!("add table inet {table}\n{}", sets.concat())
    }

    /// What a set is made of. The kernel counts what is replaced in one change twice, hence the room beyond the bound.
    pub(crate) fn definition(&self, family: Family) -> String {
        let address = match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let size = u64::from(self.elements_max) + 2 * CHANGE_ELEMENTS_MAX as u64;
        format!("type {address} . inet_proto . inet_service; flags interval,timeout; size {size};")
    }

    /// A change as one transaction.
    ///
    /// What goes is put in before it is taken out: an element that has timed out meanwhile would else fail it all.
    pub(crate) fn transaction(&self, change: &Change, now: WallTime) -> String {
        let mut script = String::new();
        for family in Family::ALL {
            let gone: Vec<String> =
                change.gone.iter().filter(|one| is_of(one, family)).map(Element::to_string).collect();
            self.write(&mut script, "add", family, &gone);
            self.write(&mut script, "delete", family, &gone);
        }
        for family in Family::ALL {
            let new = change.new.iter().filter(|(one, _)| is_of(one, family));
            let new: Vec<String> =
                new.map(|(one, until)| format!("{one} timeout {}", timeout(*until, now))).collect();
            self.write(&mut script, "add", family, &new);
        }
        script
    }

    fn write(&self, script: &mut String, verb: &str, family: Family, elements: &[String]) {
        if !elements.is_empty() {
            let (table, set) = (&self.table, self.name(family));
            // Writing to a string does not fail.
            let _ = writeln!(script, "{verb} element inet {table} {set} {{ {} }}", elements.join(", "));
        }
    }
}

fn is_of(element: &Element, family: Family) -> bool {
    Family::of(element.address) == family
}

/// What is left of an element's life, as nft reads it: `1d2h3m4s5ms`, at least a millisecond. None of the parts is
/// large, for nft refuses those beyond 32 bits.
fn timeout(until: WallTime, now: WallTime) -> String {
    /// A thousand days: nothing is granted for longer, and nft's own bound is near.
    const LONGEST: Duration = Duration::from_secs(1_000 * 86_400);
    let left = Duration::from_millis(until.as_millis().saturating_sub(now.as_millis()));
    let left = left.clamp(Duration::from_millis(1), LONGEST);
    let (seconds, ms) = (left.as_secs(), left.subsec_millis());
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (ms.into(), "ms"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    parts.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use podgate_engine::port::{PortRange, Protocol};

    use super::*;
    use crate::door::Door;

    fn sets() -> Sets {
        Sets { table: "podgate".parse().unwrap(), set: "allowed".parse().unwrap(), elements_max: 1_000 }
    }

    fn element(address: &str, protocol: Protocol, first: u32, last: u32) -> Element {
        let ports = PortRange::new(first, last).unwrap();
        Element { address: address.parse().unwrap(), door: Door { protocol, ports } }
    }

    #[test]
    fn a_change_is_one_script() {
        let change = Change {
            gone: vec![
                element("10.0.0.1", Protocol::Tcp, 3306, 3306),
                element("fd00::1", Protocol::Udp, 53, 54),
            ],
            new: vec![
                (element("10.0.0.1", Protocol::Tcp, 3306, 3307), WallTime::from_millis(91_500)),
                (element("10.0.0.2", Protocol::Tcp, 3306, 3306), WallTime::from_millis(8 * 86_400_000)),
            ],
            ..Change::default()
        };
        assert_eq!(
            sets().transaction(&change, WallTime::from_millis(1_000)),
            "add element inet podgate allowed4 { 10.0.0.1 . tcp . 3306 }\n\
             delete element inet podgate allowed4 { 10.0.0.1 . tcp . 3306 }\n\
             add element inet podgate allowed6 { fd00::1 . udp . 53-54 }\n\
             delete element inet podgate allowed6 { fd00::1 . udp . 53-54 }\n\
             add element inet podgate allowed4 { 10.0.0.1 . tcp . 3306-3307 timeout 1m30s500ms, \
             10.0.0.2 . tcp . 3306 timeout 7d23h59m59s }\n"
        );
    }

    #[test]
    fn what_is_all_but_over_gets_a_millisecond() {
        assert_eq!(timeout(WallTime::from_millis(5), WallTime::from_millis(5)), "1ms");
        assert_eq!(timeout(WallTime::from_millis(u64::MAX), WallTime::from_millis(5)), "1000d");
    }

    #[test]
    fn names_mean_nothing_else() {
        assert!("podgate".parse::<NftName>().is_ok() && "Orders_2".parse::<NftName>().is_ok());
        for text in ["", "4", "a b", "a;b", "a{", "a-b", "ä", &"a".repeat(25)] {
            assert_eq!(text.parse::<NftName>(), Err(NftNameError), "{text:?}");
        }
    }
}
