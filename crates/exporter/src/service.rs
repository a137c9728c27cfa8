//! The services of a session, as the generated code wants them.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jumpstarter_driver_core::{Error, Framing};
use jumpstarter_protocol::metadata::{BYTES, DATAGRAMS, ENDS_WHEN_SENT, FRAMING};
use jumpstarter_protocol::v1::exporter_service_server::ExporterService;
use jumpstarter_protocol::v1::router_service_server::RouterService;
use jumpstarter_protocol::v1::{
    DriverCallRequest, DriverCallResponse, EndSessionRequest, EndSessionResponse, GetReportResponse,
    GetStatusRequest, GetStatusResponse, LogStreamResponse, ResetRequest, ResetResponse, StreamRequest,
    StreamingDriverCallRequest, StreamingDriverCallResponse,
};
use serde_json::json;
use std::future::ready;
use std::sync::atomic::Ordering;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::byte_stream::{self, ACCEPT_ENCODING, RESOURCE};
use crate::connection::Peer;
use crate::{Session, to_status};

#[async_trait]
impl ExporterService for Session {
    async fn get_report(&self, _: Request<()>) -> Result<Response<GetReportResponse>, Status> {
        Ok(Response::new(self.report()))
    }

    async fn driver_call(
        &self,
        request: Request<DriverCallRequest>,
    ) -> Result<Response<DriverCallResponse>, Status> {
        let DriverCallRequest { uuid, method, args } = request.into_inner();
        let result = self.call(&uuid, &method, args).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(DriverCallResponse { uuid, result }))
    }

    type StreamingDriverCallStream = BoxStream<'static, Result<StreamingDriverCallResponse, Status>>;

    async fn streaming_driver_call(
        &self,
        request: Request<StreamingDriverCallRequest>,
    ) -> Result<Response<Self::StreamingDriverCallStream>, Status> {
        let StreamingDriverCallRequest { uuid, method, args } = request.into_inner();
        let values = self.stream(&uuid, &method, args).await.map_err(|error| to_status(&error))?;
        let answers = values.map(move |value| {
            let result = value.map_err(|error| to_status(&error))?;
            Ok(StreamingDriverCallResponse { uuid: uuid.clone(), result })
        });
        Ok(Response::new(answers.boxed()))
    }

    type LogStreamStream = BoxStream<'static, Result<LogStreamResponse, Status>>;

    async fn log_stream(&self, _: Request<()>) -> Result<Response<Self::LogStreamStream>, Status> {
        let uuid = self.0.uuid.clone();
        let subscription = self.logs().subscribe();
        let shutdown = self.0.shutdown.clone();
        let records = futures_util::stream::unfold(subscription, |mut subscription| async {
            Some((subscription.next().await, subscription))
        });
        let records = records.map(move |record| Ok(record.to_wire(&uuid)));
        Ok(Response::new(records.take_until(shutdown.cancelled_owned()).boxed()))
    }

    async fn reset(&self, _: Request<ResetRequest>) -> Result<Response<ResetResponse>, Status> {
        Session::reset(self).await.map_err(|error| to_status(&error))?;
        Ok(Response::new(ResetResponse {}))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let state = self.state().get();
        Ok(Response::new(GetStatusResponse {
            status: state.status.into(),
            message: Some(state.message).filter(|text| !text.is_empty()),
            status_version: state.version,
            previous_status: state.previous.map(i32::from),
        }))
    }

    async fn end_session(
        &self,
        _: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionResponse>, Status> {
        let success = self.0.leased.load(Ordering::Relaxed);
        let message = match success {
            true => "Session end triggered, afterLease hook running asynchronously",
            false => "No active lease context",
        };
        self.0.ended.notify_one();
        Ok(Response::new(EndSessionResponse { success, message: Some(message.to_owned()) }))
    }
}

#[async_trait]
impl RouterService for Session {
    type StreamStream = byte_stream::Response;

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let refused = |error: &Error| {
            self.failed("", "stream", error);
            to_status(error)
        };
        let wanted = byte_stream::Request::of(request.metadata()).map_err(|error| refused(&error))?;
        let asks_framing = request.metadata().contains_key(FRAMING);
        let ends_when_sent = request.metadata().contains_key(ENDS_WHEN_SENT);
        let standing = request.extensions().get::<Peer>().cloned().unwrap_or_default().standing;
        let metrics = self.0.metrics.clone();
        let count = move |frame: &Result<StreamRequest, Status>| {
            if let Ok(frame) = frame {
                metrics.received(frame.payload.len());
            }
        };
        let incoming = request.into_inner().inspect(count).boxed();
        match wanted {
            byte_stream::Request::Driver { uuid, method } if asks_framing => {
                let channel = self.connect(&uuid, &method).await.map_err(|error| to_status(&error))?;
                let framing = match channel.framing() {
                    Framing::Bytes => BYTES,
                    Framing::Datagrams => DATAGRAMS,
                };
                let stream = byte_stream::driver(self, ready(Ok(channel)), incoming, ends_when_sent);
                let mut response = Response::new(stream);
                response.metadata_mut().insert(FRAMING, MetadataValue::from_static(framing));
                if ends_when_sent {
                    response.metadata_mut().insert(ENDS_WHEN_SENT, MetadataValue::from_static("1"));
                }
                Ok(response)
            }
            byte_stream::Request::Driver { uuid, method } => {
                let session = self.clone();
                let connecting = async move { session.connect(&uuid, &method).await };
                Ok(Response::new(byte_stream::driver(self, connecting, incoming, false)))
            }
            byte_stream::Request::Resource { uuid, x_jmp_content_encoding: encoding } => {
                let open =
                    || self.0.resources.register(self.node(&uuid)?.id(), encoding, incoming, &standing);
                let (registered, outgoing) = open().map_err(|error| refused(&error))?;
                let resource = json!({
                    "kind": "client_stream",
                    "uuid": registered.id,
                    "x_jmp_content_encoding": encoding,
                });
                let mut response = Response::new(byte_stream::resource(self, registered, outgoing));
                let unsendable = |_| Status::internal("the resource cannot be told");
                response.metadata_mut().insert(RESOURCE, resource.to_string().parse().map_err(unsendable)?);
                if let Some(encoding) = encoding {
                    response
                        .metadata_mut()
                        .insert(ACCEPT_ENCODING, encoding.name().parse().map_err(unsendable)?);
                }
                Ok(response)
            }
        }
    }
}
