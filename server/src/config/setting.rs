//! The table of settings: one row gives the key in the file, the flag, the variable, the default and the meaning.

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Key in the configuration file, such as `limits.perIp.rate`.
    pub key: &'static str,
    /// Flag, without its dashes.
    pub flag: &'static str,
    /// Default, as one would write it.
    pub default: &'static str,
    /// What a value looks like, for the help.
    pub value_name: &'static str,
    /// What it means.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable: `PODGATE_` and the flag in capitals.
    pub fn variable(&self) -> String {
        format!("PODGATE_{}", self.flag.replace('-', "_").to_uppercase())
    }
}

const fn setting(
    key: &'static str,
    flag: &'static str,
    default: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, flag, default, value_name, help }
}

/// All settings, in the order in which they are shown.
pub const SETTINGS: &[Setting] = &[
    setting("listen", "listen", "127.0.0.1:7420", "ADDR", "Where to serve gRPC"),
    setting("http", "http", "127.0.0.1:7421", "ADDR", "Where to serve /metrics, /livez and /readyz"),
    setting(
        "insecure",
        "insecure",
        "false",
        "true|false",
        "Listen beyond loopback although callers are not authenticated; they get no more than a pod's role",
    ),
    setting("workers", "workers", "0", "N", "Worker threads; 0: one for each core"),
    setting("profiles", "profiles", "", "DIR", "Directory of profiles and common ports, hot-reloaded"),
    setting("store", "store", "podgate-data", "DIR", "Directory of the embedded store, made if absent"),
    setting(
        "drainTimeout",
        "drain-timeout",
        "20s",
        "DURATION",
        "Longest wait for calls in flight at the end",
    ),
    setting(
        "log.format",
        "log-format",
        "auto",
        "auto|text|json",
        "Log lines; auto: text on a terminal, else JSON",
    ),
    setting(
        "log.level",
        "log-level",
        "info",
        "FILTER",
        "Lowest level logged, or a filter such as podgate=debug",
    ),
    setting("limits.perIp.rate", "per-ip-rate", "10/s", "RATE", "Calls that one address may make"),
    setting("limits.perIp.burst", "per-ip-burst", "30", "N", "Calls that one address may make at once"),
    setting(
        "limits.perIp.maxAddresses",
        "per-ip-max-addresses",
        "1000000",
        "N",
        "Addresses tracked; the rest share one bucket",
    ),
    setting(
        "limits.perIp.podCidrs",
        "pod-cidrs",
        "",
        "CIDR,…",
        "IPv6 ranges in which each address counts by itself; elsewhere a /64 counts as one",
    ),
    setting("limits.capacity.rate", "capacity-rate", "5000/s", "RATE", "Admissions of all apps together"),
    setting("limits.capacity.burst", "capacity-burst", "500", "N", "Admissions of all apps at once"),
    setting(
        "limits.parkedCalls",
        "max-parked-calls",
        "8192",
        "N",
        "Calls that wait for a near slot at once; further ones get a ticket",
    ),
    setting(
        "limits.bookings",
        "max-bookings",
        "1000000",
        "N",
        "Slots booked at once; beyond, callers are pushed back",
    ),
    setting("limits.connections.max", "max-connections", "16384", "N", "Connections held at once"),
    setting(
        "limits.connections.perAddress",
        "max-connections-per-address",
        "256",
        "N",
        "Connections held at once from one address",
    ),
    setting("limits.callsInFlight", "max-calls-in-flight", "8192", "N", "Calls worked on at once"),
    setting("limits.grants", "max-grants", "1000000", "N", "Living grants; further ones are refused"),
    setting(
        "limits.journal",
        "max-journal",
        "262144",
        "N",
        "Changes of grants kept for enforcers that watch; who is further behind gets a snapshot",
    ),
    setting("limits.messageBytes", "max-message-bytes", "131072", "N", "Largest request, in bytes"),
    setting("defaults.limits.rate", "default-rate", "50/s", "RATE", "Rate of an app whose profile sets none"),
    setting("defaults.limits.burst", "default-burst", "100", "N", "Burst of an app whose profile sets none"),
    setting(
        "defaults.limits.horizon",
        "default-horizon",
        "2m",
        "DURATION",
        "How far ahead slots are booked where the profile sets none; less at rates for which that is too many",
    ),
    setting(
        "defaults.lease.ttl",
        "default-ttl",
        "10m",
        "DURATION",
        "Lease of a pod that renews where the profile sets none",
    ),
    setting(
        "defaults.lease.maxAge",
        "default-max-age",
        "7d",
        "DURATION",
        "Longest life of a grant that is not renewed where the profile sets none",
    ),
    setting(
        "defaults.lease.max",
        "default-max-leases",
        "1000000",
        "N",
        "Living grants of an app whose profile sets none",
    ),
    setting(
        "defaults.lease.grace",
        "default-grace",
        "1h",
        "DURATION",
        "How long leases go on while the gateway is away where the profile sets none",
    ),
    setting(
        "leases.quarantine",
        "quarantine",
        "0s",
        "DURATION",
        "How long nobody else may have an address after its pod has ended",
    ),
    setting(
        "leases.sharedAddresses",
        "shared-addresses",
        "",
        "CIDR,…",
        "Ranges of addresses that several pods have at once (host network, NAT)",
    ),
    setting(
        "enforcers.grace",
        "enforcer-grace",
        "30s",
        "DURATION",
        "How long a barrier waits for an enforcer whose watch broke off, and for all after a start",
    ),
    setting(
        "upstream.endpoint",
        "upstream",
        "",
        "http://HOST:PORT",
        "ACL service that must know of each grant before its pod may go on",
    ),
    setting(
        "upstream.timeout",
        "upstream-timeout",
        "2s",
        "DURATION",
        "Longest time of a call of the upstream",
    ),
    setting("upstream.concurrency", "upstream-concurrency", "4", "N", "Calls of the upstream at once"),
    setting("upstream.batch", "upstream-batch", "256", "N", "Grants in one call of the upstream"),
    setting(
        "upstream.queue",
        "upstream-queue",
        "10000",
        "N",
        "Grants that may wait for the upstream; further ones are refused",
    ),
];
