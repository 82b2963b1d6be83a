//! gRPC: converts, calls the gate, converts back.

pub mod audit;
pub mod authorization;
pub mod convert;
pub mod documents;
pub mod grants;
pub mod service;
pub mod status;
pub mod timeout;

use tonic::{Request, Status};

use crate::gate::Call;

/// The call that the listener has put beside each request.
pub(crate) fn call_of<T>(request: &Request<T>) -> Result<Call, Status> {
    let call = request.extensions().get::<Call>().copied();
    call.ok_or_else(|| Status::internal("a request came past the listener"))
}
