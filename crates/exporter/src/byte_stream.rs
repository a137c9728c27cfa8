//! The two kinds of byte stream: to a driver's channel, and of a resource.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Channel, ChannelReader, ChannelWriter, Error, Result, ResultExt};
use jumpstarter_protocol::v1::{FrameType, StreamRequest, StreamResponse};
use serde::Deserialize;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::resource::{Incoming, Outgoing, Registered};
use crate::{Session, from_status, to_status};

/// The metadata key in which a client says what it connects to, and in which a resource is told.
const REQUEST: &str = "request";
pub(crate) const RESOURCE: &str = "resource";
pub(crate) const ACCEPT_ENCODING: &str = "x_jmp_accept_encoding";

/// What a client connects to.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Request {
    Driver {
        uuid: String,
        method: String,
    },
    Resource {
        uuid: String,
        #[serde(default)]
        x_jmp_content_encoding: Option<Encoding>,
    },
}

impl Request {
    pub(crate) fn of(metadata: &MetadataMap) -> Result<Self> {
        let text = metadata.get(REQUEST).ok_or_else(|| {
            Error::invalid_argument(format!("the stream has no metadata `{REQUEST}`"))
                .with_hint(r#"it is JSON such as {"kind": "driver", "uuid": "…", "method": "connect"}"#)
        })?;
        serde_json::from_slice(text.as_bytes()).map_err(|error| {
            Error::invalid_argument(format!("the stream's metadata `{REQUEST}` cannot be read"))
                .with_source(error)
        })
    }
}

/// What goes back to the client.
pub(crate) type Response = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

fn data(payload: Bytes) -> StreamResponse {
    StreamResponse { payload, frame_type: FrameType::Data as i32 }
}

fn goaway() -> StreamResponse {
    StreamResponse { payload: Bytes::new(), frame_type: FrameType::Goaway as i32 }
}

/// The stream of a driver's channel. It connects when it is first polled, after the initial metadata went out.
///
/// With `ends_when_sent` its end says that the driver has taken everything, and an error that it has not.
pub(crate) fn driver(
    session: &Session,
    channel: impl Future<Output = Result<Channel>> + Send + 'static,
    incoming: Incoming,
    ends_when_sent: bool,
) -> Response {
    let connect = async move {
        let (reader, writer) = channel.await?.split();
        Ok((reader, pump(incoming, writer, ends_when_sent).boxed()))
    };
    let state = State::Connecting(connect.boxed());
    let stream = DriverStream { state, sending: None, ends_when_sent };
    until_shutdown(stream, session)
}

/// Counts a stream, and ends it with `Unavailable` on shutdown.
fn until_shutdown(
    stream: impl Stream<Item = Result<StreamResponse, Status>> + Send + 'static,
    session: &Session,
) -> Response {
    let metrics = session.0.metrics.clone();
    let open = metrics.opened();
    let shutdown = session.0.shutdown.clone();
    let mut stream = Box::pin(stream);
    let mut cancelled = Some(Box::pin(shutdown.cancelled_owned()));
    Box::pin(futures_util::stream::poll_fn(move |cx| {
        let Some(wait) = &mut cancelled else { return Poll::Ready(None) };
        if wait.as_mut().poll(cx).is_ready() {
            cancelled = None;
            return Poll::Ready(Some(Err(to_status(&Session::shutting_down()))));
        }
        let _counted = &open;
        let item = stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(frame))) = &item {
            metrics.sent(frame.payload.len());
        }
        item
    }))
}

enum State {
    Connecting(BoxFuture<'static, Result<(ChannelReader, BoxFuture<'static, Result<()>>)>>),
    Receiving(ChannelReader),
    /// The driver has said everything.
    Silent,
    Ended,
}

/// Both directions of a channel, driven by whoever polls for frames.
struct DriverStream {
    /// From the driver to the client.
    state: State,
    /// From the client to the driver, until it ended.
    sending: Option<BoxFuture<'static, Result<()>>>,
    ends_when_sent: bool,
}

impl Stream for DriverStream {
    type Item = Result<StreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let State::Connecting(connect) = &mut this.state {
            match std::task::ready!(connect.as_mut().poll(cx)) {
                Ok((reader, sending)) => {
                    this.state = State::Receiving(reader);
                    this.sending = Some(sending);
                }
                Err(error) => {
                    this.state = State::Ended;
                    return Poll::Ready(Some(Err(to_status(&error))));
                }
            }
        }
        if let Some(sending) = &mut this.sending
            && let Poll::Ready(outcome) = sending.as_mut().poll(cx)
        {
            this.sending = None;
            if let Err(error) = outcome {
                this.state = State::Ended;
                return Poll::Ready(Some(Err(to_status(&error))));
            }
            if this.ends_when_sent && matches!(this.state, State::Receiving(_) | State::Silent) {
                this.state = State::Ended;
                return Poll::Ready(Some(Ok(goaway())));
            }
        }
        if let State::Receiving(reader) = &mut this.state
            && let Poll::Ready(frame) = reader.poll_next_unpin(cx)
        {
            return Poll::Ready(Some(match frame {
                Some(Ok(payload)) => Ok(data(payload)),
                Some(Err(error)) => {
                    this.state = State::Ended;
                    this.sending = None;
                    Err(to_status(&Error::from(error).context("receiving from the driver's connection")))
                }
                // The end is still to come: that of sending.
                None if this.ends_when_sent && this.sending.is_some() => {
                    this.state = State::Silent;
                    return Poll::Pending;
                }
                None => {
                    this.state = State::Ended;
                    Ok(goaway())
                }
            }));
        }
        match (&this.state, &this.sending) {
            (State::Ended, None) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

/// Passes the client's frames on until its direction ends. That the driver stopped reading ends this direction only,
/// unless `all` of it must arrive.
async fn pump(mut incoming: Incoming, mut writer: ChannelWriter, all: bool) -> Result<()> {
    while let Some(frame) = incoming.next().await {
        let frame: StreamRequest =
            frame.map_err(|status| from_status(&status)).context("receiving from the client")?;
        match frame.frame_type() {
            FrameType::Data => {
                if let Err(error) = writer.send(frame.payload).await {
                    if all {
                        return Err(error.context("passing on what was sent"));
                    }
                    tracing::debug!(error = %error.report(), "the driver's connection takes nothing more");
                    return Ok(());
                }
            }
            FrameType::Goaway => break,
            FrameType::RstStream => {
                return Err(Error::new(
                    jumpstarter_driver_core::ErrorKind::Aborted,
                    "the client reset the stream",
                ));
            }
            FrameType::Ping => {}
        }
    }
    if let Err(error) = writer.finish().await {
        if all {
            return Err(error);
        }
        tracing::debug!(error = %error.report(), "the driver's connection broke before its end");
    }
    Ok(())
}

/// How far a resource's stream is.
enum Resource {
    Open(mpsc::Receiver<Outgoing>, Registered),
    /// Everything was sent: the client ends its direction, too.
    Ending(Incoming),
    Ended,
}

/// How long a client may take to end its direction of a resource.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The stream of a resource: what the driver writes, until it is done.
pub(crate) fn resource(
    session: &Session,
    registered: Registered,
    outgoing: mpsc::Receiver<Outgoing>,
) -> Response {
    let frames = futures_util::stream::unfold(Resource::Open(outgoing, registered), |state| async move {
        match state {
            Resource::Open(mut outgoing, registered) => match outgoing.recv().await {
                Some(Outgoing::Data(payload)) => {
                    Some((Ok(data(payload)), Resource::Open(outgoing, registered)))
                }
                Some(Outgoing::End(incoming)) => Some((Ok(goaway()), Resource::Ending(incoming))),
                None if registered.dumping.load(Ordering::Relaxed) => {
                    let status = Status::aborted("the image was not dumped to its end");
                    Some((Err(status), Resource::Ended))
                }
                None => None,
            },
            Resource::Ending(mut incoming) => {
                // A Python client whose end mark meets a finished call forgets what it received last.
                let end = async {
                    while let Some(Ok(frame)) = incoming.next().await {
                        if frame.frame_type() == FrameType::Goaway {
                            break;
                        }
                    }
                };
                // A client that never ends its direction waits for nothing more either.
                drop(tokio::time::timeout(END_LIMIT, end).await);
                None
            }
            Resource::Ended => None,
        }
    });
    until_shutdown(frames, session)
}
