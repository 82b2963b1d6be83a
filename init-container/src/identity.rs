//! Who asks: the pod that the downward API describes, or a machine.

use std::net::IpAddr;

use podgate_client::{Pod, StaticHost, Subject};

use crate::{
    arguments::Arguments,
    fault::{Fault, quoted},
};

/// The downward API's variables that are read.
pub(crate) const VARIABLES: [&str; 7] =
    ["POD_NAME", "POD_NAMESPACE", "POD_UID", "POD_IP", "POD_IPS", "NODE_NAME", "POD_SERVICE_ACCOUNT"];

/// The variables without which a pod can't ask, and the fields that they come from.
const REQUIRED: [(&str, &str); 3] = [
    ("POD_UID", "metadata.uid"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("POD_SERVICE_ACCOUNT", "spec.serviceAccountName"),
];

/// The pod of the downward API's variables.
pub(crate) fn pod(arguments: &Arguments, cluster: String, faults: &mut Vec<Fault>) -> Subject {
    let text = |name: &str| arguments.variable(name).unwrap_or_default().to_owned();
    for (variable, field) in REQUIRED {
        // A variable that is set but no text has its fault already.
        let known_bad = faults.iter().any(|fault| fault.source == variable);
        if arguments.variable(variable).is_none() && !known_bad {
            faults.push(Fault::new(variable, not_set(variable, field)));
        }
    }
    Subject::Pod(Pod {
        cluster,
        namespace: text("POD_NAMESPACE"),
        name: text("POD_NAME"),
        uid: text("POD_UID"),
        service_account: text("POD_SERVICE_ACCOUNT"),
        node: text("NODE_NAME"),
        addresses: addresses(arguments, faults),
    })
}

/// The machine, known to the gateway by its address.
pub(crate) fn static_host(arguments: &Arguments, cluster: String) -> Subject {
    let name = arguments.variable("NODE_NAME").unwrap_or_default().to_owned();
    Subject::StaticHost(StaticHost { cluster, name })
}

fn not_set(variable: &str, field: &str) -> String {
    format!(
        "is not set; a pod sets it through the downward API: \
         {{name: {variable}, valueFrom: {{fieldRef: {{fieldPath: {field}}}}}}}; \
         a machine that is no pod asks with --static-host"
    )
}

/// POD_IPS, and POD_IP where that names one more.
fn addresses(arguments: &Arguments, faults: &mut Vec<Fault>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for variable in ["POD_IPS", "POD_IP"] {
        for item in arguments.variable(variable).unwrap_or_default().split(',').map(str::trim) {
            match item.parse::<IpAddr>() {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(_) if item.is_empty() => {}
                Err(_) => {
                    let given = quoted(item);
                    faults
                        .push(Fault::new(variable, format!("{given} is no address; expected IPv4 or IPv6")));
                }
            }
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> (Subject, Vec<String>) {
        let vars = vars.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut faults = Vec::new();
        let subject = pod(&Arguments::collect(Vec::new(), vars), "bj-1".to_owned(), &mut faults);
        (subject, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_pod_is_what_the_downward_api_says() {
        let (subject, faults) = read(&[
            ("POD_UID", "u-1"),
            ("POD_NAMESPACE", "hotel"),
            ("POD_NAME", "order-x"),
            ("POD_SERVICE_ACCOUNT", "order"),
            ("NODE_NAME", "node-7"),
            ("POD_IP", "10.8.3.17"),
            ("POD_IPS", "10.8.3.17, 2001:db8::17"),
        ]);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            subject,
            Subject::Pod(Pod {
                cluster: "bj-1".to_owned(),
                namespace: "hotel".to_owned(),
                name: "order-x".to_owned(),
                uid: "u-1".to_owned(),
                service_account: "order".to_owned(),
                node: "node-7".to_owned(),
                addresses: vec!["10.8.3.17".parse().unwrap(), "2001:db8::17".parse().unwrap()],
            })
        );
    }

    #[test]
    fn what_is_missing_is_said_with_the_field_that_gives_it() {
        let (_, faults) =
            read(&[("POD_NAMESPACE", "hotel"), ("POD_SERVICE_ACCOUNT", "order"), ("POD_IP", "10.8.3")]);
        assert_eq!(
            faults,
            [
                "POD_UID: is not set; a pod sets it through the downward API: \
                 {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}; \
                 a machine that is no pod asks with --static-host",
                "POD_IP: \"10.8.3\" is no address; expected IPv4 or IPv6",
            ]
        );
    }
}
