//! A caller of a gateway: one connection, from an address of its choice, with the generated clients over it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use podgate_proto::v1::{
    AuthorizeRequest, AuthorizeResponse, BucketState, CheckResponse, Denied, ExplainRequest, ExplainResponse,
    Grant, GrantServiceListRequest, Granted, audit_service_client::AuditServiceClient,
    authorization_service_client::AuthorizationServiceClient, authorize_response::Outcome,
    common_ports_service_client::CommonPortsServiceClient, grant_service_client::GrantServiceClient,
    profile_service_client::ProfileServiceClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    eventually::within,
    gateway::Gateway,
    requests::{check, destination, explain_pod},
};

/// A caller.
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
}

impl Caller {
    /// Connects from 127.0.0.1.
    pub async fn of(gateway: &Gateway) -> Self {
        Self::connect(gateway.grpc(), Ipv4Addr::LOCALHOST.into()).await
    }

    /// Connects from another address of loopback.
    ///
    /// # Panics
    ///
    /// Panics if `from` is no address.
    pub async fn from(gateway: &Gateway, from: &str) -> Self {
        let from = from.parse().unwrap_or_else(|error| panic!("{from}: {error}"));
        Self::connect(gateway.grpc(), from).await
    }

    /// Connects from an address to an address.
    ///
    /// # Panics
    ///
    /// Panics if there is no connection.
    pub async fn connect(to: SocketAddr, from: IpAddr) -> Self {
        let connecting = async {
            let endpoint = Endpoint::try_from(format!("http://{to}"))?;
            endpoint.local_address(Some(from)).connect().await
        };
        match within("a connection", connecting).await {
            Ok(channel) => Self { channel },
            Err(error) => panic!("no connection from {from} to {to}: {error:?}"),
        }
    }

    /// The connection.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// AuthorizationService.
    pub fn authorization(&self) -> AuthorizationServiceClient<Channel> {
        AuthorizationServiceClient::new(self.channel())
    }

    /// ProfileService.
    pub fn profiles(&self) -> ProfileServiceClient<Channel> {
        ProfileServiceClient::new(self.channel())
    }

    /// CommonPortsService.
    pub fn common_ports(&self) -> CommonPortsServiceClient<Channel> {
        CommonPortsServiceClient::new(self.channel())
    }

    /// GrantService.
    pub fn grants(&self) -> GrantServiceClient<Channel> {
        GrantServiceClient::new(self.channel())
    }

    /// AuditService.
    pub fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel())
    }

    /// Asks for access.
    pub async fn authorize(&self, request: AuthorizeRequest) -> Result<AuthorizeResponse, Status> {
        let mut client = self.authorization();
        within("an answer to Authorize", client.authorize(request)).await.map(tonic::Response::into_inner)
    }

    /// Asks for access, and expects to get it.
    ///
    /// # Panics
    ///
    /// Panics if it does not.
    pub async fn granted(&self, request: AuthorizeRequest) -> Granted {
        match self.authorize(request).await.map(|response| response.outcome) {
            Ok(Some(Outcome::Granted(granted))) => granted,
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Asks for access, and expects to be denied.
    ///
    /// # Panics
    ///
    /// Panics if it is not.
    pub async fn denied(&self, request: AuthorizeRequest) -> Denied {
        match self.authorize(request).await.map(|response| response.outcome) {
            Ok(Some(Outcome::Denied(denied))) => denied,
            other => panic!("not denied: {other:?}"),
        }
    }

    /// Asks for access, and expects to be refused.
    ///
    /// # Panics
    ///
    /// Panics if it gets an answer.
    pub async fn refused(&self, request: AuthorizeRequest) -> Status {
        match self.authorize(request).await {
            Err(status) => status,
            Ok(answer) => panic!("not refused: {answer:?}"),
        }
    }

    /// Asks whether an address may reach `host:port` now.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    pub async fn check(&self, address: &str, host: &str, port: u32) -> CheckResponse {
        let mut client = self.authorization();
        match within("an answer to Check", client.check(check(address, destination(host, port)))).await {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("no answer to Check: {status:?}"),
        }
    }

    /// Asks how a request would be decided.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    pub async fn explain(&self, request: ExplainRequest) -> ExplainResponse {
        let mut client = self.authorization();
        match within("an answer to Explain", client.explain(request)).await {
            Ok(response) => response.into_inner(),
            Err(status) => panic!("no answer to Explain: {status:?}"),
        }
    }

    /// An app's bucket as it stands; the pod that asks is one of `shop`.
    ///
    /// # Panics
    ///
    /// Panics if the gateway tells none.
    pub async fn bucket(&self, app: &str) -> BucketState {
        match self.explain(explain_pod(app)).await.bucket {
            Some(bucket) => bucket,
            None => panic!("no bucket of {app}"),
        }
    }

    /// All living grants.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer.
    pub async fn all_grants(&self) -> Vec<Grant> {
        let mut client = self.grants();
        let request = GrantServiceListRequest { page_size: 1_000, ..GrantServiceListRequest::default() };
        match within("a list of grants", client.list(request)).await {
            Ok(response) => response.into_inner().grants,
            Err(status) => panic!("no list of grants: {status:?}"),
        }
    }
}
