//! What a client asks for, and on whose behalf.

use std::{fmt, net::IpAddr};

use crate::Destination;

/// Most destinations in one request.
pub const DESTINATIONS_MAX: usize = 256;
/// Most addresses of one pod.
const ADDRESSES_MAX: usize = 16;

/// A request for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The app in whose name is asked: the name of a profile.
    pub app: String,
    /// Who is to be let through.
    pub subject: Subject,
    /// What is to be reached; none: all that the app's profile allows.
    pub destinations: Vec<Destination>,
    /// For how long.
    pub tenure: Tenure,
}

/// For how long access is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenure {
    /// Until it is given back or taken back, at most for the profile's `maxAge`: nobody renews it.
    #[default]
    Lasting,
    /// As a lease of the profile's `ttl`, which its holder renews.
    Renewed,
}

/// Who is to be let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A pod.
    Pod(Pod),
    /// A machine known by its address.
    StaticHost(StaticHost),
}

/// A pod, as the downward API describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Cluster name; may be empty.
    pub cluster: String,
    /// Namespace. Required.
    pub namespace: String,
    /// Pod name; may be empty.
    pub name: String,
    /// Pod uid. Required.
    pub uid: String,
    /// Service account name. Required.
    pub service_account: String,
    /// Node name; may be empty.
    pub node: String,
    /// The pod's addresses; may be empty. Where given, the call has to come from one of them.
    pub addresses: Vec<IpAddr>,
}

/// A machine that is no pod, known by the address from which it calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticHost {
    /// Cluster name; may be empty.
    pub cluster: String,
    /// Host name; may be empty.
    pub name: String,
}

/// A field that the gateway would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskFault {
    /// Path of the field, such as `pod.uid`.
    pub field: &'static str,
    /// What is wrong with it and what was expected.
    pub reason: String,
}

impl fmt::Display for AskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl Ask {
    /// All that the gateway would refuse about this request before it decides; none: it is well formed.
    pub fn faults(&self) -> Vec<AskFault> {
        let mut faults = Faults(Vec::new());
        faults.name("app", &self.app, Presence::Required, APP);
        match &self.subject {
            Subject::Pod(pod) => {
                faults.name("pod.cluster", &pod.cluster, Presence::Optional, LABEL);
                faults.name("pod.namespace", &pod.namespace, Presence::Required, LABEL);
                faults.name("pod.name", &pod.name, Presence::Optional, NAME);
                faults.name("pod.uid", &pod.uid, Presence::Required, UID);
                faults.name("pod.service_account", &pod.service_account, Presence::Required, NAME);
                faults.name("pod.node", &pod.node, Presence::Optional, NAME);
                faults.addresses(&pod.addresses);
            }
            Subject::StaticHost(host) => {
                faults.name("static_host.cluster", &host.cluster, Presence::Optional, LABEL);
                faults.name("static_host.name", &host.name, Presence::Optional, NAME);
            }
        }
        if self.destinations.len() > DESTINATIONS_MAX {
            faults.push(
                "destinations",
                format!("{} are too many, at most 256 are allowed", self.destinations.len()),
            );
        }
        faults.0
    }
}

/// What a name may look like.
#[derive(Clone, Copy)]
struct Shape {
    bytes_max: usize,
    legal: fn(u8) -> bool,
    legal_words: &'static str,
}

const APP: Shape = Shape {
    bytes_max: 253,
    legal: |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'),
    legal_words: "lower-case letters, digits, '-' and '.'",
};
const LABEL: Shape = Shape {
    bytes_max: 63,
    legal: |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
    legal_words: "letters, digits, '-', '_' and '.'",
};
const NAME: Shape = Shape { bytes_max: 253, ..LABEL };
const UID: Shape = Shape { bytes_max: 64, ..LABEL };

/// Whether a name has to be there.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Required,
    Optional,
}

struct Faults(Vec<AskFault>);

impl Faults {
    fn push(&mut self, field: &'static str, reason: String) {
        self.0.push(AskFault { field, reason });
    }

    fn name(&mut self, field: &'static str, given: &str, presence: Presence, shape: Shape) {
        let Shape { bytes_max, legal, legal_words } = shape;
        if given.is_empty() {
            if presence == Presence::Required {
                self.push(field, "is empty and required".to_owned());
            }
        } else if given.len() > bytes_max {
            self.push(field, format!("has {} bytes, at most {bytes_max} are allowed", given.len()));
        } else if !given.bytes().all(legal) {
            let given = crate::text::shown(given);
            self.push(field, format!("is {given:?}, but consists of {legal_words} only"));
        }
    }

    fn addresses(&mut self, addresses: &[IpAddr]) {
        if addresses.len() > ADDRESSES_MAX {
            self.push("pod.addresses", format!("{} are too many, at most 16 are allowed", addresses.len()));
        }
        for address in addresses {
            let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            if mapped || address.is_unspecified() || address.is_multicast() {
                self.push("pod.addresses", format!("{address} is no address of a pod"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod {
            namespace: "hotel".to_owned(),
            uid: "0a1b-2c".to_owned(),
            service_account: "order".to_owned(),
            ..Pod::default()
        }
    }

    fn faults(app: &str, subject: Subject) -> Vec<String> {
        let ask = Ask { app: app.to_owned(), subject, destinations: Vec::new(), tenure: Tenure::Lasting };
        ask.faults().iter().map(AskFault::to_string).collect()
    }

    #[test]
    fn the_least_that_is_needed_is_enough() {
        assert_eq!(faults("hotel-order", Subject::Pod(pod())), Vec::<String>::new());
        assert_eq!(faults("hotel-order", Subject::StaticHost(StaticHost::default())), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let pod = Pod {
            uid: "x".repeat(1 << 20),
            namespace: String::new(),
            service_account: "order\nroot".to_owned(),
            addresses: vec![
                "0.0.0.0".parse().unwrap(),
                "::ffff:10.0.0.1".parse().unwrap(),
                "10.0.0.1".parse().unwrap(),
            ],
            ..pod()
        };
        assert_eq!(
            faults("Hotel Order", Subject::Pod(pod)),
            [
                "app: is \"Hotel Order\", but consists of lower-case letters, digits, '-' and '.' only",
                "pod.namespace: is empty and required",
                "pod.uid: has 1048576 bytes, at most 64 are allowed",
                "pod.service_account: is \"order root\", but consists of letters, digits, '-', '_' and '.' only",
                "pod.addresses: 0.0.0.0 is no address of a pod",
                "pod.addresses: ::ffff:10.0.0.1 is no address of a pod",
            ]
        );
    }

    #[test]
    fn too_many_destinations_are_refused() {
        let destination: Destination = "mysql:3306".parse().unwrap();
        let mut ask = Ask {
            app: "a".to_owned(),
            subject: Subject::Pod(pod()),
            destinations: vec![destination; DESTINATIONS_MAX],
            tenure: Tenure::Lasting,
        };
        assert_eq!(ask.faults(), []);
        ask.destinations.resize(10_000, ask.destinations[0].clone());
        assert_eq!(ask.faults()[0].to_string(), "destinations: 10000 are too many, at most 256 are allowed");
    }
}
