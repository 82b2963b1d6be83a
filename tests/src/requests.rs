//! Requests as the tests make them.

use podgate_proto::v1::{
    AuthorizeRequest, CheckRequest, Destination, ExplainRequest, Pod, StaticHost, authorize_request,
    explain_request,
};

/// A destination over TCP.
pub fn destination(host: &str, port: u32) -> Destination {
    Destination { host: host.to_owned(), port, ..Destination::default() }
}

/// A pod of namespace and service account `shop`.
pub fn pod(uid: &str) -> Pod {
    Pod {
        namespace: "shop".to_owned(),
        name: format!("shop-{uid}"),
        uid: uid.to_owned(),
        service_account: "shop".to_owned(),
        ..Pod::default()
    }
}

/// A request of [`pod`] for some destinations; none: all that the profile allows.
pub fn authorize(app: &str, uid: &str, destinations: &[(&str, u32)]) -> AuthorizeRequest {
    authorize_as(app, pod(uid), destinations)
}

/// A request of a pod for some destinations.
pub fn authorize_as(app: &str, pod: Pod, destinations: &[(&str, u32)]) -> AuthorizeRequest {
    AuthorizeRequest {
        app: app.to_owned(),
        subject: Some(authorize_request::Subject::Pod(pod)),
        destinations: destinations.iter().map(|(host, port)| destination(host, *port)).collect(),
        ..AuthorizeRequest::default()
    }
}

/// A request of a machine for some destinations.
pub fn authorize_host(app: &str, destinations: &[(&str, u32)]) -> AuthorizeRequest {
    let host = StaticHost { name: "vm-7".to_owned(), ..StaticHost::default() };
    AuthorizeRequest {
        subject: Some(authorize_request::Subject::StaticHost(host)),
        ..authorize(app, "", destinations)
    }
}

/// Whether an address may reach a destination.
pub fn check(address: &str, destination: Destination) -> CheckRequest {
    CheckRequest { address: address.to_owned(), destination: Some(destination), ..CheckRequest::default() }
}

/// How a request of [`pod`] for all that the profile allows would be decided.
pub fn explain_pod(app: &str) -> ExplainRequest {
    ExplainRequest {
        app: app.to_owned(),
        subject: Some(explain_request::Subject::Pod(pod("explained"))),
        ..ExplainRequest::default()
    }
}
