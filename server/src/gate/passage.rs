//! A connection that an enforcer holds in its hands: from where it comes, and what its sender has to be granted for it to
//! pass.

use std::net::IpAddr;

use podgate_engine::{
    destination::Destination, fault::Unreadable, grant::Grant, guard::GUARDS_MAX, host::HostPattern,
    subject::SubjectKind,
};

use crate::{
    authn::Caller,
    gate::{Gate, Refusal, grants::Checked, require_operator},
};

/// A connection at an enforcer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The cluster of the pod; empty where there is one only.
    pub cluster: Box<str>,
    /// Where it comes from.
    pub source: IpAddr,
    /// The identity that the enforcer has proven, if any.
    pub workload: Option<Workload>,
    /// Where it arrived: address, port and protocol.
    pub arrived: Destination,
    /// The name that its sender put into the TLS handshake.
    pub server_name: Option<Box<str>>,
    /// What the enforcer guards, as its configuration says.
    pub guards: Box<[Destination]>,
}

impl Passage {
    /// What its sender may have been granted so that it passes; any of these is enough.
    ///
    /// Without guards that is where the connection arrived: address rules need no declaration. Else only what is guarded
    /// counts, wherever the connection arrived:
    /// - a name is what stands behind the enforcer, whatever its sender calls it;
    /// - of names below a wildcard it is the one in the TLS handshake. That is the sender's word, so such an enforcer has to
    ///   send the connection where the handshake says;
    /// - a network is where the connection arrived, if that is inside.
    fn destinations(&self) -> impl Iterator<Item = Destination> {
        let arrived = self.guards.is_empty().then(|| self.arrived.clone());
        arrived.into_iter().chain(self.guards.iter().filter_map(|guard| self.destination(guard)))
    }

    fn destination(&self, guard: &Destination) -> Option<Destination> {
        let host = match &guard.host {
            HostPattern::Name(_) => guard.host.clone(),
            HostPattern::Wildcard(_) => {
                let named = HostPattern::Name(self.server_name.clone()?);
                Some(named).filter(|named| guard.host.covers(named))?
            }
            HostPattern::Network(_) => return Some(self.arrived.clone()).filter(|it| guard.covers(it)),
        };
        // An enforcer may listen at another port than the one that it guards; of several it is the one it listens at.
        let is_one = guard.ports.first() == guard.ports.last();
        let ports = if is_one { guard.ports } else { self.arrived.ports };
        guard.ports.covers(ports).then_some(Destination { host, ports, protocol: guard.protocol })
    }
}

/// Reads what an enforcer guards: destinations, parted by commas or spaces.
pub fn parse_guards(text: &str) -> Result<Box<[Destination]>, Unreadable> {
    let words = || text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    let count = words().count();
    if count > GUARDS_MAX {
        return Err(Unreadable(format!("{count} destinations; expected at most {GUARDS_MAX}")));
    }
    if count == 0 {
        return Err(Unreadable("names no destination; expected one such as `mysql.db.svc:3306`".to_owned()));
    }
    words().map(str::parse).collect()
}

/// A service account that the enforcer has seen proven, by the certificate of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    namespace: Box<str>,
    service_account: Box<str>,
}

impl Workload {
    /// Reads a SPIFFE ID in the form of Kubernetes, `spiffe://…/ns/<namespace>/sa/<service account>`; of any other
    /// principal nothing follows about service accounts.
    pub fn of_principal(principal: &str) -> Option<Self> {
        let (_trust_domain, path) = principal.strip_prefix("spiffe://")?.split_once('/')?;
        match path.split('/').collect::<Vec<_>>()[..] {
            ["ns", namespace, "sa", service_account] => {
                Some(Self { namespace: namespace.into(), service_account: service_account.into() })
            }
            _ => None,
        }
    }

    /// Whether a grant is of this workload. An address may be reused before podgate knows; the identity tells then.
    fn holds(&self, grant: &Grant) -> bool {
        match &grant.subject.kind {
            SubjectKind::Pod(pod) => {
                *pod.namespace == *self.namespace && *pod.service_account == *self.service_account
            }
            SubjectKind::Host(_) => false,
        }
    }
}

impl Gate {
    /// Whether a connection may pass now; answered from memory.
    pub fn check_passage(&self, caller: &Caller, passage: &Passage) -> Result<Checked, Refusal> {
        require_operator(caller)?;
        let counts = |grant: &Grant| passage.workload.as_ref().is_none_or(|workload| workload.holds(grant));
        for destination in passage.destinations() {
            match self.check_among(caller, &passage.cluster, passage.source, &destination, counts)? {
                Checked::NoGrant => {}
                passes @ (Checked::Allowed(..) | Checked::Common(_)) => return Ok(passes),
            }
        }
        Ok(Checked::NoGrant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(guards: &str, arrived: &str, server_name: Option<&str>) -> Vec<String> {
        let passage = Passage {
            cluster: "".into(),
            source: IpAddr::from([10, 8, 3, 17]),
            workload: None,
            arrived: arrived.parse().unwrap(),
            server_name: server_name.map(Into::into),
            guards: if guards.is_empty() { Box::default() } else { parse_guards(guards).unwrap() },
        };
        passage.destinations().map(|destination| destination.to_string()).collect()
    }

    #[test]
    fn without_guards_it_is_where_the_connection_arrived_whatever_its_sender_says() {
        assert_eq!(destinations("", "10.9.0.7:3306", Some("mysql.db.svc")), ["10.9.0.7:3306/TCP"]);
    }

    #[test]
    fn a_guarded_name_is_asked_for_wherever_the_connection_arrived() {
        let name = "mysql.db.svc:3306";
        assert_eq!(destinations(name, "10.9.0.7:13306", Some("other.db.svc")), ["mysql.db.svc:3306/TCP"]);
        assert_eq!(destinations("redis.svc:6379-6381", "10.9.0.7:6380", None), ["redis.svc:6380/TCP"]);
        assert!(destinations("redis.svc:6379-6381", "10.9.0.7:6390", None).is_empty());
        let two = destinations("a.svc:1, b.svc:2", "10.9.0.7:9", None);
        assert_eq!(two, ["a.svc:1/TCP", "b.svc:2/TCP"]);
    }

    #[test]
    fn of_a_wildcard_the_handshakes_name_is_asked_for_if_it_lies_below() {
        let wildcard = "*.db.svc:3306";
        assert_eq!(destinations(wildcard, "10.9.0.7:13306", Some("mysql.db.svc")), ["mysql.db.svc:3306/TCP"]);
        for name in [None, Some("db.svc"), Some("mysql.cache.svc")] {
            assert!(destinations(wildcard, "10.9.0.7:3306", name).is_empty(), "{name:?}");
        }
    }

    #[test]
    fn of_a_network_the_address_is_asked_for_if_it_lies_inside() {
        assert_eq!(destinations("10.9.0.0/24:3306", "10.9.0.7:3306", None), ["10.9.0.7:3306/TCP"]);
        for arrived in ["10.9.1.7:3306", "10.9.0.7:3307", "10.9.0.7:3306/udp"] {
            assert!(destinations("10.9.0.0/24:3306", arrived, None).is_empty(), "{arrived}");
        }
    }

    #[test]
    fn guards_are_bounded_and_no_word_is_passed_over() {
        assert!(parse_guards("a:1 b:2,c:3").is_ok_and(|guards| guards.len() == 3));
        for text in ["", " , ", "a:1,b", "a:1,b:x", &"a:1,".repeat(GUARDS_MAX + 1)] {
            assert!(parse_guards(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_principal_of_kubernetes_is_told_from_others() {
        let workload = Workload::of_principal("spiffe://cluster.local/ns/hotel/sa/order").unwrap();
        assert_eq!((&*workload.namespace, &*workload.service_account), ("hotel", "order"));
        for principal in [
            "",
            "CN=order",
            "spiffe://cluster.local",
            "spiffe://a/ns/b/sa",
            "spiffe://a/b/ns/c/sa/d",
            "order.hotel.svc",
        ] {
            assert_eq!(Workload::of_principal(principal), None, "{principal}");
        }
    }
}
