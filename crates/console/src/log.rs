//! A shared console: one task holds the channel, keeps the recent output, and serves many readers.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use jumpstarter_driver_core::{ByteSize, Channel, ChannelReader, ChannelWriter, Framing, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::reader::{ConsoleReader, ConsoleWriter, ReadFrom};
use crate::scrollback::Scrollback;
use crate::state::{End, Shared, State};
use crate::visible::visible;

/// How much a [`ConsoleLog`] keeps by default.
pub const SCROLLBACK: ByteSize = ByteSize::mebibytes(1);

/// Writes that wait for the device before the next writer has to.
const QUEUED_WRITES: usize = 16;

/// What a writer queues: the bytes, and where to report that the device has taken them.
pub(crate) type Write = (Bytes, oneshot::Sender<()>);

/// Called after the source ended: returns the next one (after any time), `None` to end.
pub type Reconnect =
    Box<dyn FnMut(ConsoleNotes) -> BoxFuture<'static, Result<Option<Channel>>> + Send>;

/// Puts notes into the stream of a [`ConsoleLog`]. Does not keep the log alive.
#[derive(Clone)]
pub struct ConsoleNotes(Arc<Shared>);

impl ConsoleNotes {
    /// Adds a line that marks a gap: every reader sees it between the device's bytes.
    pub fn note(&self, text: &str) {
        self.0.change(|state| state.scrollback.append(mark(text).as_bytes()));
    }
}

impl fmt::Debug for ConsoleNotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConsoleNotes")
    }
}

/// How a note stands in the stream.
pub(crate) fn mark(text: &str) -> String {
    format!("\r\n--- {text} ---\r\n")
}

/// A shared console.
///
/// Some consoles accept only one client: a terminal device, a QEMU character device. A log holds
/// that one connection in a task and always reads it, even without a client: so the device never
/// waits for a reader, and its last output is available when something goes wrong.
/// [`attach`](Self::attach) gives each client a channel; what clients write is sent in its order of
/// arrival.
///
/// A slow reader never delays the device or the other readers: it loses what falls out of the
/// scrollback. [`ConsoleReader`] reports how much; an attached client sees a note in its place.
///
/// Clones are handles to the same log. When the last is dropped the connection is closed and every
/// reader ends.
///
/// ```
/// # use jumpstarter_driver_core::{Channel, Framing, Result};
/// # use jumpstarter_console::{ConsoleLog, ReadFrom};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let (mut device, ours) = Channel::pair(Framing::Bytes);
/// let log = ConsoleLog::new(ours);
/// let mut reader = log.read(ReadFrom::Start);
/// device.send("U-Boot 2024.01\r\n").await?;
/// assert_eq!(reader.next().await?.expect("not ended").bytes, "U-Boot 2024.01\r\n");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConsoleLog {
    shared: Arc<Shared>,
    writes: mpsc::Sender<Write>,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl ConsoleLog {
    /// A log of `channel` with a scrollback of [`SCROLLBACK`]. Needs a Tokio runtime, as every
    /// constructor does.
    pub fn new(channel: Channel) -> Self {
        Self::start(channel, SCROLLBACK, None)
    }

    /// A log of `channel` that keeps the last `scrollback` bytes.
    pub fn with_scrollback(channel: Channel, scrollback: ByteSize) -> Self {
        Self::start(channel, scrollback, None)
    }

    /// A log that continues with the source that `reconnect` returns each time that the old one
    /// ended or broke. Readers and attached clients stay; new writes are queued meanwhile, and
    /// those that the old source did not accept are dropped. `None` ends the log, an error breaks
    /// it. The hook must pace itself: it is called again at once.
    pub fn reconnecting(channel: Channel, scrollback: ByteSize, reconnect: Reconnect) -> Self {
        Self::start(channel, scrollback, Some(reconnect))
    }

    fn start(channel: Channel, scrollback: ByteSize, reconnect: Option<Reconnect>) -> Self {
        let capacity = usize::try_from(scrollback.as_bytes()).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                scrollback: Scrollback::new(capacity),
                write_failure: None,
                connected: true,
                clients: CancellationToken::new(),
                end: None,
            }),
            changed: watch::Sender::new(0),
        });
        let (writes, queue) = mpsc::channel(QUEUED_WRITES);
        let ending = Ending { shared: Arc::clone(&shared), end: End::Closed };
        let task = AbortOnDropHandle::new(tokio::spawn(hold(channel, queue, reconnect, ending)));
        Self { shared, writes, _task: Arc::new(task) }
    }

    /// A reader from `from` on. Earlier dropped bytes do not count as skipped.
    pub fn read(&self, from: ReadFrom) -> ConsoleReader {
        ConsoleReader::new(Arc::clone(&self.shared), from)
    }

    /// A writer; its bytes are sent unbroken and in the order of all writers' calls.
    pub fn writer(&self) -> ConsoleWriter {
        ConsoleWriter::new(Arc::clone(&self.shared), self.writes.clone())
    }

    /// A channel for another client, which gets the device's output from now on. It ends when the
    /// log does; finishing or dropping it does not affect others.
    ///
    /// Pitfall: the channel of a slow client lacks bytes, and has a note in their place. If
    /// that matters, use [`read`](Self::read), which reports the loss.
    pub fn attach(&self) -> Channel {
        self.attach_from(ReadFrom::Now)
    }

    /// As [`attach`](Self::attach), with the earlier output from `from` on. The earlier part lacks
    /// queries that a terminal would answer, such as for the cursor's position: the answer would be
    /// typed into the device. [`read`](Self::read) returns every byte.
    pub fn attach_from(&self, from: ReadFrom) -> Channel {
        let open = self.shared.lock().clients.clone();
        let stream = self.read(from).into_stream().take_until(open.clone().cancelled_owned());
        Channel::from_parts(Framing::Bytes, stream, self.writer().into_sink(open))
    }

    /// Ends the channels of all attached clients. New ones can be attached.
    pub fn hang_up(&self) {
        std::mem::take(&mut self.shared.lock().clients).cancel();
    }

    /// The number of bytes from the device so far: the offset of the next.
    pub fn total_bytes(&self) -> u64 {
        self.shared.lock().scrollback.end()
    }

    /// The number of those that are no longer kept.
    pub fn dropped_bytes(&self) -> u64 {
        self.shared.lock().scrollback.start()
    }

    /// The last bytes, at most `most`.
    pub fn tail(&self, most: usize) -> Vec<u8> {
        let state = self.shared.lock();
        state.scrollback.read(state.scrollback.end().saturating_sub(most as u64), most)
    }

    /// The last lines, at most `count` and at most 16 KiB, as text for people: for errors of waits.
    pub fn last_lines(&self, count: usize) -> String {
        self.last_lines_since(0, count)
    }

    /// As [`last_lines`](Self::last_lines), of what was said from `offset` on.
    pub fn last_lines_since(&self, offset: u64, count: usize) -> String {
        let since =
            usize::try_from(self.total_bytes().saturating_sub(offset)).unwrap_or(usize::MAX);
        let text = visible(&self.tail(since.min(16 * 1024)));
        let lines: Vec<&str> = text.trim_end().lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Whether it has ended: no more output follows.
    pub fn ended(&self) -> bool {
        self.shared.lock().end.is_some()
    }
}

impl fmt::Debug for ConsoleLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("ConsoleLog")
            .field("total_bytes", &state.scrollback.end())
            .field("dropped_bytes", &state.scrollback.start())
            .field("end", &state.end)
            .finish_non_exhaustive()
    }
}

/// Marks the end however the task goes: returned, aborted or panicked.
struct Ending {
    shared: Arc<Shared>,
    end: End,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let end = self.end.clone();
        self.shared.change(|state| state.end = Some(end));
    }
}

/// The task: holds one source after the other.
async fn hold(
    mut channel: Channel,
    mut queue: mpsc::Receiver<Write>,
    mut reconnect: Option<Reconnect>,
    mut ending: Ending,
) {
    loop {
        let (reader, writer) = channel.split();
        // Apart, so that a device which waits for its output to be read before it takes input
        // cannot block both. The end of a source is noticed before anything is written to it.
        let broken = tokio::select! {
            biased;
            ended = keep_reading(reader, &ending.shared) => ended.err(),
            never = keep_writing(writer, &mut queue, &ending.shared) => match never {},
        };
        ending.end = broken.map_or(End::Closed, |error| End::Broken(error.report()));
        let Some(next) = &mut reconnect else { return };
        ending.shared.change(|state| {
            // Keys that were meant for the old source must not stop the boot loader of the new one.
            while queue.try_recv().is_ok() {}
            // What is written from now on is for the new one.
            state.write_failure = None;
            state.connected = false;
        });
        match next(ConsoleNotes(Arc::clone(&ending.shared))).await {
            Ok(Some(next)) => channel = next,
            Ok(None) => {
                ending.end = End::Closed;
                return;
            }
            Err(error) => {
                ending.end = End::Broken(error.context("connecting to the console again").report());
                return;
            }
        }
        ending.end = End::Closed;
        ending.shared.change(|state| state.connected = true);
    }
}

async fn keep_reading(mut reader: ChannelReader, shared: &Shared) -> Result<()> {
    while let Some(bytes) = reader.receive().await? {
        shared.change(|state| state.scrollback.append(&bytes));
    }
    Ok(())
}

/// Sends what is queued. A failure is kept for the writers, since the device's last words are still
/// to be read.
async fn keep_writing(
    mut writer: ChannelWriter,
    queue: &mut mpsc::Receiver<Write>,
    shared: &Shared,
) -> std::convert::Infallible {
    while let Some((bytes, taken)) = queue.recv().await {
        if let Err(error) = writer.send(bytes).await {
            shared.change(|state| state.write_failure = Some(error.report()));
            break;
        }
        // A writer that was cancelled does not wait for it.
        let _unheard = taken.send(());
    }
    std::future::pending().await
}
