//! HTTP/2 for both ends. h2's types stay in this module and in `wire`, so a new
//! major version of h2 changes no public type.
//!
//! It uses h2 directly. hyper's server reports a request body that the client has reset as one that
//! ended: a broken image would look complete. Neither hyper nor tonic can adapt windows to the
//! available memory, wait for HTTP/2's acknowledgement before a connection is closed, or pass
//! payloads without copies.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Ping, PingPong, Reason, RecvStream, client, server};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::broken;
use crate::{CallError, Outgoing};

/// The limits of a server.
mod served {
    /// The largest HTTP/2 frame that is accepted: payloads arrive in one piece.
    pub(super) const MAX_FRAME: u32 = 256 * 1024;
    /// The most unsent bytes of one stream while its client reads slowly.
    pub(super) const SEND_BUFFER: usize = 128 * 1024;
    /// The overhead of small unread pieces, of all streams: as much as two streams can have.
    pub(super) const SMALL_PIECES: usize = 64 << 20;
    /// Data for forgotten streams is answered with a reset; a client that causes this many loses
    /// its connection. (Refused calls soon reach the library's own bound; without one, a client
    /// that reads nothing could accumulate resets.)
    pub(super) const MAX_STRAYS: usize = 64 * 1024;
    /// The largest headers of one call.
    pub(super) const MAX_HEADERS: u32 = 16 * 1024;
}

/// The limits of a client.
mod called {
    /// The most unread bytes of one stream.
    pub(super) const STREAM_WINDOW: u32 = 8 << 20;
    /// The most unread bytes of all streams: the protocol's maximum. With less, unread streams
    /// could use it up and block every other call.
    pub(super) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
    /// The largest HTTP/2 frame that is accepted: payloads arrive in one piece.
    pub(super) const MAX_FRAME: u32 = 1 << 20;
    /// The most unsent bytes of one stream while the network is busy. Senders merge what has to
    /// wait after these.
    pub(super) const SEND_BUFFER: usize = 128 << 10;
    /// The largest headers of an answer, and its largest trailers, which hold the error.
    pub(super) const MAX_HEADERS: u32 = 256 << 10;
}

/// The body of a request or an answer, which [`Incoming`](crate::Incoming) reads.
#[derive(Debug)]
pub struct Body(pub(crate) RecvStream);

/// The error code with which a server ends a connection (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoAway {
    /// The client did nothing wrong.
    NoError,
    /// The client uses too many resources.
    EnhanceYourCalm,
}

/// The server's side of a connection.
#[derive(Debug)]
pub struct ServerConnection<T>(server::Connection<T, Bytes>);

impl<T: AsyncRead + AsyncWrite + Unpin> ServerConnection<T> {
    /// Starts HTTP/2 on an open socket. `stream_window` and `connection_window` are the bytes that
    /// the client may send of one stream, and of all, before they are read; it may have
    /// `max_streams` calls at a time.
    ///
    /// # Errors
    /// `Broken` for a client that does not speak HTTP/2.
    pub async fn open(
        socket: T,
        stream_window: u32,
        connection_window: u32,
        max_streams: u32,
    ) -> Result<Self, CallError> {
        let mut builder = server::Builder::new();
        builder
            .initial_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_concurrent_streams(max_streams)
            .max_frame_size(served::MAX_FRAME)
            .max_send_buffer_size(served::SEND_BUFFER)
            .data_frame_budget(served::SMALL_PIECES)
            // Clients may cancel as many calls at once as they may make.
            .max_pending_accept_reset_streams(max_streams as usize)
            // Remaining data of a call that was answered early is ignored.
            .max_concurrent_reset_streams(max_streams as usize)
            .max_local_error_reset_streams(Some(served::MAX_STRAYS))
            .max_header_list_size(served::MAX_HEADERS);
        builder.handshake(socket).await.map(Self).map_err(broken)
    }

    /// Waits for the next call; `None` when the connection has ended. It drives the connection, so
    /// call it until then. May be cancelled.
    ///
    /// # Errors
    /// `Broken` once, if the connection breaks.
    pub async fn accept(&mut self) -> Option<Result<(Request<Body>, Respond), CallError>> {
        let accepted = self.0.accept().await?;
        Some(match accepted {
            Ok((request, respond)) => Ok((request.map(Body), Respond(respond))),
            Err(error) => Err(broken(error)),
        })
    }

    /// Lets the client send `bytes` of all streams before they are read.
    ///
    /// # Panics
    /// For 2 GiB and more.
    pub fn set_connection_window(&mut self, bytes: u32) {
        self.0.set_target_window_size(bytes);
    }

    /// Lets the client send `bytes` of each stream before they are read. Returns `false`, and
    /// changes nothing, while the client has not acknowledged the previous change.
    ///
    /// # Panics
    /// For 2 GiB and more.
    pub fn set_stream_window(&mut self, bytes: u32) -> bool {
        self.0.set_initial_window_size(bytes).is_ok()
    }

    /// Accepts no more calls; the connection ends with the last running one.
    pub fn finish(&mut self) {
        self.0.graceful_shutdown();
    }

    /// Breaks off every call, and waits until the reason was sent to the client. May be cancelled.
    pub async fn abort(&mut self, reason: GoAway) {
        self.0.abrupt_shutdown(match reason {
            GoAway::NoError => Reason::NO_ERROR,
            GoAway::EnhanceYourCalm => Reason::ENHANCE_YOUR_CALM,
        });
        // Whether the client receives it changes nothing.
        drop(poll_fn(|cx| self.0.poll_closed(cx)).await);
    }
}

/// Answers one call.
#[derive(Debug)]
pub struct Respond(server::SendResponse<Bytes>);

impl Respond {
    /// Begins the answer; the returned value sends what follows the headers.
    ///
    /// # Errors
    /// `Broken` for a call that has ended.
    pub fn begin(&mut self, head: Response<()>) -> Result<Outgoing, CallError> {
        self.0.send_response(head, false).map(Outgoing::new).map_err(broken)
    }

    /// Answers with headers only.
    ///
    /// # Errors
    /// `Broken` for a call that has ended.
    pub fn end(&mut self, head: Response<()>) -> Result<(), CallError> {
        self.0.send_response(head, true).map(drop).map_err(broken)
    }

    /// Completes when the client, or the end of the connection, has ended the call.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_reset(cx).map(drop)
    }
}

/// The client's side of a connection: a future that drives it, and completes when it has ended.
#[derive(Debug)]
pub struct ClientConnection<T: AsyncRead + AsyncWrite + Unpin>(client::Connection<T, Bytes>);

impl<T: AsyncRead + AsyncWrite + Unpin> ClientConnection<T> {
    /// Starts HTTP/2 on an open socket. The first call shows whether the other side speaks it, too.
    ///
    /// # Errors
    /// `Broken` for a socket that cannot be written.
    pub async fn open(socket: T) -> Result<(Requests, Self), CallError> {
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(called::STREAM_WINDOW)
            .initial_connection_window_size(called::CONNECTION_WINDOW)
            .max_frame_size(called::MAX_FRAME)
            .max_header_list_size(called::MAX_HEADERS)
            .max_send_buffer_size(called::SEND_BUFFER)
            .enable_push(false);
        let (requests, connection) = builder.handshake(socket).await.map_err(broken)?;
        Ok((Requests(requests), Self(connection)))
    }

    /// The pings of the connection: `None` after the first call, and after
    /// [`acknowledged`](Self::acknowledged).
    pub fn pings(&mut self) -> Option<Pings> {
        self.0.ping_pong().map(Pings)
    }

    /// Waits until the server has read everything that was sent, or the connection has ended. Can
    /// be used once. May be cancelled.
    pub async fn acknowledged(&mut self) {
        let Some(mut ping) = self.0.ping_pong() else { return };
        tokio::select! {
            _ = &mut self.0 => {}
            _ = ping.ping(Ping::opaque()) => {}
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for ClientConnection<T> {
    type Output = Result<(), CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(broken)
    }
}

/// Asks whether the server is alive.
#[derive(Debug)]
pub struct Pings(PingPong);

impl Pings {
    /// Sends a ping, and waits for its answer.
    ///
    /// # Errors
    /// `Broken` for a connection that has ended.
    pub async fn ping(&mut self) -> Result<(), CallError> {
        self.0.ping(Ping::opaque()).await.map(drop).map_err(broken)
    }
}

/// Makes calls on a connection, which ends when this is dropped and its last call has ended.
#[derive(Clone, Debug)]
pub struct Requests(client::SendRequest<Bytes>);

impl Requests {
    /// Begins a call, once the server allows another one; the second half sends.
    ///
    /// # Errors
    /// `Broken` for a connection that has ended.
    pub async fn send(&self, request: Request<()>) -> Result<(Answer, Outgoing), CallError> {
        let mut requests = self.0.clone().ready().await.map_err(broken)?;
        let (answer, sending) = requests.send_request(request, false).map_err(broken)?;
        Ok((Answer(answer), Outgoing::new(sending)))
    }
}

/// The answer to a call, once it begins.
#[derive(Debug)]
pub struct Answer(client::ResponseFuture);

impl Future for Answer {
    type Output = Result<Response<Body>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_ok(|answer| answer.map(Body)).map_err(broken)
    }
}
