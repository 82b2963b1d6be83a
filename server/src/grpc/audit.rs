//! AuditService: not served yet.

use podgate_proto::v1::{self, audit_service_server::AuditService};
use tonic::{Request, Response, Status};

use crate::grpc::status::not_served;

/// AuditService.
#[derive(Clone, Copy, Debug)]
pub struct Audit;

#[tonic::async_trait]
impl AuditService for Audit {
    type StreamStream = tokio_stream::Empty<Result<v1::AuditServiceStreamResponse, Status>>;

    async fn stream(
        &self,
        _: Request<v1::AuditServiceStreamRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Err(not_served("AuditService.Stream"))
    }
}
