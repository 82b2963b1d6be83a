//! The policy under a benchmark.

use std::{fs, io, path::Path};

/// An app whose bucket never empties.
pub(crate) const OPEN_APP: &str = "bench-open";
/// An app whose bucket is emptied before the measurement.
pub(crate) const EMPTY_APP: &str = "bench-empty";
/// Namespace of every pod.
pub(crate) const NAMESPACE: &str = "bench";

/// Destinations that the apps' profiles allow: host and port.
pub(crate) const ALLOWED: [(&str, u32); 3] =
    [("mysql-order.db.svc", 3306), ("order.redis.internal", 6379), ("10.9.0.17", 9092)];
/// Destinations that every app may reach.
pub(crate) const COMMON: [(&str, u32); 3] =
    [("config.corp.internal", 8080), ("registry.corp.internal", 443), ("10.0.0.10", 53)];
/// A destination that no rule allows.
pub(crate) const FORBIDDEN: (&str, u32) = ("mysql-payroll.db.svc", 3306);

/// Writes the profiles and common ports into the directory `into`.
pub(crate) fn write(into: &Path) -> io::Result<()> {
    let documents =
        [profile(OPEN_APP, "1000000/s", 1_000_000), profile(EMPTY_APP, "1/h", 1), COMMON_PORTS.to_owned()];
    fs::write(into.join("bench.yaml"), documents.join("---\n"))
}

fn profile(name: &str, rate: &str, burst: u32) -> String {
    format!(
        "apiVersion: podgate.io/v1
kind: AppProfile
metadata: {{ name: {name} }}
spec:
  owner: loadtest
  priority: P1
  subjects:
    - serviceAccount: {{ namespace: {NAMESPACE}, name: {name} }}
    - hosts: {{ cidrs: [10.1.2.0/28] }}
  allow:
    - {{ name: order-db, hosts: [mysql-order.db.svc, mysql-order-replica.db.svc], ports: [3306], protocol: TCP }}
    - {{ name: cache, hosts: [\"*.redis.internal\"], ports: [6379-6381] }}
    - {{ name: events, hosts: [10.9.0.0/24, \"fd00:9::/64\"], ports: [9092, 9094] }}
    - {{ name: prices, hosts: [prices.search.svc], ports: [8080] }}
  limits: {{ rate: {rate}, burst: {burst} }}
  lease: {{ max: 1000000 }}
"
    )
}

const COMMON_PORTS: &str = "apiVersion: podgate.io/v1
kind: CommonPorts
metadata: { name: everywhere }
spec:
  allow:
    - { name: config-centre, hosts: [config.corp.internal], ports: [8080] }
    - { name: registry, hosts: [registry.corp.internal], ports: [443] }
    - { name: dns, hosts: [10.0.0.10], ports: [53], protocol: TCP }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_takes_them() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("bench.yaml")).unwrap();
        assert_eq!(podgate::document::policy::read(&"bench.yaml".into(), &text).unwrap().len(), 3);
    }

    #[test]
    fn what_is_common_allowed_and_forbidden_is_so_in_the_documents() {
        let profile = profile(OPEN_APP, "1/h", 1);
        for (host, port) in COMMON {
            assert!(COMMON_PORTS.contains(&format!("hosts: [{host}], ports: [{port}]")), "{host}");
        }
        assert!(profile.contains("mysql-order.db.svc") && profile.contains("*.redis.internal"));
        assert!(!profile.contains(FORBIDDEN.0) && !COMMON_PORTS.contains(FORBIDDEN.0));
    }
}
