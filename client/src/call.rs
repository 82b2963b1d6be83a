//! The calls of AuthorizationService as the client makes them: what is sent, and what of an answer is believed.

use std::time::Duration;

use podgate_proto::v1::authorization_service_client::AuthorizationServiceClient;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    Ask, Explained, Holding, Release, Renewal, course::Course, status, wire, wire::Decided, wire::lifecycle,
};

/// One of the calls. Each is safe to repeat.
pub(crate) trait Call {
    /// The answer on the wire.
    type Response;
    /// What it means.
    type Answer;

    /// Sends it, with what is left of the course.
    async fn send(
        &self,
        client: &mut AuthorizationServiceClient<Channel>,
        course: &Course,
        limit: Duration,
    ) -> Result<Response<Self::Response>, Status>;

    /// Reads the answer; an error says what makes it unintelligible.
    fn read(&self, response: Self::Response) -> Result<Self::Answer, String>;

    /// The answer that a status is, where it is one.
    fn answer_of(&self, _status: &Status) -> Option<Self::Answer> {
        None
    }
}

/// Asks for access.
pub(crate) struct Authorize<'a>(pub(crate) &'a Ask);
/// Asks how that would be decided.
pub(crate) struct Explain<'a>(pub(crate) &'a Ask);
/// Extends a lease.
pub(crate) struct Renew<'a>(pub(crate) &'a Holding);
/// Gives a grant back.
pub(crate) struct GiveBack<'a>(pub(crate) &'a Holding);

impl Call for Authorize<'_> {
    type Response = podgate_proto::v1::AuthorizeResponse;
    type Answer = Decided;

    async fn send(
        &self,
        client: &mut AuthorizationServiceClient<Channel>,
        course: &Course,
        limit: Duration,
    ) -> Result<Response<Self::Response>, Status> {
        client.authorize(timed(wire::request(self.0, course.terms()), limit)).await
    }

    fn read(&self, response: Self::Response) -> Result<Decided, String> {
        wire::decided(self.0, response)
    }
}

impl Call for Explain<'_> {
    type Response = podgate_proto::v1::ExplainResponse;
    type Answer = Explained;

    async fn send(
        &self,
        client: &mut AuthorizationServiceClient<Channel>,
        _course: &Course,
        limit: Duration,
    ) -> Result<Response<Self::Response>, Status> {
        client.explain(timed(lifecycle::explain_request(self.0), limit)).await
    }

    fn read(&self, response: Self::Response) -> Result<Explained, String> {
        lifecycle::explained(self.0, response)
    }
}

impl Call for Renew<'_> {
    type Response = podgate_proto::v1::RenewResponse;
    type Answer = Renewal;

    async fn send(
        &self,
        client: &mut AuthorizationServiceClient<Channel>,
        _course: &Course,
        limit: Duration,
    ) -> Result<Response<Self::Response>, Status> {
        client.renew(timed(lifecycle::renew_request(self.0), limit)).await
    }

    fn read(&self, response: Self::Response) -> Result<Renewal, String> {
        lifecycle::renewed(self.0, response)
    }

    fn answer_of(&self, status: &Status) -> Option<Renewal> {
        status::end_of_lease(status)
    }
}

impl Call for GiveBack<'_> {
    type Response = podgate_proto::v1::ReleaseResponse;
    type Answer = Release;

    async fn send(
        &self,
        client: &mut AuthorizationServiceClient<Channel>,
        _course: &Course,
        limit: Duration,
    ) -> Result<Response<Self::Response>, Status> {
        client.release(timed(lifecycle::release_request(self.0), limit)).await
    }

    fn read(&self, response: Self::Response) -> Result<Release, String> {
        Ok(if response.released { Release::Ended } else { Release::NothingHeld })
    }

    fn answer_of(&self, status: &Status) -> Option<Release> {
        status::end_of_lease(status).map(|_| Release::NothingHeld)
    }
}

/// The request, of which the gateway is told how long it is waited for.
fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}
