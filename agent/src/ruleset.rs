//! An example of the operator's chain, with the sets that it looks into.

use podgate_engine::{port::Protocol, time::WallTime};

use crate::{
    door::{Door, Opening, protocol_name},
    guards::Guards,
    kernel::sets::Sets,
    openings::Openings,
};

/// A script for `nft -f` that may be loaded again and again, before the agent has started and while it runs.
pub(crate) fn example(sets: &Sets, guards: &Guards) -> String {
    let table = &sets.table;
    let (set4, set6) = (sets.name(crate::door::Family::V4), sets.name(crate::door::Family::V6));
    let (creation, guarded) = (sets.creation(), guarded(sets, guards));
    format!(
        "# Load this at boot, before podgate-agent starts: until then nobody but loopback passes.\n\
         {creation}\
         add chain inet {table} input {{ type filter hook input priority filter - 5; policy accept; }}\n\
         add chain inet {table} guarded\n\
         flush chain inet {table} input\n\
         flush chain inet {table} guarded\n\
         add rule inet {table} input iif lo accept\n\
         {guarded}\
         # Connections that were let in go on until the agent closes them. Only those that the client opened: what the\n\
         # server sends after a connection was closed must not open it again.\n\
         add rule inet {table} guarded ct state established ct direction original accept\n\
         add rule inet {table} guarded ip saddr . meta l4proto . th dport @{set4} accept\n\
         add rule inet {table} guarded ip6 saddr . meta l4proto . th dport @{set6} accept\n\
         # A client that was cut off answers with a reset, by which the server learns of it.\n\
         add rule inet {table} guarded tcp flags & rst == rst accept\n\
         add rule inet {table} guarded counter\n\
         add rule inet {table} guarded meta l4proto tcp reject with tcp reset\n\
         add rule inet {table} guarded reject\n"
    )
}

/// Sends what goes to a guarded port to the chain that decides.
fn guarded(sets: &Sets, guards: &Guards) -> String {
    let rule = |protocol| {
        let ports = guards.ports(protocol);
        let doors = ports
            .map(|ports| Opening { door: Door { protocol, ports }, until: WallTime::from_millis(u64::MAX) });
        let ports: Vec<String> =
            Openings::merged(doors).iter().map(|opening| opening.door.ports.to_string()).collect();
        let (table, name) = (&sets.table, protocol_name(protocol));
        let rule = |ports| {
            format!("add rule inet {table} input meta l4proto {name} th dport {{ {ports} }} goto guarded\n")
        };
        if ports.is_empty() { String::new() } else { rule(ports.join(", ")) }
    };
    [Protocol::Tcp, Protocol::Udp].map(rule).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarded_ports_go_to_the_chain_once() {
        let sets =
            Sets { table: "podgate".parse().unwrap(), set: "orders".parse().unwrap(), elements_max: 9 };
        let guards = ["db:3306", "10.9.0.5:3306-3308", "db:53/udp"].map(|guard| guard.parse().unwrap());
        let text = example(&sets, &Guards::new(guards.into()));
        for line in [
            "add rule inet podgate input meta l4proto tcp th dport { 3306-3308 } goto guarded",
            "add rule inet podgate input meta l4proto udp th dport { 53 } goto guarded",
            "add rule inet podgate guarded ip saddr . meta l4proto . th dport @orders4 accept",
        ] {
            assert_eq!(text.lines().filter(|there| *there == line).count(), 1, "{line}\n{text}");
        }
    }
}
