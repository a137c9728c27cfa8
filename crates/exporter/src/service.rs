//! The methods of a session, by their paths.

use std::future::ready;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jumpstarter_driver_core::{Error, Framing, Result};
use jumpstarter_protocol::http2::Body;
use jumpstarter_protocol::metadata::{
    ACCEPT_ENCODING, BYTES, DATAGRAMS, ENDS_WHEN_SENT, FRAMING, HOOKS, RECORDS, RESOURCE,
};
use jumpstarter_protocol::v1::{
    DriverCallRequest, DriverCallResponse, EndSessionRequest, EndSessionResponse, GetStatusRequest,
    GetStatusResponse, ResetRequest, ResetResponse, StreamRequest, StreamingDriverCallRequest,
    StreamingDriverCallResponse,
};
use jumpstarter_protocol::{Encoded, ImageReference, Method, StreamTarget, image_handle};

use crate::Session;
use crate::answer::{Answer, message};
use crate::byte_stream;
use crate::layers::budgeted;
use crate::logs::LogSelection;
use crate::peer::Peer;

/// The largest frame of a byte stream.
const MAX_FRAME: usize = 16 << 20;

impl Session {
    /// Calls the method with that path.
    pub(crate) async fn dispatch(&self, head: &Parts, body: Body, peer: &Peer) -> Result<Answer> {
        let path = head.uri.path();
        let method = Method::from_path(path);
        match method {
            Some(Method::GetReport) => {
                let () = message(head, body, peer).await?;
                Answer::one(&self.report())
            }
            Some(Method::DriverCall) => self.driver_call(message(head, body, peer).await?).await,
            Some(Method::StreamingDriverCall) => {
                self.streaming_driver_call(message(head, body, peer).await?).await
            }
            Some(Method::LogStream) => {
                let () = message(head, body, peer).await?;
                let is_of_hooks = head.headers.get(RECORDS).is_some_and(|wanted| wanted == HOOKS);
                Ok(self.log_stream(if is_of_hooks {
                    LogSelection::Hooks
                } else {
                    LogSelection::All
                }))
            }
            Some(Method::Reset) => {
                let ResetRequest {} = message(head, body, peer).await?;
                self.reset_called().await?;
                Answer::one(&ResetResponse {})
            }
            Some(Method::GetStatus) => {
                let GetStatusRequest {} = message(head, body, peer).await?;
                Answer::one(&self.status())
            }
            Some(Method::EndSession) => {
                let EndSessionRequest {} = message(head, body, peer).await?;
                Answer::one(&self.end_session(peer).await)
            }
            Some(Method::Stream) => self.byte_stream(&head.headers, body, peer).await,
            _ => Err(Error::unimplemented(format!("this exporter has no method {path}"))),
        }
    }

    async fn driver_call(&self, request: DriverCallRequest) -> Result<Answer> {
        let DriverCallRequest { uuid, method, args } = request;
        let result = self.call(&uuid, &method, args).await?;
        Answer::one(&DriverCallResponse { uuid, result })
    }

    async fn streaming_driver_call(&self, request: StreamingDriverCallRequest) -> Result<Answer> {
        let StreamingDriverCallRequest { uuid, method, args } = request;
        let values = self.stream(&uuid, &method, args).await?;
        let answers = values.map(move |value| {
            Encoded::message(&StreamingDriverCallResponse { uuid: uuid.clone(), result: value? })
        });
        Ok(Answer::Many(HeaderMap::new(), answers.boxed()))
    }

    fn log_stream(&self, selection: LogSelection) -> Answer {
        let uuid = self.0.uuid.clone();
        let subscription = self.logs().subscribe_to(selection);
        let shutdown = self.0.shutdown.clone();
        let records =
            stream::unfold((subscription, shutdown), |(mut subscription, shutdown)| async {
                tokio::select! {
                    biased;
                    // Records that were logged before the end are sent, too: the last lines of a
                    // hook.
                    record = subscription.next() => Some((record, (subscription, shutdown))),
                    () = shutdown.cancelled() => None,
                }
            });
        let records = records.map(move |record| Encoded::message(&record.to_wire(&uuid)));
        Answer::ToTheLast(records.boxed())
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
        if self.0.options.is_leased {
            // The lease's owner ends it; the afterLease hook may run for long.
            self.0.lease.ended.notify_one();
            return answer(true, "The session ends".to_owned());
        }
        if !self.0.lease.can_end() {
            return answer(false, "No active lease context".to_owned());
        }
        if let Some(hook) = self.state().get().hook() {
            return refused(hook);
        }
        let others = self.0.connections.clients.others(usize::from(!peer.is_hook)).await;
        if others > 0 {
            let clients = if others == 1 { "another client is" } else { "other clients are" };
            return answer(false, format!("{clients} connected ({others}): the session goes on"));
        }
        // A hook may have begun meanwhile.
        if let Err(hook) = self.state().end_session() {
            return refused(hook);
        }
        // The records of one session are not shown to the next.
        self.logs().begin_lease();
        self.0.lease.ended.notify_one();
        answer(true, "The session has ended".to_owned())
    }

    async fn byte_stream(&self, headers: &HeaderMap, body: Body, peer: &Peer) -> Result<Answer> {
        let target = match StreamTarget::from_headers(headers) {
            Ok(target) => target,
            Err(error) => return Err(self.refused("stream", error).await),
        };
        let asks_framing = headers.contains_key(FRAMING);
        let ends_when_sent = headers.contains_key(ENDS_WHEN_SENT);
        let mut incoming = budgeted::incoming::<StreamRequest>(headers, body, peer, MAX_FRAME)?;
        let counters = self.0.counters.clone();
        let incoming = stream::poll_fn(move |cx| incoming.poll_message(cx))
            .map_err(Error::from)
            .inspect_ok(move |frame| counters.received(frame.payload.len()))
            .boxed();
        let mut metadata = HeaderMap::new();
        let frames = match target {
            StreamTarget::Driver { uuid, method } if asks_framing => {
                let channel = self.connect(&uuid, &method).await?;
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
            StreamTarget::Driver { uuid, method } => {
                let session = self.clone();
                let connecting = async move { session.connect(&uuid, &method).await };
                byte_stream::driver(self, connecting, incoming, false)
            }
            StreamTarget::Resource { uuid, x_jmp_content_encoding: encoding }
                if self.is_elsewhere(&uuid) =>
            {
                let resource = self.open_resource(&uuid, encoding).await?;
                metadata.insert(RESOURCE, image_handle(&resource.handle)?);
                if let Some(encoding) = encoding.filter(|_| resource.is_encoded) {
                    metadata.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding.name()));
                }
                byte_stream::passed_on(self, resource.channel, incoming)
            }
            StreamTarget::Resource { uuid, x_jmp_content_encoding: encoding } => {
                let open = || {
                    self.0.resources.register(
                        self.node(&uuid)?.id(),
                        encoding,
                        incoming,
                        &peer.standing,
                    )
                };
                let (registered, outgoing) = match open() {
                    Ok(opened) => opened,
                    Err(error) => return Err(self.refused("stream", error).await),
                };
                let resource = ImageReference::ClientStream {
                    uuid: registered.id.clone(),
                    x_jmp_content_encoding: encoding,
                };
                metadata.insert(RESOURCE, resource.to_header()?);
                if let Some(encoding) = encoding {
                    metadata.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding.name()));
                }
                byte_stream::resource(self, registered, outgoing)
            }
            _ => return Err(Error::unimplemented("this exporter has no such stream")),
        };
        Ok(Answer::Many(metadata, frames))
    }
}
