//! Renewals, releases and questions without effect.

use podgate_proto::v1;

use crate::{
    Ask, Explained, Holding, Renewal, Ruling, Subject, text,
    wire::{decisions, denial_reason, destination, host_of, lease, pod_of},
};

pub(crate) fn renew_request(holding: &Holding) -> v1::RenewRequest {
    let Holding { grant_id, pod_uid, generation } = holding.clone();
    v1::RenewRequest { grant_id, pod_uid, generation }
}

/// Reads a renewal; an error says what makes it unintelligible.
pub(crate) fn renewed(holding: &Holding, response: v1::RenewResponse) -> Result<Renewal, String> {
    let lease = lease(&response.lease.ok_or("it renews without a lease")?)?;
    if lease.grant_id != holding.grant_id {
        return Err(format!("it renews grant {}", lease.grant_id));
    }
    Ok(Renewal::Renewed(lease))
}

pub(crate) fn release_request(holding: &Holding) -> v1::ReleaseRequest {
    let Holding { grant_id, pod_uid, generation } = holding.clone();
    v1::ReleaseRequest { grant_id, pod_uid, generation }
}

pub(crate) fn explain_request(ask: &Ask) -> v1::ExplainRequest {
    v1::ExplainRequest {
        app: ask.app.clone(),
        subject: Some(match &ask.subject {
            Subject::Pod(pod) => v1::explain_request::Subject::Pod(pod_of(pod)),
            Subject::StaticHost(host) => v1::explain_request::Subject::StaticHost(host_of(host)),
        }),
        destinations: ask.destinations.iter().map(destination).collect(),
        host_address: String::new(),
    }
}

/// Reads how a request would be decided; an error says what makes it unintelligible.
pub(crate) fn explained(ask: &Ask, response: v1::ExplainResponse) -> Result<Explained, String> {
    let decisions = decisions(response.decisions)?;
    let reason = denial_reason(response.reason);
    let ruling = if response.allowed { Ruling::Allowed } else { Ruling::Denied(reason) };
    if ruling == Ruling::Allowed && !ask.destinations.is_empty() && ask.destinations.len() != decisions.len()
    {
        let (asked, decided) = (ask.destinations.len(), decisions.len());
        return Err(format!("it decides on {decided} destinations of {asked}"));
    }
    let explanation = match (response.explanation.as_str(), ruling) {
        ("", Ruling::Denied(reason)) => reason.to_string(),
        (explanation, Ruling::Allowed | Ruling::Denied(_)) => text::shown(explanation),
    };
    let policy_revision = text::shown(&response.policy_revision);
    Ok(Explained { ruling, decisions, explanation, policy_revision })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DenialReason, Pod, Tenure, Verdict};

    fn holding() -> Holding {
        Holding { grant_id: "00000000000000aa".to_owned(), pod_uid: "u-1".to_owned(), generation: 3 }
    }

    fn ask(destinations: &[&str]) -> Ask {
        Ask {
            app: "hotel-order".to_owned(),
            subject: Subject::Pod(Pod { uid: "u-1".to_owned(), ..Pod::default() }),
            destinations: destinations.iter().map(|text| text.parse().unwrap()).collect(),
            tenure: Tenure::Lasting,
        }
    }

    #[test]
    fn a_grant_is_named_whole() {
        let renew = renew_request(&holding());
        assert_eq!(
            (renew.grant_id.as_str(), renew.pod_uid.as_str(), renew.generation),
            ("00000000000000aa", "u-1", 3)
        );
        let release = release_request(&holding());
        assert_eq!(
            (release.grant_id, release.pod_uid, release.generation),
            (renew.grant_id, renew.pod_uid, renew.generation)
        );
    }

    #[test]
    fn only_the_lease_that_was_asked_for_is_renewed() {
        let renewed = |lease| renewed(&holding(), v1::RenewResponse { lease });
        assert_eq!(renewed(None), Err("it renews without a lease".to_owned()));
        let lease = |grant_id: &str| v1::Lease {
            grant_id: grant_id.to_owned(),
            generation: 4,
            renew_after: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
            ..v1::Lease::default()
        };
        assert_eq!(renewed(Some(lease("b"))), Err("it renews grant b".to_owned()));
        let Ok(Renewal::Renewed(lease)) = renewed(Some(lease("00000000000000aa"))) else {
            panic!("not renewed")
        };
        assert_eq!((lease.generation, lease.renew_after), (4, Some(std::time::Duration::from_mins(5))));
    }

    #[test]
    fn a_question_is_the_request_without_its_terms() {
        let sent = explain_request(&ask(&["mysql:3306"]));
        let Some(v1::explain_request::Subject::Pod(pod)) = sent.subject else { panic!("no pod") };
        assert_eq!((sent.app.as_str(), pod.uid.as_str()), ("hotel-order", "u-1"));
        assert_eq!((sent.destinations[0].host.as_str(), sent.destinations[0].port), ("mysql", 3306));
    }

    #[test]
    fn what_would_be_decided_is_read_whole_or_not_at_all() {
        let decision = v1::DestinationDecision {
            destination: Some(v1::Destination {
                host: "mysql".to_owned(),
                port: 3306,
                ..v1::Destination::default()
            }),
            verdict: v1::Verdict::Allowed.into(),
            ..v1::DestinationDecision::default()
        };
        let response = |allowed, decisions: &[v1::DestinationDecision]| v1::ExplainResponse {
            allowed,
            decisions: decisions.to_vec(),
            reason: v1::DenialReason::NoProfile.into(),
            explanation: String::new(),
            ..v1::ExplainResponse::default()
        };
        let asked = ask(&["mysql:3306"]);
        let allowed = explained(&asked, response(true, std::slice::from_ref(&decision))).unwrap();
        assert_eq!((allowed.ruling, allowed.decisions[0].verdict), (Ruling::Allowed, Verdict::Allowed));
        assert_eq!(explained(&asked, response(true, &[])).unwrap_err(), "it decides on 0 destinations of 1");
        let denied = explained(&asked, response(false, &[])).unwrap();
        assert_eq!(
            (denied.ruling, denied.explanation.as_str()),
            (Ruling::Denied(DenialReason::NoProfile), "NO_PROFILE")
        );
    }
}
