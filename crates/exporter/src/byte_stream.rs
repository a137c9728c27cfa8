//! The two kinds of byte stream: to a driver's channel, and of a resource.

use std::future::ready;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt;
use jumpstarter_driver_core::{Channel, Error, Result, deadline_after};
use jumpstarter_protocol::Encoded;
use jumpstarter_protocol::v1::FrameType;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::Session;
use crate::answer::Messages;
use crate::driver_stream::{self, Content, Frame};
use crate::layers::{Guarded, Layer};
use crate::resource::{Incoming, Outgoing, Registered};

/// The stream of a driver's channel. It connects when it is first polled, after the initial
/// metadata was sent.
///
/// With `ends_when_sent` its end means that the driver has accepted everything, and an error that
/// it has not.
pub(crate) fn driver(
    session: &Session,
    channel: impl Future<Output = Result<Channel>> + Send + 'static,
    incoming: Incoming,
    ends_when_sent: bool,
) -> Messages {
    let content = if ends_when_sent { Content::All } else { Content::Talk };
    messages(session, driver_stream::frames(session, channel, incoming, content))
}

/// The stream of an image that another exporter takes or gives.
pub(crate) fn passed_on(session: &Session, image: Channel, incoming: Incoming) -> Messages {
    messages(session, driver_stream::frames(session, ready(Ok(image)), incoming, Content::Image))
}

/// The frames as messages: counted, and guarded like every call.
fn messages(
    session: &Session,
    frames: impl Stream<Item = Result<Frame>> + Send + Unpin + 'static,
) -> Messages {
    let counters = session.0.counters.clone();
    let open = counters.opened();
    let guarded = Guarded::new(session).along(frames);
    let messages = guarded.map(move |frame| {
        let _counted = &open;
        Ok(match frame? {
            Frame::Data(payload) => {
                counters.sent(payload.len());
                Encoded::frame(FrameType::Data, payload)
            }
            Frame::End => Encoded::frame(FrameType::Goaway, Bytes::new()),
        })
    });
    messages.boxed()
}

/// The phase of a resource's stream.
enum Resource {
    /// Nothing was sent yet; until that instant a call may take the resource over.
    Waiting(mpsc::Receiver<Outgoing>, Registered, Instant),
    Open(mpsc::Receiver<Outgoing>, Registered),
    /// Everything was sent: the client ends its direction, too.
    Ending(Incoming),
    Ended,
}

/// How long a client may take to end its direction of a resource.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The stream of a resource: the driver's bytes, until it is done.
pub(crate) fn resource(
    session: &Session,
    registered: Registered,
    outgoing: mpsc::Receiver<Outgoing>,
) -> Messages {
    let limit = session.0.options.stall_limit;
    let waiting = Resource::Waiting(outgoing, registered, deadline_after(limit));
    let frames = futures_util::stream::unfold(waiting, move |state| async move {
        let (mut outgoing, registered) = match state {
            Resource::Open(outgoing, registered) => (outgoing, registered),
            Resource::Waiting(mut outgoing, registered, until) => {
                tokio::select! {
                    first = outgoing.recv() => return after(first, outgoing, registered),
                    () = tokio::time::sleep_until(until) => {}
                }
                if registered.give_up() {
                    let message =
                        format!("no call named the resource within {} s", limit.as_secs());
                    let error = Error::deadline_exceeded(message);
                    return Some((Err(error), Resource::Ended));
                }
                (outgoing, registered)
            }
            Resource::Ending(mut incoming) => {
                // A Python client whose end mark meets a finished call loses the last data that it
                // received.
                let end = async {
                    while let Some(Ok(frame)) = incoming.next().await {
                        if frame.frame_type() == FrameType::Goaway {
                            break;
                        }
                    }
                };
                // A client that never ends its direction needs nothing more.
                drop(tokio::time::timeout(END_LIMIT, end).await);
                return None;
            }
            Resource::Ended => return None,
        };
        after(outgoing.recv().await, outgoing, registered)
    });
    messages(session, Box::pin(frames))
}

/// The next message for the client after the driver has written or ended, and the next phase.
fn after(
    written: Option<Outgoing>,
    outgoing: mpsc::Receiver<Outgoing>,
    registered: Registered,
) -> Option<(Result<Frame>, Resource)> {
    match written {
        Some(Outgoing::Data(payload)) => {
            Some((Ok(Frame::Data(payload)), Resource::Open(outgoing, registered)))
        }
        Some(Outgoing::End(incoming)) => Some((Ok(Frame::End), Resource::Ending(incoming))),
        None if registered.dumping.load(Ordering::Relaxed) => {
            let message = "the image was not dumped to its end";
            Some((Err(Error::aborted(message)), Resource::Ended))
        }
        None => None,
    }
}
