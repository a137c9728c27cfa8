//! The stream of a driver's channel: two directions that do not wait for each other.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use jumpstarter_driver_core::{
    Channel, ChannelReader, ChannelWriter, Error, ErrorKind, Result, ResultExt,
};
use jumpstarter_protocol::v1::{FrameType, StreamRequest};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::Session;
use crate::byte_stream::Frame;
use crate::call::panicked;
use crate::resource::Incoming;

/// The driver's direction. The task of the other one holds it too, and drops it on shutdown: a
/// client that does not read keeps nothing of the driver open.
type Reader = Arc<Mutex<Option<ChannelReader>>>;

/// From the driver to the client, as frames. The other direction is a task, which ends soon after
/// this.
pub(crate) struct DriverStream {
    state: State,
    /// How the direction from the client to the driver ended, until that is known.
    sending: Option<oneshot::Receiver<Result<()>>>,
    /// The stream's end says that the driver has taken everything.
    ends_when_sent: bool,
    /// Cancelled when the client is gone.
    gone: CancellationToken,
    shutdown: CancellationToken,
}

/// What arrived before its client went has so long to reach the driver: a client that closes right
/// after its last byte loses none, though a serial port takes its time. A driver that takes nothing
/// is let go after it.
const LAST_LIMIT: Duration = Duration::from_secs(5);

impl Drop for DriverStream {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Connecting(connect, incoming) => self.send_last(connect, incoming),
            State::Receiving(reader) => take(&reader),
            State::Silent | State::Ended => {}
        }
        self.gone.cancel();
    }
}

enum State {
    Connecting(BoxFuture<'static, Result<Channel>>, Incoming),
    Receiving(Reader),
    /// The driver has said everything.
    Silent,
    Ended,
}

impl DriverStream {
    pub(crate) fn new(
        session: &Session,
        channel: impl Future<Output = Result<Channel>> + Send + 'static,
        incoming: Incoming,
        ends_when_sent: bool,
    ) -> Self {
        let state = State::Connecting(channel.boxed(), incoming);
        let (gone, shutdown) = (CancellationToken::new(), session.0.shutdown.clone());
        Self { state, sending: None, ends_when_sent, gone, shutdown }
    }

    /// Starts both directions.
    fn open(&mut self, channel: Channel, incoming: Incoming) {
        let (reader, writer) = channel.split();
        let reader = Arc::new(Mutex::new(Some(reader)));
        let (sender, receiver) = oneshot::channel();
        let ends_when_sent = self.ends_when_sent;
        let (held, gone, shutdown) = (reader.clone(), self.gone.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let pump = pump(incoming, writer, ends_when_sent);
            if let Some(outcome) = while_it_matters(pump, &gone, &shutdown).await {
                // Nobody may be left to be told.
                drop(sender.send(outcome));
                tokio::select! {
                    () = gone.cancelled() => {}
                    () = shutdown.cancelled() => {}
                }
            }
            take(&held);
        });
        self.state = State::Receiving(reader);
        self.sending = Some(receiver);
    }

    /// The client went before the driver was connected. Where it had sent something, that still
    /// reaches the driver.
    fn send_last(&self, connect: BoxFuture<'static, Result<Channel>>, incoming: Incoming) {
        let mut incoming = incoming.peekable();
        let sent = match Pin::new(&mut incoming).peek().now_or_never() {
            Some(Some(Ok(frame))) => frame.frame_type() == FrameType::Data,
            _ => false,
        };
        if !sent {
            return;
        }
        let (all, gone, shutdown) = (self.ends_when_sent, self.gone.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let sending = async {
                let (_, writer) = connect.await?.split();
                pump(incoming.boxed(), writer, all).await
            };
            if let Some(Err(error)) = while_it_matters(sending, &gone, &shutdown).await {
                tracing::debug!(error = %error.report(), "what a client sent before it went reached nobody");
            }
        });
    }

    /// The driver's direction is over.
    fn end(&mut self) -> Poll<Option<Result<Frame>>> {
        if let State::Receiving(reader) = std::mem::replace(&mut self.state, State::Ended) {
            take(&reader);
        }
        Poll::Ready(Some(Ok(Frame::End)))
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame>>> {
        if let State::Receiving(reader) = std::mem::replace(&mut self.state, State::Ended) {
            take(&reader);
        }
        self.sending = None;
        self.gone.cancel();
        Poll::Ready(Some(Err(error)))
    }
}

/// How passing on what the client sends ended, a panic being an error; None where its client has
/// been gone for too long, or on shutdown.
async fn while_it_matters(
    sending: impl Future<Output = Result<()>>,
    gone: &CancellationToken,
    shutdown: &CancellationToken,
) -> Option<Result<()>> {
    let too_late = async {
        gone.cancelled().await;
        tokio::time::sleep(LAST_LIMIT).await;
    };
    tokio::select! {
        outcome = AssertUnwindSafe(sending).catch_unwind() => {
            Some(outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))))
        }
        () = too_late => None,
        () = shutdown.cancelled() => None,
    }
}

/// Takes the driver's direction out, and drops it.
fn take(reader: &Reader) {
    drop(reader.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The next frame of the driver, whose panic is an error.
fn poll_reader(reader: &Reader, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
    let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(open) = reader.as_mut() else { return Poll::Ready(Err(Session::shutting_down())) };
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| open.poll_next_unpin(cx)));
    match polled {
        Ok(frame) => {
            frame.map(|frame| frame.transpose().context("receiving from the driver's connection"))
        }
        Err(panic) => {
            *reader = None;
            Poll::Ready(Err(panicked(panic.as_ref())))
        }
    }
}

impl Stream for DriverStream {
    type Item = Result<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let State::Connecting(connect, _) = &mut this.state {
            let channel = ready!(connect.as_mut().poll(cx));
            match (channel, std::mem::replace(&mut this.state, State::Ended)) {
                (Ok(channel), State::Connecting(_, incoming)) => this.open(channel, incoming),
                (Err(error), _) => return this.fail(error),
                (Ok(_), _) => return Poll::Ready(None),
            }
        }
        if let Some(sending) = &mut this.sending
            && let Poll::Ready(outcome) = sending.poll_unpin(cx)
        {
            this.sending = None;
            // A task that was ended says nothing.
            if let Ok(Err(error)) = outcome {
                return this.fail(error);
            }
            if this.ends_when_sent && matches!(this.state, State::Receiving(_) | State::Silent) {
                return this.end();
            }
        }
        if let State::Receiving(reader) = &this.state
            && let Poll::Ready(frame) = poll_reader(reader, cx)
        {
            return match frame {
                Ok(Some(payload)) => Poll::Ready(Some(Ok(Frame::Data(payload)))),
                // The end is still to come: that of sending.
                Ok(None) if this.ends_when_sent && this.sending.is_some() => {
                    this.state = State::Silent;
                    Poll::Pending
                }
                Ok(None) => this.end(),
                Err(error) => this.fail(error),
            };
        }
        match (&this.state, &this.sending) {
            (State::Ended, None) => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

/// Passes the client's frames on until its direction ends. That the driver stopped reading ends
/// this direction only, unless `all` of it must arrive.
async fn pump(mut incoming: Incoming, mut writer: ChannelWriter, all: bool) -> Result<()> {
    while let Some(frame) = incoming.next().await {
        let frame: StreamRequest = frame.context("receiving from the client")?;
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
                return Err(Error::new(ErrorKind::Aborted, "the client reset the stream"));
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
