//! gRPC's health service: everybody may ask, and the server is well.
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::proto::health_v1::health_check_response::ServingStatus;
use crate::proto::health_v1::health_server::Health;
use crate::proto::health_v1::{HealthCheckRequest, HealthCheckResponse};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Service;

fn check(service: &str) -> Result<HealthCheckResponse, Status> {
    if service.is_empty() {
        Ok(HealthCheckResponse { status: ServingStatus::Serving.into() })
    } else {
        Err(Status::not_found("unknown service"))
    }
}

#[async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        check(&request.get_ref().service).map(Response::new)
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        use tokio_stream::StreamExt as _;
        let first = check(&request.get_ref().service);
        Ok(Response::new(Box::pin(tokio_stream::once(first).chain(tokio_stream::pending()))))
    }
}
