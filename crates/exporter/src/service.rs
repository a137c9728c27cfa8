//! The methods of a session, by their paths.

use std::future::ready;
use std::sync::atomic::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use h2::RecvStream;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jumpstarter_driver_core::{Error, Framing};
use jumpstarter_protocol::metadata::{BYTES, DATAGRAMS, ENDS_WHEN_SENT, FRAMING};
use jumpstarter_protocol::to_status;
use jumpstarter_protocol::v1::{
    DriverCallRequest, DriverCallResponse, EndSessionRequest, EndSessionResponse, GetStatusRequest,
    GetStatusResponse, ResetRequest, ResetResponse, StreamRequest, StreamingDriverCallRequest,
    StreamingDriverCallResponse,
};
use jumpstarter_protocol::wire::{Encoded, Incoming, MessageEncoding};
use serde_json::json;
use tonic::Status;

use crate::byte_stream::{self, ACCEPT_ENCODING, RESOURCE};
use crate::connection::{Peer, STREAM};
use crate::grpc::{Answer, message};
use crate::{Session, gate};

/// Frames of byte streams may be so large.
const MAX_FRAME: usize = 16 << 20;

impl Session {
    /// Calls the method with that path.
    pub(crate) async fn dispatch(
        &self,
        head: &Parts,
        body: RecvStream,
        peer: &Peer,
    ) -> Result<Answer, Status> {
        let method = head.uri.path();
        gate::pass(method, peer, &self.state().get()).inspect_err(|status| {
            tracing::debug!(method, error = status.message(), "a call was refused")
        })?;
        match head.uri.path() {
            "/jumpstarter.v1.ExporterService/GetReport" => {
                let () = message(head, body, peer).await?;
                Answer::one(&self.report())
            }
            "/jumpstarter.v1.ExporterService/DriverCall" => {
                self.driver_call(message(head, body, peer).await?).await
            }
            "/jumpstarter.v1.ExporterService/StreamingDriverCall" => {
                self.streaming_driver_call(message(head, body, peer).await?).await
            }
            "/jumpstarter.v1.ExporterService/LogStream" => {
                let () = message(head, body, peer).await?;
                Ok(self.log_stream())
            }
            "/jumpstarter.v1.ExporterService/Reset" => {
                let ResetRequest {} = message(head, body, peer).await?;
                self.reset_called().await.map_err(|error| to_status(&error))?;
                Answer::one(&ResetResponse {})
            }
            "/jumpstarter.v1.ExporterService/GetStatus" => {
                let GetStatusRequest {} = message(head, body, peer).await?;
                Answer::one(&self.status())
            }
            "/jumpstarter.v1.ExporterService/EndSession" => {
                let EndSessionRequest {} = message(head, body, peer).await?;
                Answer::one(&self.end_session(peer).await)
            }
            STREAM => self.byte_stream(&head.headers, body, peer).await,
            path => Err(Status::unimplemented(format!("this exporter has no method {path}"))),
        }
    }

    async fn driver_call(&self, request: DriverCallRequest) -> Result<Answer, Status> {
        let DriverCallRequest { uuid, method, args } = request;
        let result = self.call(&uuid, &method, args).await.map_err(|error| to_status(&error))?;
        Answer::one(&DriverCallResponse { uuid, result })
    }

    async fn streaming_driver_call(
        &self,
        request: StreamingDriverCallRequest,
    ) -> Result<Answer, Status> {
        let StreamingDriverCallRequest { uuid, method, args } = request;
        let values = self.stream(&uuid, &method, args).await.map_err(|error| to_status(&error))?;
        let answers = values.map(move |value| {
            let result = value.map_err(|error| to_status(&error))?;
            Encoded::message(&StreamingDriverCallResponse { uuid: uuid.clone(), result })
        });
        Ok(Answer::Many(HeaderMap::new(), answers.boxed()))
    }

    fn log_stream(&self) -> Answer {
        let uuid = self.0.uuid.clone();
        let subscription = self.logs().subscribe();
        let shutdown = self.0.shutdown.clone();
        let records =
            stream::unfold((subscription, shutdown), |(mut subscription, shutdown)| async {
                tokio::select! {
                    biased;
                    // What was logged before the end is sent: the last lines of a hook too.
                    record = subscription.next() => Some((record, (subscription, shutdown))),
                    () = shutdown.cancelled() => None,
                }
            });
        let records = records.map(move |record| Encoded::message(&record.to_wire(&uuid)));
        Answer::Many(HeaderMap::new(), records.boxed())
    }

    fn status(&self) -> GetStatusResponse {
        let state = self.state().get();
        GetStatusResponse {
            status: state.status.into(),
            message: Some(state.message).filter(|text| !text.is_empty()),
            status_version: state.version,
            previous_status: state.previous.map(i32::from),
        }
    }

    async fn end_session(&self, peer: &Peer) -> EndSessionResponse {
        let answer =
            |success, message: String| EndSessionResponse { success, message: Some(message) };
        let refused = |hook| {
            answer(false, format!("the {hook} hook is running: end the session when it has ended"))
        };
        if !self.0.leased.load(Ordering::Relaxed) {
            return answer(false, "No active lease context".to_owned());
        }
        if let Some(hook) = self.state().get().hook() {
            return refused(hook);
        }
        let others = self.0.clients.others(usize::from(!peer.is_hook)).await;
        if others > 0 {
            let clients = if others == 1 { "another client is" } else { "other clients are" };
            return answer(false, format!("{clients} connected ({others}): the session goes on"));
        }
        // A hook may have begun meanwhile.
        if let Err(hook) = self.state().end_session() {
            return refused(hook);
        }
        // What was logged for one session is not shown to the next.
        self.logs().begin_lease();
        self.0.ended.notify_one();
        answer(true, "The session has ended".to_owned())
    }

    async fn byte_stream(
        &self,
        headers: &HeaderMap,
        body: RecvStream,
        peer: &Peer,
    ) -> Result<Answer, Status> {
        let refused = |error: &Error| {
            self.refused("stream", error);
            to_status(error)
        };
        let wanted = byte_stream::Request::of(headers).map_err(|error| refused(&error))?;
        let asks_framing = headers.contains_key(FRAMING);
        let ends_when_sent = headers.contains_key(ENDS_WHEN_SENT);
        let mut incoming =
            Incoming::<StreamRequest>::new(body, MessageEncoding::of(headers)?, MAX_FRAME)
                .within(peer.standing.budget.clone());
        let counters = self.0.counters.clone();
        let incoming = stream::poll_fn(move |cx| incoming.poll_message(cx))
            .inspect_ok(move |frame| counters.received(frame.payload.len()))
            .boxed();
        let mut metadata = HeaderMap::new();
        let frames = match wanted {
            byte_stream::Request::Driver { uuid, method } if asks_framing => {
                let channel =
                    self.connect(&uuid, &method).await.map_err(|error| to_status(&error))?;
                let framing = match channel.framing() {
                    Framing::Bytes => BYTES,
                    Framing::Datagrams => DATAGRAMS,
                };
                metadata.insert(FRAMING, HeaderValue::from_static(framing));
                if ends_when_sent {
                    metadata.insert(ENDS_WHEN_SENT, HeaderValue::from_static("1"));
                }
                byte_stream::driver(self, ready(Ok(channel)), incoming, ends_when_sent)
            }
            byte_stream::Request::Driver { uuid, method } => {
                let session = self.clone();
                let connecting = async move { session.connect(&uuid, &method).await };
                byte_stream::driver(self, connecting, incoming, false)
            }
            byte_stream::Request::Resource { uuid, x_jmp_content_encoding: encoding } => {
                let open = || {
                    self.0.resources.register(
                        self.node(&uuid)?.id(),
                        encoding,
                        incoming,
                        &peer.standing,
                    )
                };
                let (registered, outgoing) = open().map_err(|error| refused(&error))?;
                let resource = json!({
                    "kind": "client_stream",
                    "uuid": registered.id,
                    "x_jmp_content_encoding": encoding,
                });
                let resource = HeaderValue::from_str(&resource.to_string());
                let resource =
                    resource.map_err(|_| Status::internal("the resource cannot be told"))?;
                metadata.insert(RESOURCE, resource);
                if let Some(encoding) = encoding {
                    metadata.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding.name()));
                }
                byte_stream::resource(self, registered, outgoing)
            }
        };
        Ok(Answer::Many(metadata, frames))
    }
}
