//! gRPC: converts, calls the gate, converts back.

pub mod audit;
pub mod authorization;
pub mod convert;
pub mod documents;
pub mod envoy;
pub mod grants;
pub mod service;
pub mod status;
pub mod timeout;
pub mod watch;

use tonic::{Request, Status};

use crate::authn::Caller;

/// The caller that the listener has put beside each request.
pub(crate) fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().copied();
    caller.ok_or_else(|| Status::internal("a request came past the listener"))
}
