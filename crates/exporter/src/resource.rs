//! Resources: images in transit between a client's stream and a driver's call.
//!
//! The client opens a stream and receives the id of the resource; the call that follows names that
//! id and takes the stream over. A resource is used once. It ends with the client's stream, and the
//! stream ends when the driver is done.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Error, ImageSink, ImageSource, Result};
use jumpstarter_protocol::v1::{FrameType, StreamRequest};
use jumpstarter_transfer::Pace;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::id;
use crate::peer::Standing;

/// The most unused streams of one connection, which needs one or two at a time, and of all.
const MAX_WAITING_OF_ONE: usize = 32;
const MAX_WAITING: usize = 4096;
/// The largest frame that is sent: well below the limit of clients.
const MAX_FRAME: usize = 256 * 1024;

/// Messages for the client on a resource's stream.
pub(crate) enum Outgoing {
    Data(Bytes),
    /// Everything was sent; with the other direction, whose end is then awaited.
    End(Incoming),
}

/// The frames of a client.
pub(crate) type Incoming = BoxStream<'static, Result<StreamRequest>>;

/// A client's stream that waits for its call.
pub(crate) struct Waiting {
    driver: usize,
    encoding: Option<Encoding>,
    incoming: Incoming,
    outgoing: mpsc::Sender<Outgoing>,
    dumping: Arc<AtomicBool>,
    _counted: Counted,
}

/// The streams that wait for their calls, by id.
#[derive(Default)]
pub(crate) struct Resources {
    waiting: Mutex<HashMap<String, Waiting>>,
}

impl std::fmt::Debug for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resources({} waiting)", self.lock().len())
    }
}

/// Forgets the resource when its stream ends.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) id: String,
    /// Whether a driver writes to it: it is then complete only with an end mark.
    pub(crate) dumping: Arc<AtomicBool>,
    resources: Arc<Resources>,
}

impl Registered {
    /// Forgets the resource, if it still waits for its call.
    pub(crate) fn give_up(&self) -> bool {
        self.resources.lock().remove(&self.id).is_some()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Counts a waiting resource for its connection.
struct Counted(Arc<Standing>);

impl Counted {
    fn of(standing: &Arc<Standing>) -> Result<Self> {
        let count = standing.waiting_resources.fetch_add(1, Ordering::Relaxed);
        let counted = Self(standing.clone());
        if count >= MAX_WAITING_OF_ONE {
            return Err(too_many(MAX_WAITING_OF_ONE, "of this connection"));
        }
        Ok(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.waiting_resources.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_many(count: usize, whose: &str) -> Error {
    Error::resource_exhausted(format!("{count} resources {whose} wait for their calls already"))
        .with_hint("end the streams whose resources are not used")
}

impl Resources {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a client's stream for the call that will name it, to the driver with that number.
    pub(crate) fn register(
        self: &Arc<Self>,
        driver: usize,
        encoding: Option<Encoding>,
        incoming: Incoming,
        standing: &Arc<Standing>,
    ) -> Result<(Registered, mpsc::Receiver<Outgoing>)> {
        let counted = Counted::of(standing)?;
        let (outgoing, receiver) = mpsc::channel(4);
        let id = id::random()?;
        let dumping = Arc::new(AtomicBool::new(false));
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            return Err(too_many(MAX_WAITING, "of all clients"));
        }
        let kept = Waiting {
            driver,
            encoding,
            incoming,
            outgoing,
            dumping: dumping.clone(),
            _counted: counted,
        };
        waiting.insert(id.clone(), kept);
        drop(waiting);
        Ok((Registered { id, dumping, resources: self.clone() }, receiver))
    }

    /// Takes a stream over, once.
    pub(crate) fn take(&self, id: &str, driver: usize) -> Result<Waiting> {
        let mut waiting = self.lock();
        match waiting.get(id) {
            None => Err(Error::not_found(format!("there is no resource `{id}`")).with_hint(
                "a resource is used once, and only while the stream that made it is open",
            )),
            Some(found) if found.driver != driver => Err(Error::invalid_argument(format!(
                "the resource `{id}` was opened for another driver"
            ))),
            Some(_) => waiting
                .remove(id)
                .ok_or_else(|| Error::internal("a resource vanished while its table was locked")),
        }
    }
}

impl Waiting {
    /// The client's data, decoded. The client's stream ends when the source is dropped.
    pub(crate) fn into_source(self, stall_limit: Duration) -> ImageSource {
        let frames = incoming_bytes(self.incoming, stall_limit);
        // Held while the driver reads: dropping it signals the client that the driver is done.
        let outgoing = self.outgoing;
        let decoded = match self.encoding {
            None => frames,
            Some(encoding) => jumpstarter_transfer::decode(encoding, frames),
        };
        let held = decoded.map(move |item| {
            let _still_reading = &outgoing;
            item
        });
        ImageSource::stream(held, None).with_name("the client's image")
    }

    /// The client's stream as a destination, encoded as it asked.
    pub(crate) fn into_sink(self) -> ImageSink {
        self.dumping.store(true, Ordering::Relaxed);
        let writer =
            FrameWriter { sender: PollSender::new(self.outgoing), incoming: Some(self.incoming) };
        match self.encoding {
            None => ImageSink::writer(writer),
            Some(encoding) => {
                ImageSink::writer(jumpstarter_transfer::encode(encoding, Box::pin(writer)))
            }
        }
    }
}

/// The payloads until the client's end mark. A stream that ends without one is an error; a stalled
/// one is given up.
fn incoming_bytes(
    incoming: Incoming,
    stall_limit: Duration,
) -> BoxStream<'static, io::Result<Bytes>> {
    stream::unfold(Some((incoming, Pace::new(stall_limit))), move |state| async move {
        let (mut incoming, mut pace) = state?;
        loop {
            let began = Instant::now();
            let failure = match tokio::time::timeout(stall_limit, incoming.next()).await {
                Ok(Some(Ok(frame))) => match frame.frame_type() {
                    FrameType::Data | FrameType::Ping => {
                        match pace.add(frame.payload.len(), began.elapsed()) {
                            Ok(())
                                if frame.payload.is_empty()
                                    || frame.frame_type() == FrameType::Ping =>
                            {
                                continue;
                            }
                            Ok(()) => return Some((Ok(frame.payload), Some((incoming, pace)))),
                            Err(error) => error.context("receiving the client's image"),
                        }
                    }
                    FrameType::Goaway => return None,
                    FrameType::RstStream => {
                        Error::data_loss("the client gave up sending its image")
                    }
                },
                Ok(Some(Err(error))) => {
                    Error::data_loss("the client went away while it sent its image")
                        .with_source(error)
                }
                Ok(None) => {
                    Error::data_loss("the client's stream ended before the end of its image")
                }
                Err(_) => {
                    let seconds = stall_limit.as_secs();
                    Error::deadline_exceeded(format!(
                        "the client sent nothing of its image for {seconds} s"
                    ))
                }
            };
            return Some((Err(failure.into()), None));
        }
    })
    .boxed()
}

/// Writes frames to the client.
struct FrameWriter {
    sender: PollSender<Outgoing>,
    /// The other direction, until everything was sent.
    incoming: Option<Incoming>,
}

impl FrameWriter {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.poll_reserve(cx).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    Error::unavailable("the client went away while it received the image").into()
}

impl AsyncWrite for FrameWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = data.len().min(MAX_FRAME);
        ready!(self.poll_room(cx))?;
        let frame = Outgoing::Data(Bytes::copy_from_slice(&data[..length]));
        self.sender.send_item(frame).map_err(|_| gone())?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.incoming.is_some() {
            ready!(self.poll_room(cx))?;
            if let Some(incoming) = self.incoming.take() {
                self.sender.send_item(Outgoing::End(incoming)).map_err(|_| gone())?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
