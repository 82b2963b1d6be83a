//! Authorize and Explain requests.

use std::{net::IpAddr, sync::Arc, time::Duration};

use podgate_engine::{
    destination::{DESTINATIONS_MAX, Destination},
    lease::Tenure,
    name::DocumentName,
    subject::{PodIdentity, Subject, SubjectKind},
};
use podgate_proto::v1;

use crate::{
    gate::{Appointments, Asked, Patience, Refusal},
    grpc::convert::fields::{Fields, span},
};

/// Most addresses of a pod.
const ADDRESSES_MAX: usize = 16;
/// Longest ticket, in bytes.
const TICKET_BYTES_MAX: usize = 512;

/// Reads a request for access that came from `from`, and how its caller can wait: it has waited at the door, and has to be
/// answered in time.
pub fn authorize(
    message: v1::AuthorizeRequest,
    from: IpAddr,
    waited: Duration,
    answer_within: Duration,
) -> Result<(Asked, Patience), Refusal> {
    let mut fields = Fields::default();
    let wait_budget = match message.wait_budget.map(span) {
        None => Duration::MAX,
        Some(Some(budget)) => budget,
        Some(None) => {
            fields.violation("wait_budget", "expected a duration that is not negative");
            Duration::ZERO
        }
    };
    if message.ticket.len() > TICKET_BYTES_MAX {
        let expected = format!("{} bytes; expected at most {TICKET_BYTES_MAX}", message.ticket.len());
        fields.violation("ticket", expected);
    }
    let subject = message.subject.map(|subject| match subject {
        v1::authorize_request::Subject::Pod(pod) => Who::Pod(pod),
        v1::authorize_request::Subject::StaticHost(host) => Who::Host(host),
    });
    let tenure = if message.renews { Tenure::Renewed } else { Tenure::Fixed };
    let asked = Asked { tenure, ..read(fields, message.app, subject, &message.destinations, from)? };
    let appointments = if message.keeps_appointments { Appointments::Kept } else { Appointments::Unknown };
    Ok((asked, Patience { waited, answer_within, wait_budget, appointments, ticket: message.ticket }))
}

/// Reads a request for an explanation, to be answered as if it came from the address that it names, or from `from`.
pub fn explain(message: v1::ExplainRequest, from: IpAddr) -> Result<Asked, Refusal> {
    let mut fields = Fields::default();
    let named = match &message.subject {
        Some(v1::explain_request::Subject::Pod(pod)) => {
            pod.addresses.first().and_then(|text| fields.address("pod.addresses[0]", text))
        }
        Some(v1::explain_request::Subject::StaticHost(_)) if !message.host_address.is_empty() => {
            fields.address("host_address", &message.host_address)
        }
        Some(v1::explain_request::Subject::StaticHost(_)) | None => None,
    };
    let subject = message.subject.map(|subject| match subject {
        v1::explain_request::Subject::Pod(pod) => Who::Pod(pod),
        v1::explain_request::Subject::StaticHost(host) => Who::Host(host),
    });
    read(fields, message.app, subject, &message.destinations, named.unwrap_or(from))
}

enum Who {
    Pod(v1::Pod),
    Host(v1::StaticHost),
}

fn read(
    mut fields: Fields,
    app: String,
    subject: Option<Who>,
    destinations: &[v1::Destination],
    from: IpAddr,
) -> Result<Asked, Refusal> {
    fields.keep("app", DocumentName::check(&app));
    let (subject, addresses) = match subject {
        Some(Who::Pod(message)) => {
            let (subject, addresses) = pod(&mut fields, message, from);
            (Some(subject), addresses)
        }
        Some(Who::Host(message)) => (Some(host(&mut fields, message, from)), Vec::new()),
        None => {
            fields.violation("subject", "missing; expected pod or static_host");
            (None, Vec::new())
        }
    };
    if destinations.len() > DESTINATIONS_MAX {
        let expected = format!("{} destinations; expected at most {DESTINATIONS_MAX}", destinations.len());
        fields.violation("destinations", expected);
    }
    let destinations = destinations.iter().take(DESTINATIONS_MAX).enumerate();
    let destinations: Arc<[Destination]> = destinations
        .filter_map(|(at, destination)| fields.destination(format_args!("destinations[{at}]"), destination))
        .collect();
    let asked = subject.map(|subject| Asked {
        app: app.into_boxed_str(),
        subject: Arc::new(subject),
        addresses,
        destinations,
        tenure: Tenure::Fixed,
    });
    fields.finish(asked)
}

fn pod(fields: &mut Fields, message: v1::Pod, from: IpAddr) -> (Subject, Vec<IpAddr>) {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !message.uid.bytes().all(named) {
        fields.violation("pod.uid", "expected letters, digits, `-`, `_` and `.` only");
    }
    if message.addresses.len() > ADDRESSES_MAX {
        let expected = format!("{} addresses; expected at most {ADDRESSES_MAX}", message.addresses.len());
        fields.violation("pod.addresses", expected);
    }
    let addresses = message.addresses.iter().take(ADDRESSES_MAX).enumerate();
    let addresses = addresses
        .filter_map(|(at, text)| fields.address(format_args!("pod.addresses[{at}]"), text))
        .collect();
    let identity = PodIdentity {
        namespace: fields.required("pod.namespace", message.namespace, 63).into(),
        name: fields.word("pod.name", message.name, 253),
        uid: fields.required("pod.uid", message.uid, 64).into(),
        service_account: fields.required("pod.service_account", message.service_account, 253).into(),
        node: fields.word("pod.node", message.node, 253).into(),
    };
    let cluster = fields.word("pod.cluster", message.cluster, 63).into();
    (Subject { cluster, address: from, kind: SubjectKind::Pod(identity) }, addresses)
}

fn host(fields: &mut Fields, message: v1::StaticHost, from: IpAddr) -> Subject {
    Subject {
        cluster: fields.word("static_host.cluster", message.cluster, 63).into(),
        address: from,
        kind: SubjectKind::Host(fields.word("static_host.name", message.name, 253)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> v1::AuthorizeRequest {
        v1::AuthorizeRequest {
            app: "hotel-order".into(),
            subject: Some(v1::authorize_request::Subject::Pod(v1::Pod {
                namespace: "hotel".into(),
                uid: "0d1c".into(),
                service_account: "order".into(),
                ..v1::Pod::default()
            })),
            destinations: vec![destination("mysql.db.svc", 3306)],
            ..v1::AuthorizeRequest::default()
        }
    }

    fn destination(host: &str, port: u32) -> v1::Destination {
        v1::Destination { host: host.into(), port, ..v1::Destination::default() }
    }

    fn violations(request: v1::AuthorizeRequest) -> Vec<String> {
        match authorize(request, [10, 0, 0, 1].into(), Duration::ZERO, Duration::MAX) {
            Err(Refusal::Fields(violations)) => violations.into_iter().map(|it| it.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn with_pod(change: impl FnOnce(&mut v1::Pod)) -> v1::AuthorizeRequest {
        let mut request = request();
        if let Some(v1::authorize_request::Subject::Pod(pod)) = &mut request.subject {
            change(pod);
        }
        request
    }

    #[test]
    fn absurd_requests_are_refused_field_by_field() {
        assert!(authorize(request(), [10, 0, 0, 1].into(), Duration::ZERO, Duration::MAX).is_ok());
        assert_eq!(violations(v1::AuthorizeRequest { app: String::new(), ..request() }), ["app"]);
        assert_eq!(violations(v1::AuthorizeRequest { subject: None, ..request() }), ["subject"]);
        assert_eq!(violations(with_pod(|pod| pod.uid = "x".repeat(1 << 20))), ["pod.uid"]);
        assert_eq!(violations(with_pod(|pod| pod.uid = "a b".into())), ["pod.uid", "pod.uid"]);
        assert_eq!(violations(with_pod(|pod| pod.namespace = String::new())), ["pod.namespace"]);
        assert_eq!(
            violations(with_pod(|pod| pod.addresses = vec!["::ffff:10.0.0.1".into()])),
            ["pod.addresses[0]"]
        );
        let destinations = vec![destination("mysql.db.svc", 70_000), destination("::ffff:10.0.0.1", 1)];
        assert_eq!(
            violations(v1::AuthorizeRequest { destinations, ..request() }),
            ["destinations[0].port", "destinations[1].host"]
        );
        let destinations = vec![destination("mysql.db.svc", 3306); 10_000];
        assert_eq!(violations(v1::AuthorizeRequest { destinations, ..request() }), ["destinations"]);
        let ticket = vec![0; 513];
        assert_eq!(violations(v1::AuthorizeRequest { ticket, ..request() }), ["ticket"]);
        let wait_budget = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        assert_eq!(violations(v1::AuthorizeRequest { wait_budget, ..request() }), ["wait_budget"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(app in "\\PC{0,300}", host in "\\PC{0,300}", uid in "\\PC{0,80}", port in any::<u32>(), last_port in any::<u32>(), protocol in any::<i32>()) {
            let mut request = with_pod(|pod| pod.uid = uid);
            request.app = app;
            request.destinations = vec![v1::Destination { host, port, last_port, protocol }];
            if let Err(refusal) = authorize(request, [10, 0, 0, 1].into(), Duration::ZERO, Duration::MAX) {
                prop_assert!(matches!(refusal, Refusal::Fields(violations) if !violations.is_empty()));
            }
        }
    }
}
