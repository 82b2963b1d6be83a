//! The settings as types that cannot be wrong.

use std::{
    fmt::Display,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    thread,
    time::Duration,
};

use ipnet::{IpNet, Ipv6Net};
use podgate_engine::{
    desk::DeskLimits,
    fault::shown,
    lease::{Lifetimes, SharedAddresses},
    profile::{GRACE_BOUNDS, HORIZON_BOUNDS, LEASES_MAX, MAX_AGE_BOUNDS, TTL_BOUNDS, check_horizon},
    quota::{Quota, parse_burst},
};

use crate::{
    config::{
        layers::{Layers, Origin},
        setting::{SETTINGS, Setting},
        upstream::{self, Upstream},
    },
    document::reader::parse_duration,
};

/// What is in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Worker threads.
    pub workers: NonZeroUsize,
    /// Directory of profiles.
    pub profiles: Option<PathBuf>,
    /// Directory of the store.
    pub store: PathBuf,
    /// Longest wait for calls in flight at the end.
    pub drain_timeout: Duration,
    /// Log format.
    pub log_format: LogFormat,
    /// Log filter.
    pub log_level: String,
    /// Limit on calls of one address.
    pub per_ip: PerIp,
    /// The capacity that all apps share.
    pub capacity: Quota,
    /// What booking is bounded by.
    pub desk: DeskLimits,
    /// What leases are held to.
    pub leases: Leases,
    /// Most changes of grants that are kept for watchers.
    pub journal_max: usize,
    /// How long an enforcer whose watch broke off is waited for.
    pub enforcer_grace: Duration,
    /// Limits on connections and calls.
    pub connections: Connections,
    /// What profiles leave out.
    pub defaults: Defaults,
    /// The ACL service behind, if there is one.
    pub upstream: Option<Upstream>,
}

/// Limit on calls of one address.
#[derive(Clone, Debug)]
pub struct PerIp {
    /// Rate and burst.
    pub quota: Quota,
    /// Addresses tracked.
    pub addresses_max: NonZeroUsize,
    /// Where each v6 address counts by itself.
    pub pod_cidrs: Vec<Ipv6Net>,
}

/// Limits on connections and calls.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// Held at once.
    pub max: usize,
    /// Held at once from one address.
    pub per_address: usize,
    /// Calls worked on at once.
    pub calls_in_flight: usize,
    /// Largest request.
    pub message_bytes: usize,
}

/// What leases are held to.
#[derive(Clone, Debug)]
pub struct Leases {
    /// Most living grants.
    pub grants_max: usize,
    /// How long nobody else may have an address after its pod has ended.
    pub quarantine: Duration,
    /// Addresses that several pods have at once.
    pub shared: SharedAddresses,
}

/// Longest time for which an address may rest: a cluster has only so many.
const QUARANTINE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What profiles leave out.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// An app's bucket.
    pub quota: Quota,
    /// How far ahead slots are booked.
    pub horizon: Duration,
    /// How long a grant lives.
    pub lifetimes: Lifetimes,
    /// Most living grants of an app.
    pub leases_max: u32,
    /// How long leases go on while the gateway is away.
    pub grace: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text.
    Text,
    /// JSON.
    Json,
}

impl Config {
    /// Reads all settings, or tells everything that is wrong with them, each with where it came from.
    pub fn parse(layers: &Layers) -> Result<Self, Vec<String>> {
        let mut values = Values { layers, faults: Vec::new() };
        let config = values.read();
        if values.faults.is_empty() { Ok(config) } else { Err(values.faults) }
    }

    /// Why these settings must not be served, if they must not: an open door needs a word that says so.
    pub fn refusal(layers: &Layers, config: &Self) -> Option<String> {
        let insecure = SETTINGS.iter().find(|row| row.key == "insecure").map(|row| layers.get(row).0);
        let open = !config.listen.ip().is_loopback();
        (open && insecure != Some("true")).then(|| {
            format!(
                "listen: {} is beyond loopback, and callers are not authenticated; listen on 127.0.0.1, or say \
                 --insecure (callers from elsewhere then get no more than a pod's role)",
                config.listen
            )
        })
    }
}

struct Values<'a> {
    layers: &'a Layers,
    faults: Vec<String>,
}

impl Values<'_> {
    fn read(&mut self) -> Config {
        self.value("insecure", false, |text| text.parse().map_err(|_| "expected true or false".to_owned()));
        let defaults = self.defaults();
        Config {
            listen: self.address("listen"),
            http: self.address("http"),
            workers: self.workers(),
            profiles: self.text("profiles").map(PathBuf::from),
            store: self.text("store").map_or_else(|| PathBuf::from("podgate-data"), PathBuf::from),
            drain_timeout: self.duration("drainTimeout", (Duration::ZERO, Duration::from_secs(3600))),
            log_format: self.value("log.format", LogFormat::Auto, |text| match text {
                "auto" => Ok(LogFormat::Auto),
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                other => Err(format!("{} is no log format; expected auto, text or json", shown(other))),
            }),
            log_level: self.value("log.level", String::new(), |text| {
                text.parse::<tracing_subscriber::EnvFilter>()
                    .map(|_| text.to_owned())
                    .map_err(|error| format!("{} is no log filter: {error}", shown(text)))
            }),
            per_ip: PerIp {
                quota: self.quota("limits.perIp.rate", "limits.perIp.burst"),
                addresses_max: NonZeroUsize::MIN
                    .saturating_add(self.number("limits.perIp.maxAddresses", 1, 100_000_000) - 1),
                pod_cidrs: self.pod_cidrs(),
            },
            capacity: self.quota("limits.capacity.rate", "limits.capacity.burst"),
            desk: DeskLimits {
                parked_max: self.number("limits.parkedCalls", 0, 1_000_000),
                bookings_max: self.number("limits.bookings", 1, 100_000_000),
            },
            leases: Leases {
                grants_max: self.number("limits.grants", 1, 100_000_000),
                quarantine: self.duration("leases.quarantine", (Duration::ZERO, QUARANTINE_MAX)),
                shared: SharedAddresses::new(self.networks("leases.sharedAddresses")),
            },
            journal_max: self.number("limits.journal", 1, 16_777_216),
            enforcer_grace: self.duration("enforcers.grace", (Duration::ZERO, Duration::from_secs(600))),
            connections: Connections {
                max: self.number("limits.connections.max", 1, 1_000_000),
                per_address: self.number("limits.connections.perAddress", 1, 1_000_000),
                calls_in_flight: self.number("limits.callsInFlight", 1, 1_000_000),
                message_bytes: self.number("limits.messageBytes", 1024, 4 << 20),
            },
            defaults,
            upstream: self.upstream(),
        }
    }

    fn defaults(&mut self) -> Defaults {
        let quota = self.quota("defaults.limits.rate", "defaults.limits.burst");
        let horizon = self.value("defaults.limits.horizon", HORIZON_BOUNDS.0, |text| {
            let horizon = parse_duration(text)?;
            parsed(check_horizon(Some(quota.rate), horizon)).map(|()| horizon)
        });
        Defaults {
            quota,
            horizon,
            lifetimes: Lifetimes {
                ttl: self.duration("defaults.lease.ttl", TTL_BOUNDS),
                max_age: self.duration("defaults.lease.maxAge", MAX_AGE_BOUNDS),
            },
            leases_max: self.number("defaults.lease.max", 1, LEASES_MAX as usize) as u32,
            grace: self.duration("defaults.lease.grace", GRACE_BOUNDS),
        }
    }

    fn row(key: &str) -> &'static Setting {
        SETTINGS.iter().find(|row| row.key == key).unwrap_or(&SETTINGS[0])
    }

    fn value<T>(&mut self, key: &str, otherwise: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
        let row = Self::row(key);
        debug_assert_eq!(row.key, key, "a setting that the table does not have");
        let (text, origin) = self.layers.get(row);
        match parse(text) {
            Ok(value) => value,
            Err(message) => {
                let place = match origin {
                    Origin::File(..) => format!("{origin}: {key}"),
                    Origin::Default => key.to_owned(),
                    Origin::Variable(_) | Origin::Flag(_) => origin.to_string(),
                };
                self.faults.push(format!("{place}: {message}"));
                otherwise
            }
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.value(key, None, |text| Ok(Some(text.to_owned()).filter(|text| !text.is_empty())))
    }

    fn address(&mut self, key: &str) -> SocketAddr {
        self.value(key, SocketAddr::from(([127, 0, 0, 1], 0)), |text| {
            text.parse().map_err(|_| {
                format!(
                    "{} is no address; expected one such as `127.0.0.1:7420` or `[::1]:7420`",
                    shown(text)
                )
            })
        })
    }

    fn number(&mut self, key: &str, least: usize, most: usize) -> usize {
        self.value(key, least, |text| {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("{} is out of bounds; expected {least} to {most}", shown(text)))
        })
    }

    fn duration(&mut self, key: &str, (shortest, longest): (Duration, Duration)) -> Duration {
        self.value(key, shortest, |text| {
            let duration = parse_duration(text)?;
            if (shortest..=longest).contains(&duration) {
                return Ok(duration);
            }
            let bounds = [shortest, longest].map(|end| humantime::format_duration(end).to_string());
            Err(format!("{text} is out of bounds; expected {} to {}", bounds[0], bounds[1]))
        })
    }

    fn quota(&mut self, rate: &str, burst: &str) -> Quota {
        let rate = self.value(rate, None, |text| parsed(text.parse()).map(Some));
        let burst = self.value(burst, NonZeroU32::MIN, |text| {
            let number = text.parse().map_err(|_| format!("{} is no whole number", shown(text)))?;
            parsed(parse_burst(number))
        });
        let otherwise = podgate_engine::quota::Rate::per_second(NonZeroU32::MIN);
        Quota { rate: rate.unwrap_or(otherwise), burst }
    }

    fn workers(&mut self) -> NonZeroUsize {
        let number = self.number("workers", 0, 1024);
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(number).unwrap_or_else(cores)
    }

    fn upstream(&mut self) -> Option<Upstream> {
        // All of them are read, whether there is an upstream or not: what is wrong is wrong.
        let timeout = self.duration("upstream.timeout", upstream::TIMEOUT_BOUNDS);
        let concurrency = self.number("upstream.concurrency", 1, upstream::CONCURRENCY_MAX);
        let batch = self.number("upstream.batch", 1, upstream::BATCH_MAX);
        let queue = self.number("upstream.queue", upstream::QUEUE_BOUNDS.0, upstream::QUEUE_BOUNDS.1);
        let endpoint = self.value("upstream.endpoint", None, upstream::parse_endpoint)?;
        Some(Upstream { endpoint, timeout, concurrency, batch, queue })
    }

    fn pod_cidrs(&mut self) -> Vec<Ipv6Net> {
        let networks = self.networks("limits.perIp.podCidrs").into_iter();
        networks
            .filter_map(|network| match network {
                IpNet::V6(network) => Some(network),
                // Each v4 address counts by itself anyway.
                IpNet::V4(_) => None,
            })
            .collect()
    }

    fn networks(&mut self, key: &str) -> Vec<IpNet> {
        self.value(key, Vec::new(), |text| {
            let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
            ranges.map(|range| parsed(podgate_engine::host::parse_network(range))).collect()
        })
    }
}

fn parsed<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn with(flags: &[(&str, &str)]) -> (Layers, Result<Config, Vec<String>>) {
        let mut layers = Layers::defaults();
        let mut faults = Vec::new();
        for (flag, value) in flags {
            let row = SETTINGS.iter().find(|row| row.flag == *flag).unwrap();
            layers.add_flag(row, OsStr::new(value), &mut faults);
        }
        let config = Config::parse(&layers);
        (layers, config)
    }

    #[test]
    fn every_default_is_a_good_value() {
        let (layers, config) = with(&[]);
        assert_eq!(Config::refusal(&layers, &config.unwrap()), None);
    }

    #[test]
    fn all_faults_are_told_with_their_origin() {
        let (_, config) = with(&[("listen", "localhost"), ("per-ip-rate", "0/s"), ("workers", "-1")]);
        let faults = config.unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("--listen: `localhost` is no address"), "{faults:?}");
        assert!(
            faults.iter().any(|fault| fault.starts_with("--per-ip-rate: `0/s` is no rate")),
            "{faults:?}"
        );
    }

    #[test]
    fn a_horizon_is_no_shorter_than_parking_and_no_longer_than_memory() {
        let fault = |flags: &[(&str, &str)]| with(flags).1.unwrap_err().join("\n");
        let short = fault(&[("default-horizon", "1s")]);
        assert!(
            short.contains("--default-horizon: 1s is less than the 2s for which a call is held open"),
            "{short}"
        );
        let many = fault(&[("default-rate", "10000/s"), ("default-horizon", "101s")]);
        assert!(many.contains("10000/s booked 1m 41s ahead are more than the 1000000 slots"), "{many}");
        assert!(with(&[("default-rate", "10000/s"), ("default-horizon", "100s")]).1.is_ok());
    }

    #[test]
    fn an_upstream_is_where_it_is_said_to_be_or_nowhere() {
        assert!(with(&[("upstream-timeout", "1s")]).1.unwrap().upstream.is_none());
        let upstream = with(&[("upstream", "http://acl:7430"), ("upstream-batch", "16")]).1.unwrap().upstream;
        let upstream = upstream.unwrap();
        assert_eq!((&*upstream.endpoint, upstream.batch, upstream.concurrency), ("http://acl:7430", 16, 4));
        let faults =
            with(&[("upstream", "https://acl:1"), ("upstream-queue", "1"), ("upstream-timeout", "1m")]).1;
        let faults = faults.unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults.iter().any(|fault| fault.starts_with("--upstream: `https://acl:1` is no endpoint")));
    }

    #[test]
    fn an_open_door_needs_a_word_that_says_so() {
        let (layers, config) = with(&[("listen", "0.0.0.0:7420")]);
        assert!(Config::refusal(&layers, &config.unwrap()).unwrap().contains("--insecure"));
        let (layers, config) = with(&[("listen", "[::]:7420"), ("insecure", "true")]);
        assert_eq!(Config::refusal(&layers, &config.unwrap()), None);
    }
}
