//! `podgate explain`: the gateway's decision without a gateway.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use clap::ArgMatches;
use podgate_engine::{
    decision::{Decision, Ruling, Verdict},
    destination::Destination,
    host::parse_address,
    policy::PolicySet,
    subject::{PodIdentity, Subject, SubjectKind},
};

use crate::{
    command::{complain, exit_code, say, validate},
    wording,
};

/// Runs `podgate explain`.
pub fn run(matches: &ArgMatches) -> u8 {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let mut faults = Vec::new();
    let destinations: Vec<Destination> = matches
        .get_many::<String>("destination")
        .into_iter()
        .flatten()
        .filter_map(|text| text.parse().map_err(|error| faults.push(format!("--destination: {error}"))).ok())
        .collect();
    let address = match text("host-address") {
        "" => None,
        address => {
            parse_address(address).map_err(|error| faults.push(format!("--host-address: {error}"))).ok()
        }
    };
    if address.is_none() && text("service-account").is_empty() && text("host-address").is_empty() {
        faults.push("who asks? give --namespace and --service-account, or --host-address".to_owned());
    }
    let root = matches.get_one::<PathBuf>("profiles").cloned().unwrap_or_default();
    let documents = match validate::load(root) {
        Ok(documents) if faults.is_empty() => documents,
        Ok(_) => {
            complain(faults);
            return exit_code::MISCONFIGURED;
        }
        Err(more) => {
            complain(faults.into_iter().chain(more));
            return exit_code::MISCONFIGURED;
        }
    };
    let kind = match address {
        Some(_) => SubjectKind::Host("".into()),
        None => SubjectKind::Pod(PodIdentity {
            namespace: text("namespace").into(),
            service_account: text("service-account").into(),
            name: "".into(),
            uid: "".into(),
            node: "".into(),
        }),
    };
    let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let subject = Subject { cluster: text("cluster").into(), address, kind };
    let policy = PolicySet::compile(documents.profiles, documents.common);
    let standing = policy.standing(text("app"), &subject);
    let decision = policy.decide(standing, &subject.cluster, Arc::from(destinations));
    say(lines(text("app"), &subject, &decision));
    match decision.ruling {
        Ruling::Common | Ruling::Allowed | Ruling::Shadowed => exit_code::OK,
        Ruling::Denied(_) => exit_code::DENIED,
    }
}

fn lines(app: &str, subject: &Subject, decision: &Decision) -> Vec<String> {
    let heading = match decision.ruling {
        Ruling::Common | Ruling::Allowed | Ruling::Shadowed => "allowed",
        Ruling::Denied(_) => "denied",
    };
    let mut lines = vec![format!("{heading}: {}", wording::ruling(app, subject, decision))];
    for (destination, verdict) in decision.destinations.iter().zip(&decision.verdicts) {
        lines.push(match verdict {
            Verdict::Allowed(rule) => {
                format!("  allowed  {destination}  by rule `{}` of `{}`", rule.rule, rule.document)
            }
            Verdict::Common(rule) => {
                format!("  common   {destination}  by rule `{}` of `{}`", rule.rule, rule.document)
            }
            Verdict::Denied(denial, nearest) => format!(
                "  denied   {destination}  {}",
                wording::denied_destination(destination, *denial, nearest.as_ref())
            ),
        });
    }
    lines
}
