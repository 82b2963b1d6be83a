//! What a client is told.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use crate::{Endpoint, RetryPolicy};

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The gateways, at least one. The first to be asked is drawn by the client's seed; the next in turn follows when
    /// one is unavailable.
    pub endpoints: Vec<Endpoint>,
    /// The address to connect from; none: the system's choice.
    pub local_address: Option<IpAddr>,
    /// PEM file with the authorities that may sign an `https` gateway's certificate. Required for `https`: no other
    /// authority is trusted.
    pub ca_file: Option<PathBuf>,
    /// The name that an `https` gateway's certificate has to carry; none: the endpoint's host.
    pub server_name: Option<String>,
    /// Time for a connection, from looking up the name to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// Time for one call on an open connection; the gateway is told (`grpc-timeout`).
    pub call_timeout: Duration,
    /// How long to keep trying, and at what pace.
    pub retry: RetryPolicy,
}

impl ClientConfig {
    /// The defaults for these gateways: 2 s to connect, 10 s a call, [`RetryPolicy::default`].
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints,
            local_address: None,
            ca_file: None,
            server_name: None,
            connect_timeout: Duration::from_secs(2),
            call_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
        }
    }
}
