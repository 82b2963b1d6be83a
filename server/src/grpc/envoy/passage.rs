//! An `AttributeContext` into a passage.

use std::net::IpAddr;

use podgate_engine::{
    destination::Destination,
    host::HostPattern,
    port::{PortRange, Protocol},
};
use podgate_proto::envoy::{
    config::core::v3::{
        Address, SocketAddress, address::Address as Kind, socket_address, socket_address::PortSpecifier,
    },
    service::auth::v3::{AttributeContext, attribute_context::Peer},
};
use tonic::metadata::MetadataMap;

use crate::{
    gate::{
        Refusal,
        passage::{Passage, Workload, parse_guards},
    },
    grpc::convert::fields::Fields,
};

/// Says what the Envoy guards: in the `initial_metadata` of its gRPC service, or in `context_extensions`.
const GUARDS: &str = "podgate-guards";
/// Says which cluster the pods are of that it sees; the same way.
const CLUSTER: &str = "podgate-cluster";
/// Longest list of what one Envoy guards, in bytes.
const GUARDS_BYTES_MAX: usize = 8_192;
/// Longest principal that is read, in bytes.
const PRINCIPAL_BYTES_MAX: usize = 2_048;

/// Which of Envoy's filters asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// `envoy.filters.network.ext_authz`: once a connection.
    Network,
    /// `envoy.filters.http.ext_authz`: once a request.
    Http,
}

/// Reads what an Envoy tells of a connection.
pub(crate) fn read(
    metadata: &MetadataMap,
    attributes: Option<AttributeContext>,
) -> Result<(Filter, Passage), Refusal> {
    let mut fields = Fields::default();
    let attributes = attributes.unwrap_or_else(|| {
        fields.violation("attributes", "missing");
        AttributeContext::default()
    });
    let is_http = attributes.request.as_ref().is_some_and(|request| request.http.is_some());
    let filter = if is_http { Filter::Http } else { Filter::Network };
    let source = socket(&mut fields, "attributes.source.address", attributes.source.as_ref());
    let source = source.and_then(|source| address(&mut fields, "attributes.source.address", source));
    let arrived = socket(&mut fields, "attributes.destination.address", attributes.destination.as_ref());
    let arrived =
        arrived.and_then(|arrived| destination(&mut fields, "attributes.destination.address", arrived));
    let principal = attributes.source.as_ref().map_or("", |source| &*source.principal);
    if principal.len() > PRINCIPAL_BYTES_MAX {
        let expected = format!("expected at most {PRINCIPAL_BYTES_MAX} bytes");
        fields.violation("attributes.source.principal", expected);
    }
    let workload = Workload::of_principal(principal);
    let server_name = attributes.tls_session.as_ref().map_or("", |session| &*session.sni);
    let server_name = match server_name.parse() {
        Ok(HostPattern::Name(name)) => Some(name),
        // It is the sender's word: what is no name is none that could be allowed.
        Ok(HostPattern::Wildcard(_) | HostPattern::Network(_)) | Err(_) => None,
    };
    let guards = setting(&mut fields, metadata, &attributes, GUARDS);
    let guards = guards.and_then(|(place, text)| {
        if text.len() > GUARDS_BYTES_MAX {
            fields.violation(place, format!("expected at most {GUARDS_BYTES_MAX} bytes"));
            return None;
        }
        fields.keep(place, parse_guards(&text))
    });
    let cluster = setting(&mut fields, metadata, &attributes, CLUSTER);
    let cluster = cluster.map(|(place, text)| fields.word(&place, text, 63));
    let (source, arrived) = fields.finish(source.zip(arrived))?;
    let passage = Passage {
        cluster: cluster.unwrap_or_default(),
        source,
        workload,
        arrived,
        server_name,
        guards: guards.unwrap_or_default(),
    };
    Ok((filter, passage))
}

/// What is set under a name, and where: for a route, in its extensions, before what is set for the filter.
fn setting(
    fields: &mut Fields,
    metadata: &MetadataMap,
    attributes: &AttributeContext,
    name: &str,
) -> Option<(String, String)> {
    if let Some(text) = attributes.context_extensions.get(name) {
        return Some((format!("attributes.context_extensions[{name}]"), text.clone()));
    }
    let place = format!("metadata[{name}]");
    let values: Result<Vec<&str>, _> = metadata.get_all(name).iter().map(|value| value.to_str()).collect();
    let values = fields.keep(&place, values).filter(|values| !values.is_empty())?;
    Some((place, values.join(",")))
}

fn socket<'a>(fields: &mut Fields, path: &str, peer: Option<&'a Peer>) -> Option<&'a SocketAddress> {
    match peer.and_then(|peer| peer.address.as_ref()) {
        Some(Address { address: Some(Kind::SocketAddress(socket)) }) => Some(socket),
        Some(Address { address: Some(Kind::Pipe(_) | Kind::EnvoyInternalAddress(_)) }) => {
            fields.violation(path, "expected a socket address");
            None
        }
        Some(Address { address: None }) | None => {
            fields.violation(path, "missing");
            None
        }
    }
}

/// An address; IPv4 where it is mapped into IPv6, as a listener on `::` has it.
fn address(fields: &mut Fields, path: &str, socket: &SocketAddress) -> Option<IpAddr> {
    let parsed = socket.address.parse::<IpAddr>().map(|address| address.to_canonical());
    fields.keep(format_args!("{path}.socket_address.address"), parsed)
}

fn destination(fields: &mut Fields, path: &str, socket: &SocketAddress) -> Option<Destination> {
    let host = address(fields, path, socket)?;
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => port,
        Some(PortSpecifier::NamedPort(_)) | None => 0,
    };
    let ports = fields.keep(format_args!("{path}.socket_address.port_value"), PortRange::new(port, port))?;
    let protocol = match socket.protocol() {
        socket_address::Protocol::Tcp => Protocol::Tcp,
        socket_address::Protocol::Udp => Protocol::Udp,
    };
    Some(Destination { host: host.into(), ports, protocol })
}
