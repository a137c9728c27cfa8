//! An open WebSocket: a task between it and its channel, which answers pings also while nobody
//! reads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, stream};
use jumpstarter_driver_core::{Channel, Error, Framing, Result};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as SocketError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::sync::{CancellationToken, PollSender};

use super::{Io, MessageKind};

/// Messages that wait in each direction before their sender waits.
const WAITING: usize = 16;
/// How long answers may take once the client has finished sending: there is no half-close.
const LINGER: Duration = Duration::from_secs(2);
/// How long what is on its way, and the closing handshake, may take once the client has left.
const LAST_LIMIT: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<Box<dyn Io>>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) send_as: MessageKind,
    pub(super) keep_alive: Duration,
}

/// The channel of an open WebSocket. Dropping both of its directions closes the WebSocket.
pub(super) fn channel(socket: Socket, settings: Settings, url: String) -> Channel {
    let (to_client, mut incoming) = mpsc::channel(WAITING);
    let (outgoing, from_client) = mpsc::channel(WAITING);
    let left = CancellationToken::new();
    let guard = Arc::new(left.clone().drop_guard());
    let connection = Connection {
        settings,
        url,
        to_client,
        left,
        sent: AtomicU64::new(0),
        heard: Notify::new(),
    };
    tokio::spawn(connection.serve(socket, from_client));
    let reader_guard = guard.clone();
    let reader = stream::poll_fn(move |context| {
        let _held = &reader_guard;
        incoming.poll_recv(context)
    });
    let writer = PollSender::new(outgoing).sink_map_err(move |_| {
        let _held = &guard;
        io::ErrorKind::BrokenPipe.into()
    });
    Channel::from_parts(Framing::Datagrams, reader, writer)
}

struct Connection {
    settings: Settings,
    url: String,
    to_client: mpsc::Sender<io::Result<Bytes>>,
    /// Cancelled when the client has dropped both directions.
    left: CancellationToken,
    /// Messages and pings that the server has taken.
    sent: AtomicU64,
    /// Notified of each message from the server.
    heard: Notify,
}

impl Connection {
    async fn serve(self, socket: Socket, from_client: mpsc::Receiver<Bytes>) {
        let (sink, stream) = socket.split();
        if let Err(error) = self.run(sink, stream, from_client).await {
            tokio::select! {
                _ = self.to_client.send(Err(error.into())) => {}
                () = self.left.cancelled() => {}
            }
        }
    }

    /// Returns at the closing of the WebSocket.
    async fn run(
        &self,
        mut sink: SplitSink<Socket, Message>,
        stream: SplitStream<Socket>,
        mut from_client: mpsc::Receiver<Bytes>,
    ) -> Result<()> {
        let receiving = self.receive(stream);
        tokio::pin!(receiving);
        tokio::select! {
            received = &mut receiving => return received,
            sent = self.send(&mut sink, &mut from_client) => sent?,
        }
        // The client has finished sending.
        tokio::select! {
            received = &mut receiving => return received,
            () = async { while timeout(LINGER, self.heard.notified()).await.is_ok() {} } => {}
            () = self.left.cancelled() => {}
        }
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        // From here on the end is ours: how the server answers, or that it does not, is no error.
        let closing = async {
            sink.send(Message::Close(Some(normal))).await.ok();
            receiving.await.ok();
        };
        timeout(LAST_LIMIT, closing).await.ok();
        Ok(())
    }

    /// Sends the client's messages, and pings, until the client has finished.
    async fn send(
        &self,
        sink: &mut SplitSink<Socket, Message>,
        from_client: &mut mpsc::Receiver<Bytes>,
    ) -> Result<()> {
        let mut pings = interval(self.settings.keep_alive);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                frame = from_client.recv() => match frame {
                    Some(frame) => self.message(frame)?,
                    None => return Ok(()),
                },
                _ = pings.tick() => Message::Ping(Bytes::new()),
            };
            let too_late = async {
                self.left.cancelled().await;
                sleep(LAST_LIMIT).await;
            };
            tokio::select! {
                sent = sink.send(message) => sent.map_err(|error| self.broken(error))?,
                () = too_late => return Ok(()),
            }
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn message(&self, frame: Bytes) -> Result<Message> {
        match self.settings.send_as {
            MessageKind::Binary => Ok(Message::Binary(frame)),
            MessageKind::Text => Utf8Bytes::try_from(frame).map(Message::Text).map_err(|_| {
                Error::invalid_argument(format!(
                    "a message to {} is not text in UTF-8, and `send_as` is `text`",
                    self.url
                ))
            }),
        }
    }

    /// Passes the server's messages on until it closes.
    async fn receive(&self, mut stream: SplitStream<Socket>) -> Result<()> {
        let patience = self.settings.keep_alive.saturating_mul(2);
        let mut sent_before = 0;
        loop {
            let message = match timeout(patience, stream.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(self.broken(error)),
                Ok(None) => return Ok(()),
                Err(_) => {
                    // A server that only reads, and slowly, is not lost.
                    let sent = self.sent.load(Ordering::Relaxed);
                    if sent.saturating_sub(sent_before) > 2 {
                        sent_before = sent;
                        continue;
                    }
                    let message = format!("{} has not answered a ping for {patience:?}", self.url);
                    return Err(Error::unavailable(message));
                }
            };
            let frame = match message {
                Message::Binary(frame) => frame,
                Message::Text(text) => text.into(),
                Message::Close(frame) => return self.closed(frame),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            };
            self.heard.notify_one();
            // A client that has dropped this direction may still send.
            self.to_client.send(Ok(frame)).await.ok();
        }
    }

    fn closed(&self, frame: Option<CloseFrame>) -> Result<()> {
        let Some(CloseFrame { code, reason }) = frame else { return Ok(()) };
        if matches!(code, CloseCode::Normal | CloseCode::Away | CloseCode::Status) {
            return Ok(());
        }
        let mut message =
            format!("{} closed the WebSocket with code {}", self.url, u16::from(code));
        if !reason.is_empty() {
            message += &format!(": {reason}");
        }
        Err(Error::unavailable(message))
    }

    fn broken(&self, error: SocketError) -> Error {
        match error {
            SocketError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                Error::resource_exhausted(format!(
                    "a message of {} has {size} bytes, and {max_size} are allowed",
                    self.url
                ))
                .with_hint("raise `max_message_size` in the driver's configuration")
            }
            error => Error::unavailable(format!("the WebSocket to {} broke", self.url))
                .with_source(error),
        }
    }
}
