//! Readers and writers of a shared console.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{Sink, Stream, stream};
use jumpstarter_driver_core::{Error, Result};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::log::{Write, mark};
use crate::replay::Replay;
use crate::state::{End, Shared, not_writable};

/// The most bytes of one [`ConsoleChunk`].
const CHUNK: usize = 64 * 1024;

/// Where a reader of a [`ConsoleLog`](crate::ConsoleLog) begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadFrom {
    /// With the oldest byte that is kept.
    Start,
    /// With the next byte that the device says.
    Now,
    /// With the byte of this offset since the device's first; one that is no longer kept counts as
    /// skipped, one in the future is `Now`.
    Offset(u64),
    /// With the last so many bytes that are kept.
    Last(u64),
}

/// What a reader got.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsoleChunk {
    /// The offset of its first byte since the device's first.
    pub offset: u64,
    /// The bytes; never none.
    pub bytes: Bytes,
    /// How many bytes before these the reader was too slow for: they are lost to it.
    pub skipped: u64,
}

/// Reads a shared console at its own pace. Does not keep the log alive.
pub struct ConsoleReader {
    shared: Arc<Shared>,
    changed: watch::Receiver<u64>,
    offset: u64,
}

impl ConsoleReader {
    pub(crate) fn new(shared: Arc<Shared>, from: ReadFrom) -> Self {
        let changed = shared.changed.subscribe();
        let (start, end) = {
            let state = shared.lock();
            (state.scrollback.start(), state.scrollback.end())
        };
        let offset = match from {
            ReadFrom::Start => start,
            ReadFrom::Now => end,
            ReadFrom::Offset(offset) => offset.min(end),
            ReadFrom::Last(count) => end.saturating_sub(count).max(start),
        };
        Self { shared, changed, offset }
    }

    /// The offset of the next byte that it will read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the next bytes, waiting for some; `None` after the last when the source has ended.
    /// Cancelling loses nothing.
    ///
    /// # Errors
    /// `Unavailable`, after the last bytes, if the source broke.
    pub async fn next(&mut self) -> Result<Option<ConsoleChunk>> {
        loop {
            self.changed.mark_unchanged();
            {
                let state = self.shared.lock();
                let skipped = state.scrollback.start().saturating_sub(self.offset);
                let bytes = state.scrollback.read(self.offset, CHUNK);
                if !bytes.is_empty() {
                    let offset = self.offset + skipped;
                    self.offset = offset + bytes.len() as u64;
                    return Ok(Some(ConsoleChunk { offset, bytes: bytes.into(), skipped }));
                }
                match &state.end {
                    None => {}
                    Some(End::Closed) => return Ok(None),
                    Some(End::Broken(why)) => {
                        return Err(Error::unavailable(format!("the console broke: {why}")));
                    }
                }
            }
            // The sender lives in `shared`, so this does not fail.
            if self.changed.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// What it reads, as a terminal may be shown it: questions that the device asked of its
    /// terminal before now are left out, since the answers would come too late.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let replay = Replay::before(self.shared.lock().scrollback.end());
        stream::unfold(Some((self, replay)), async |reading| {
            let (mut reader, mut replay) = reading?;
            loop {
                match reader.next().await {
                    Ok(Some(chunk)) => {
                        if chunk.skipped > 0 {
                            tracing::warn!(
                                skipped_bytes = chunk.skipped,
                                "a client of the console is too slow"
                            );
                        }
                        let mut bytes = replay.pass(chunk.offset, &chunk.bytes);
                        if chunk.skipped > 0 {
                            let lost = format!(
                                "{} bytes are lost: this client reads too slowly",
                                chunk.skipped
                            );
                            bytes = [mark(&lost).as_bytes(), &bytes].concat().into();
                        }
                        if !bytes.is_empty() {
                            return Some((Ok(bytes), Some((reader, replay))));
                        }
                    }
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error.into()), None)),
                }
            }
        })
    }
}

impl fmt::Debug for ConsoleReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleReader").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Writes to a shared console. Does not keep the log alive.
#[derive(Clone)]
pub struct ConsoleWriter {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Write>,
}

impl ConsoleWriter {
    pub(crate) fn new(shared: Arc<Shared>, queue: mpsc::Sender<Write>) -> Self {
        Self { shared, queue }
    }

    /// Sends `bytes`, unbroken, behind other writes, and returns when the device has taken them.
    /// Between two sources it returns when they are queued for the next one, and waits while the
    /// queue is full. A cancelled call sends everything or nothing.
    ///
    /// # Errors
    /// `Unavailable` if the console has ended, or the device stopped accepting input.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<()> {
        let mut changed = self.shared.changed.subscribe();
        let place = loop {
            self.writable(&mut changed)?;
            tokio::select! {
                biased;
                place = self.queue.reserve() => {
                    break place.map_err(|_| not_writable("it has ended"))?;
                }
                // A queue that nobody empties any more is noticed here.
                _ = changed.changed() => {}
            }
        };
        let (taken, mut taking) = oneshot::channel();
        place.send((bytes.into(), taken));
        loop {
            let connected = self.writable(&mut changed);
            match taking.try_recv() {
                Ok(()) => return Ok(()),
                Err(TryRecvError::Closed) => {
                    connected?;
                    return Err(not_writable("the device went away"));
                }
                Err(TryRecvError::Empty) if !connected? => return Ok(()),
                Err(TryRecvError::Empty) => {}
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                taken = &mut taking => {
                    return taken.map_err(|_| not_writable("the device went away"));
                }
            }
        }
    }

    /// Whether there is a source now. Later changes wake `changed`.
    fn writable(&self, changed: &mut watch::Receiver<u64>) -> Result<bool> {
        changed.mark_unchanged();
        let state = self.shared.lock();
        if let Some(why) = &state.write_failure {
            return Err(not_writable(why));
        }
        match state.end {
            Some(_) => Err(not_writable("it has ended")),
            None => Ok(state.connected),
        }
    }

    /// A sink that fails once `open` is cancelled.
    pub(crate) fn into_sink(self, open: CancellationToken) -> ConsoleSink {
        ConsoleSink { writer: self, open, sending: None }
    }
}

/// The writing half of an attached client. A failed send leaves it usable: the source may come
/// back.
pub(crate) struct ConsoleSink {
    writer: ConsoleWriter,
    open: CancellationToken,
    sending: Option<BoxFuture<'static, io::Result<()>>>,
}

impl Sink<Bytes> for ConsoleSink {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> io::Result<()> {
        let (writer, open) = (self.writer.clone(), self.open.clone());
        self.sending = Some(Box::pin(async move {
            tokio::select! {
                biased;
                () = open.cancelled() => {
                    Err(io::Error::new(io::ErrorKind::BrokenPipe, "the console was closed"))
                }
                sent = writer.send(bytes) => Ok(sent?),
            }
        }));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(Ok(())) };
        let sent = ready!(sending.as_mut().poll(cx));
        self.sending = None;
        Poll::Ready(sent)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl fmt::Debug for ConsoleWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleWriter").finish_non_exhaustive()
    }
}
