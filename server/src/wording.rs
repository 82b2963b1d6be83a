//! Denials in sentences, for people.

use podgate_engine::{
    decision::{Decision, Denial, Ruling, Verdict},
    destination::Destination,
    index::{Miss, RuleRef},
    subject::Subject,
};

/// Why a destination was denied.
pub fn denied_destination(wanted: &Destination, denial: Denial, nearest: Option<&RuleRef>) -> String {
    let rule = nearest.map(|nearest| format!("rule `{}` of `{}`", nearest.rule, nearest.document));
    match (denial, rule) {
        (Denial::NoProfile, _) => format!("{wanted} is no common port, and the app has no profile"),
        (Denial::SubjectNotListed, _) => {
            format!("{wanted} is no common port, and the app's profile does not list the caller")
        }
        (Denial::Destination(Miss::Host), Some(rule)) => {
            format!("no rule allows the host {}; {rule} comes nearest", wanted.host)
        }
        (Denial::Destination(Miss::Host), None) => format!("no rule allows the host {}", wanted.host),
        (Denial::Destination(Miss::Protocol), rule) => format!(
            "{} allows the host {}, but not over {}",
            rule.as_deref().unwrap_or("a rule"),
            wanted.host,
            wanted.protocol
        ),
        (Denial::Destination(Miss::Port), rule) => format!(
            "{} allows the host {}, but not all of the ports {}",
            rule.as_deref().unwrap_or("a rule"),
            wanted.host,
            wanted.ports
        ),
    }
}

/// Why the whole was denied; or that it was not.
pub fn ruling(app: &str, subject: &Subject, decision: &Decision) -> String {
    match decision.ruling {
        Ruling::Common => "all destinations are common ports".to_owned(),
        Ruling::Allowed => "all destinations are allowed".to_owned(),
        Ruling::Shadowed => {
            "something is denied, and let through because the profile's mode is shadow".to_owned()
        }
        Ruling::Denied(Denial::NoProfile) => format!("there is no profile `{app}`"),
        Ruling::Denied(Denial::SubjectNotListed) => {
            format!("the profile `{app}` does not list {subject}")
        }
        Ruling::Denied(Denial::Destination(_)) => {
            let pairs = decision.destinations.iter().zip(&decision.verdicts);
            let mut denied = pairs.filter_map(|(destination, verdict)| match verdict {
                Verdict::Denied(denial, nearest) => {
                    Some(denied_destination(destination, *denial, nearest.as_ref()))
                }
                Verdict::Allowed(_) | Verdict::Common(_) => None,
            });
            let first = denied.next().unwrap_or_default();
            match denied.count() {
                0 => first,
                more => format!("{first} (and {more} more denied)"),
            }
        }
    }
}
