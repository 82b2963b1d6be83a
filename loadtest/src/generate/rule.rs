//! One rule of a generated profile: the mix of what real profiles allow.

use crate::{
    generate::names::{DOMAINS, FUNCTIONS},
    seed::SplitMix64,
};

/// The `number`-th rule of a profile, as a line of YAML.
///
/// Of a hundred rules: 50 databases, caches and services by exact name, 15 wildcards, 20 IPv4 networks, 5 addresses,
/// 5 IPv6 networks, 5 UDP.
pub(crate) fn line(random: &mut SplitMix64, number: u32) -> String {
    let domain = *random.choose(&DOMAINS);
    let function = *random.choose(&FUNCTIONS);
    let shard = random.below(64);
    let (name, hosts, ports, protocol) = match random.below(100) {
        0..20 => {
            let hosts = format!(
                "mysql-{domain}-{function}-{shard:02}.db.svc, mysql-{domain}-{function}-{shard:02}-ro.db.svc"
            );
            ("db", hosts, "3306".to_owned(), "TCP")
        }
        20..32 => (
            "cache",
            format!("redis-{domain}-{function}-{shard:02}.cache.svc"),
            "6379-6381".to_owned(),
            "TCP",
        ),
        32..50 => {
            let port = *random.choose(&["8080", "9090", "20880", "8443", "50051"]);
            ("service", format!("{function}-{shard:02}.{domain}.svc"), port.to_owned(), "TCP")
        }
        50..65 => {
            let zone = *random.choose(&["redis.internal", "mq.internal", "es.internal", "rpc.internal"]);
            let first = 9000 + 10 * random.below(100);
            ("zone", format!("\"*.{domain}-{shard:02}.{zone}\""), format!("{first}-{}", first + 5), "TCP")
        }
        65..85 => {
            let (second, third) = (16 + random.below(64), random.below(256));
            let length = *random.choose(&[22_u8, 24, 24, 24, 28]);
            let third = if length == 22 { third & !3 } else { third };
            let fourth = if length == 28 { 16 * random.below(16) } else { 0 };
            ("net", format!("10.{second}.{third}.{fourth}/{length}"), "3306, 5432, 6379".to_owned(), "TCP")
        }
        85..90 => {
            let host =
                format!("10.{}.{}.{}", 16 + random.below(64), random.below(256), 1 + random.below(254));
            ("host", host, "1521".to_owned(), "TCP")
        }
        90..95 => {
            let (subnet, port) = (random.below(0x1_0000), 9092 + random.below(4));
            ("net6", format!("\"fd00:{shard:x}:{subnet:x}::/64\""), port.to_string(), "TCP")
        }
        _ => ("metrics", format!("statsd-{shard:02}.{domain}.svc"), "8125".to_owned(), "UDP"),
    };
    format!("    - {{ name: {name}-{number}, hosts: [{hosts}], ports: [{ports}], protocol: {protocol} }}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn networks_have_no_host_bits(seed: u64) {
            let mut random = SplitMix64::new(seed, 0);
            for number in 0..20 {
                let line = line(&mut random, number);
                let Some(network) = line.split(['[', ']']).nth(1).filter(|hosts| hosts.starts_with("10.")) else { continue };
                let Some((address, length)) = network.split_once('/') else { continue };
                let bits = u32::from(address.parse::<std::net::Ipv4Addr>().unwrap());
                prop_assert_eq!(bits << length.parse::<u32>().unwrap(), 0, "{}", network);
            }
        }
    }
}
