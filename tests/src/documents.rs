//! Profiles and common ports as messages, as the Portal applies them.

use podgate_proto::v1::{CommonPorts, Profile, ProfileSubject, Rule, ServiceAccount, profile_subject};

/// A rule that allows TCP to `host:port`.
pub fn rule(name: &str, host: &str, port: u32) -> Rule {
    Rule { name: name.into(), hosts: vec![host.into()], ports: vec![port.to_string()], ..Rule::default() }
}

/// A profile for pods of namespace and service account `shop` that allows TCP to `host:3306`.
pub fn profile(name: &str, host: &str) -> Profile {
    let account =
        ServiceAccount { namespace: "shop".into(), name: "shop".into(), ..ServiceAccount::default() };
    let subject = Some(profile_subject::Subject::ServiceAccount(account));
    Profile {
        name: name.into(),
        subjects: vec![ProfileSubject { subject }],
        allow: vec![rule("db", host, 3306)],
        ..Profile::default()
    }
}

/// Common ports that allow everyone TCP to `host:53`.
pub fn common_ports(name: &str, host: &str) -> CommonPorts {
    CommonPorts { name: name.into(), allow: vec![rule("dns", host, 53)], ..CommonPorts::default() }
}
