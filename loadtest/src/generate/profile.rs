//! One generated profile.

use std::fmt::Write as _;

use crate::{
    generate::{
        names::{CLUSTERS, DOMAINS, FUNCTIONS},
        rule,
    },
    seed::SplitMix64,
};

/// What every app may reach.
pub(crate) const COMMON_PORTS: &str = "\
apiVersion: podgate.io/v1
kind: CommonPorts
metadata: { name: everywhere, labels: { team: platform } }
spec:
  allow:
    - { name: dns-udp, hosts: [10.0.0.10, 10.0.0.11], ports: [53], protocol: UDP }
    - { name: dns-tcp, hosts: [10.0.0.10, 10.0.0.11], ports: [53], protocol: TCP }
    - { name: ntp, hosts: [\"*.ntp.corp.internal\"], ports: [123], protocol: UDP }
    - { name: config-centre, hosts: [config.corp.internal], ports: [8080] }
    - { name: registry, hosts: [registry.corp.internal], ports: [443, 5000] }
";

/// The profile of app number `app`: the same for a seed and a number of rules, however many apps there are.
pub(crate) fn document(seed: u64, app: u32, rules: u32) -> String {
    // A stream of its own for each app.
    let mut random = SplitMix64::new(seed, 1000 + u64::from(app));
    let domain = *random.choose(&DOMAINS);
    let function = *random.choose(&FUNCTIONS);
    let name = format!("{domain}-{function}-{app:06}");
    // A fifth matters most, and a quarter least.
    let priority = match random.below(20) {
        0..4 => "P1",
        4..15 => "P2",
        _ => "P3",
    };
    let mut text = format!(
        "apiVersion: podgate.io/v1\nkind: AppProfile\nmetadata: {{ name: {name}, labels: {{ team: {domain} }} }}\nspec:\n  \
         owner: {domain}-{function}-dev@example.com\n  priority: {priority}\n  subjects:\n"
    );
    let first_cluster = random.below(CLUSTERS.len() as u64) as usize;
    for cluster in CLUSTERS.iter().cycle().skip(first_cluster).take(1 + random.below(2) as usize) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "    - serviceAccount: {{ cluster: {cluster}, namespace: {domain}, name: {function}-{app:06} }}"
        );
    }
    // Every fifth app still runs on virtual machines too.
    if random.below(5) == 0 {
        let (third, fourth) = (random.below(256), 16 * random.below(16));
        let _ =
            writeln!(text, "    - hosts: {{ cidrs: [10.{}.{third}.{fourth}/28] }}", 128 + random.below(64));
    }
    text.push_str("  allow:\n");
    (0..rules).for_each(|number| text.push_str(&rule::line(&mut random, number)));
    let rate = *random.choose(&["10/s", "20/s", "50/s", "50/s", "100/s", "600/m"]);
    let burst = *random.choose(&[20, 50, 100, 100, 200]);
    let _ = writeln!(text, "  limits: {{ rate: {rate}, burst: {burst}, horizon: 2m }}");
    let max = *random.choose(&[500, 1000, 5000]);
    let _ = writeln!(text, "  lease: {{ ttl: 10m, maxAge: 7d, max: {max}, grace: 1h }}");
    // One in fifty is being moved in, and only watched.
    if random.below(50) == 0 {
        text.push_str("  mode: shadow\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_gateway_takes_them() {
        let apps: Vec<String> = (0..500).map(|app| document(1, app, 20)).collect();
        let text = format!("{COMMON_PORTS}---\n{}", apps.join("---\n"));
        assert_eq!(podgate::document::policy::read(&"apps.yaml".into(), &text).unwrap().len(), 501);
    }

    #[test]
    fn rules_are_as_many_as_asked_and_named_apart() {
        for app in 0..50 {
            let text = document(1, app, 20);
            let names: HashSet<_> =
                text.lines().filter_map(|line| line.strip_prefix("    - { name: ")).collect();
            assert_eq!(names.len(), 20, "{text}");
        }
    }

    #[test]
    fn an_app_is_the_same_whatever_else_there_is() {
        assert_eq!(document(1, 5, 3), document(1, 5, 3));
        assert_ne!(document(1, 5, 3), document(2, 5, 3));
        assert_ne!(document(1, 5, 3), document(1, 6, 3));
    }
}
