//! One connection to an exporter: calls on it, and how it ends.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use h2::SendStream;
use h2::client::SendRequest;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::from_status;
use jumpstarter_protocol::v1::{GetStatusRequest, GetStatusResponse};
use prost::Message;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::socket::{Io, Noting};
use crate::wire::{self, Messages, transport};
use crate::{Address, ConnectOptions};

pub(crate) const GET_STATUS: &str = "/jumpstarter.v1.ExporterService/GetStatus";
const PASSPHRASE: HeaderName = HeaderName::from_static("x-jumpstarter-passphrase");
/// What an exporter may send before it is read: of one stream, and of all together.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest HTTP/2 frame that is accepted: payloads arrive in one piece.
const HTTP_FRAME: u32 = 1 << 20;
/// What one stream holds while the network is busy.
const SEND_BUFFER: usize = 2 << 20;
/// A call notices the connection's end before the connection itself does; it waits so long for the reason.
const GRACE: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// This side closed it.
    Closed,
    /// The exporter, or the way to it, is gone; with the error, if there was one.
    Lost(Option<Arc<h2::Error>>),
    /// The exporter gave no sign of life for so long.
    Silent(Duration),
}

/// An open HTTP/2 connection. It ends when it is closed, and when it is dropped and its last stream has ended.
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) call_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    requests: SendRequest<Bytes>,
    authority: String,
    passphrase: Option<HeaderValue>,
    end: watch::Receiver<Option<End>>,
    closing: CancellationToken,
    silent: watch::Sender<Option<Duration>>,
    heartbeat: OnceLock<AbortHandle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(heartbeat) = self.heartbeat.get() {
            heartbeat.abort();
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}

impl Connection {
    /// Speaks HTTP/2 on an open socket. That the other side does too shows with the first call.
    pub(crate) async fn start<T: Io + 'static>(
        options: &ConnectOptions,
        io: Noting<T>,
    ) -> Result<Self, Status> {
        let passphrase = options.passphrase.as_ref().map(|passphrase| {
            let mut value = HeaderValue::from_str(passphrase.expose())
                .map_err(|_| Status::invalid_argument("the passphrase has characters that cannot be sent"))?;
            value.set_sensitive(true);
            Ok::<_, Status>(value)
        });
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(HTTP_FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false);
        let (requests, connection) = builder.handshake::<_, Bytes>(io).await.map_err(transport)?;
        let closing = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let closed = closing.clone().cancelled_owned();
        let (silent, mut silence) = watch::channel(None);
        tokio::spawn(async move {
            let how = tokio::select! {
                outcome = connection => End::Lost(outcome.err().map(Arc::new)),
                () = closed => End::Closed,
                limit = wait_for(&mut silence) => End::Silent(limit),
            };
            tracing::debug!(?how, "the connection to the exporter ended");
            ended.send_replace(Some(how));
        });
        let authority = match &options.address {
            Address::Unix(_) => "localhost".to_owned(),
            tcp @ Address::Tcp { .. } => tcp.to_string(),
        };
        Ok(Self {
            address: options.address.clone(),
            call_timeout: options.call_timeout,
            stall_timeout: options.stall_timeout,
            requests,
            authority,
            passphrase: passphrase.transpose()?,
            end,
            closing,
            silent,
            heartbeat: OnceLock::new(),
        })
    }

    /// Asks for a sign of life every `interval`, and takes it for lost when none comes for as long.
    ///
    /// (HTTP/2's own pings would do, but exporters in Python end a connection on which they come often.)
    pub(crate) fn keep_alive(self: &Arc<Self>, interval: Duration) {
        let weak = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(connection) = weak.upgrade() else { return };
                let asking = connection.answer::<GetStatusResponse>(GET_STATUS, &GetStatusRequest {});
                // Any answer will do, an error too.
                if tokio::time::timeout(interval, asking).await.is_err() {
                    connection.silent.send_replace(Some(interval));
                }
            }
        });
        self.heartbeat.get_or_init(|| task.abort_handle());
    }

    /// Ends the connection, and every call on it.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.ended().await;
    }

    /// Ends the connection when the guard is dropped.
    pub(crate) fn close_on_drop(&self) -> DropGuard {
        self.closing.clone().drop_guard()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> End {
        let mut end = self.end.clone();
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| end.clone()).unwrap_or(End::Closed)
    }

    /// The error of calls on a connection that ended so.
    pub(crate) fn error_of(&self, end: &End) -> Error {
        match end {
            End::Closed => Error::failed_precondition(format!(
                "the connection to the exporter at {} is closed",
                self.address
            )),
            End::Silent(limit) => Error::unavailable(format!("the exporter at {} went away", self.address))
                .with_source(Error::unavailable(format!("it gave no sign of life for {limit:?}")))
                .with_hint("its machine, or the network to it, failed: connect again when it is back"),
            End::Lost(_) => Error::unavailable(format!("the exporter at {} went away", self.address))
                .with_hint("it has ended, or the network to it failed: connect again when it is back"),
        }
    }

    /// The error for the status of a call: the exporter's own, or that the connection is gone.
    pub(crate) async fn explain(&self, status: Status) -> Error {
        if std::error::Error::source(&status).is_none() {
            return from_status(&status);
        }
        match tokio::time::timeout(GRACE, self.ended()).await {
            Ok(end) => self.error_of(&end),
            Err(_) => {
                from_status(&status).context(format!("the exporter at {} broke off the call", self.address))
            }
        }
    }

    /// Begins a call; what is sent goes to the first half.
    pub(crate) async fn open<T: Message + Default>(
        &self,
        path: &'static str,
        metadata: Vec<(&'static str, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<(SendStream<Bytes>, Messages<T>), Status> {
        let uri =
            Uri::builder().scheme("http").authority(self.authority.as_str()).path_and_query(path).build();
        let uri =
            uri.map_err(|error| Status::internal(format!("the exporter's address is no URI: {error}")))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("jumpstarter-rs"));
        if let Some(passphrase) = &self.passphrase {
            headers.insert(PASSPHRASE, passphrase.clone());
        }
        headers.extend(metadata.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)));
        let mut requests = self.requests.clone().ready().await.map_err(transport)?;
        let (answer, mut sending) = requests.send_request(request, false).map_err(transport)?;
        drop(requests);
        if let Some(body) = body {
            sending.send_data(body, true).map_err(transport)?;
        }
        let messages = Messages::new(answer.await.map_err(transport)?)?;
        Ok((sending, messages))
    }

    /// A call with one answer, which may take as long as calls may. Dropping the future cancels it.
    pub(crate) async fn unary<T: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<T> {
        self.in_time(self.unlimited(path, request)).await
    }

    /// As [`unary`](Self::unary), for as long as it takes.
    pub(crate) async fn unlimited<T: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<T> {
        match self.answer(path, request).await {
            Ok(answer) => Ok(answer),
            Err(status) => Err(self.explain(status).await),
        }
    }

    /// The first call: its failure needs the caller's explanation.
    pub(crate) async fn first<T: Message + Default>(&self, path: &'static str) -> Result<T, Status> {
        self.answer(path, &()).await
    }

    async fn answer<T: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<T, Status> {
        let (_, mut messages) = self.open::<T>(path, Vec::new(), Some(wire::encode(request)?)).await?;
        let answer = messages.next().await.transpose()?;
        if let Some(Err(status)) = messages.next().await {
            return Err(status);
        }
        answer.ok_or_else(|| Status::internal("the exporter answered nothing"))
    }

    /// A call with many answers; opening may take as long as calls may.
    pub(crate) async fn streaming<T: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<Messages<T>> {
        let opening = async {
            let body = wire::encode(request);
            let opened = match body {
                Ok(body) => self.open::<T>(path, Vec::new(), Some(body)).await,
                Err(status) => Err(status),
            };
            match opened {
                Ok((_, messages)) => Ok(messages),
                Err(status) => Err(self.explain(status).await),
            }
        };
        self.in_time(opening).await
    }

    /// What `call` answers, unless it takes longer than calls may.
    pub(crate) async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.call_timeout;
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let message = format!("the exporter at {} did not answer within {limit:?}", self.address);
            Err(Error::new(ErrorKind::DeadlineExceeded, message).with_hint(
                "the driver is busy or hangs; a longer limit can be set where the connection is made",
            ))
        })
    }
}

/// Waits until there is a value; forever, if there will be none.
async fn wait_for(values: &mut watch::Receiver<Option<Duration>>) -> Duration {
    if let Ok(value) = values.wait_for(Option::is_some).await
        && let Some(value) = *value
    {
        return value;
    }
    std::future::pending().await
}
