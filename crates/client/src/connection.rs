//! One connection to an exporter: calls on it, and how it ends.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue};
use jumpstarter_driver_core::{Error, Result, ResultExt};
use jumpstarter_protocol::http2::{ClientConnection, Requests};
use jumpstarter_protocol::metadata::PASSPHRASE;
use jumpstarter_protocol::rpc::{GetReport, GetStatus};
use jumpstarter_protocol::v1::GetStatusRequest;
use jumpstarter_protocol::{CallError, Messages, Method, Outgoing, Rpc, Transport, encode, grpc};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::options::Explanation;
use crate::socket::{Noting, Traffic};
use crate::wire::MAX_MESSAGE;
use crate::{Address, ConnectOptions};

/// The largest accepted report: some hundred bytes for each of the most drivers of a device.
const MAX_REPORT: usize = 4 << 20;
/// A call may notice the end before the connection does: the longest wait for the reason.
const GRACE: Duration = Duration::from_secs(2);
/// The longest wait for accepted data to reach the exporter before the connection is closed.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// The slowest supported link, in bytes a second: unacknowledged data gets that much time.
const SLOWEST_LINK: u64 = 16 << 10;

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// This side closed it.
    Closed,
    /// The connection to the exporter was lost.
    Lost,
    /// The exporter gave no sign of life for this long.
    Silent(Duration),
}

/// An open HTTP/2 connection. It ends when it is closed, and when it is dropped and its last stream
/// has ended.
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) call_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) image_timeout: Duration,
    explanation: Option<Explanation>,
    /// The lease that ends with the connection.
    #[cfg(feature = "lab")]
    pub(crate) lease: Option<Arc<crate::lab::Lease>>,
    traffic: Arc<Traffic>,
    requests: Requests,
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
    /// Starts HTTP/2 on an open socket. The first call shows whether the other side speaks it, too.
    pub(crate) async fn start<T: Transport + 'static>(
        options: &ConnectOptions,
        io: Noting<T>,
    ) -> Result<Self> {
        let passphrase = options.passphrase.as_ref().map(|passphrase| {
            let mut value = HeaderValue::from_str(passphrase.expose()).map_err(|_| {
                Error::invalid_argument("the passphrase has characters that cannot be sent")
                    .with_hint("use only ASCII letters, digits, spaces and punctuation")
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let traffic = io.traffic().clone();
        let (requests, mut connection) = ClientConnection::open(io).await.map_err(|error| {
            Error::unavailable(format!("connecting to {}", options.address)).with_source(error)
        })?;
        let noted = traffic.clone();
        let closing = CancellationToken::new();
        let (ended, end) = watch::channel(None);
        let closed = closing.clone().cancelled_owned();
        let (silent, mut silence) = watch::channel(None);
        tokio::spawn(async move {
            let how = tokio::select! {
                outcome = &mut connection => {
                    tracing::debug!(error = ?outcome.err(), "nothing more comes from the exporter");
                    End::Lost
                }
                () = closed => {
                    // The connection ends in either case.
                    drop(tokio::time::timeout(FLUSH_LIMIT, flush(&mut connection, &noted)).await);
                    End::Closed
                }
                limit = wait_for(&mut silence) => End::Silent(limit),
            };
            tracing::debug!(?how, "the connection to the exporter ended");
            drop(connection);
            ended.send_replace(Some(how));
        });
        let authority = match &options.address {
            Address::Unix(_) => "localhost".to_owned(),
            tcp @ Address::Tcp { .. } => tcp.to_string(),
        };
        // Headers that cannot be sent with a call are reported here.
        grpc::request(Scheme::HTTP, &authority, Method::GetReport.path())?;
        Ok(Self {
            address: options.address.clone(),
            call_timeout: options.call_timeout,
            stall_timeout: options.stall_timeout,
            image_timeout: options.image_timeout,
            explanation: options.explanation.clone(),
            #[cfg(feature = "lab")]
            lease: options.lease.clone(),
            traffic,
            requests,
            authority,
            passphrase: passphrase.transpose()?,
            end,
            closing,
            silent,
            heartbeat: OnceLock::new(),
        })
    }

    /// Sends a request to an exporter that was silent for `interval`, and gives it up after the
    /// same time without an answer. Any byte counts as an answer, and data under way gets the time
    /// of a slow link.
    ///
    /// (HTTP/2's pings are not used: [`jumpstarter_protocol::python`] says why.)
    pub(crate) fn keep_alive(self: &Arc<Self>, interval: Duration) {
        let (weak, traffic) = (Arc::downgrade(self), self.traffic.clone());
        let task = tokio::spawn(async move {
            loop {
                let before = traffic.received_bytes();
                tokio::time::sleep(interval).await;
                if traffic.received_bytes() != before {
                    continue;
                }
                let under_way = Duration::from_secs(traffic.unanswered_bytes() / SLOWEST_LINK);
                let limit = interval.saturating_add(under_way);
                let Some(connection) = weak.upgrade() else { return };
                let Ok(request) = encode(&GetStatusRequest {}) else { return };
                let asking = connection.answer::<GetStatus>(request, MAX_MESSAGE);
                // Any answer counts, even an error.
                if tokio::time::timeout(limit, asking).await.is_err()
                    && traffic.received_bytes() == before
                {
                    connection.silent.send_replace(Some(interval.saturating_add(limit)));
                }
            }
        });
        self.heartbeat.get_or_init(|| task.abort_handle());
    }

    /// Ends the connection, and every call on it, after accepted data has reached the exporter, or
    /// after a second.
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

    /// The error of calls after `end`.
    pub(crate) fn error_of(&self, end: &End) -> Error {
        match end {
            End::Closed => Error::failed_precondition(format!(
                "the connection to the exporter at {} is closed",
                self.address
            )),
            End::Silent(limit) => {
                Error::unavailable(format!("the exporter at {} went away", self.address))
                    .with_source(Error::unavailable(format!(
                        "it gave no sign of life for {limit:?}"
                    )))
                    .with_hint(
                        "connect again when it is back: its machine, or the network to it, failed",
                    )
            }
            End::Lost => Error::unavailable(format!("the exporter at {} went away", self.address))
                .with_hint(
                    "connect again when it is back: it has ended, or the network to it failed",
                ),
        }
    }

    /// As [`error_of`](Self::error_of), with what who connected knows of it.
    pub(crate) async fn explanation_of(&self, end: &End) -> Error {
        if let (End::Lost, Some(Explanation(why))) = (end, &self.explanation)
            && let Ok(why) = tokio::time::timeout(GRACE, why.clone()).await
        {
            return why.again();
        }
        self.error_of(end)
    }

    /// The error of a failed call: the exporter's own, or the loss of the connection while `doing`.
    pub(crate) async fn explain(&self, error: CallError, doing: &str) -> Error {
        match error {
            CallError::Answer(error) => error,
            error => self.reason(error).await.context(doing),
        }
    }

    /// As [`explain`](Self::explain), for callers that add the context themselves.
    pub(crate) async fn reason(&self, error: CallError) -> Error {
        match error {
            CallError::Answer(error) => error,
            CallError::Unreadable(error) => {
                let message =
                    format!("the exporter at {} answered what cannot be read", self.address);
                error.context(message)
            }
            error => match tokio::time::timeout(GRACE, self.ended()).await {
                Ok(end) => self.explanation_of(&end).await,
                Err(_) => Error::from(error)
                    .context(format!("the exporter at {} broke off the call", self.address)),
            },
        }
    }

    /// The error of an endless stream that ended: the exporter is stopping or was lost.
    pub(crate) async fn explain_end(&self, doing: &str) -> Error {
        let error = match tokio::time::timeout(GRACE, self.ended()).await {
            Ok(end) => self.explanation_of(&end).await,
            Err(_) => Error::unavailable(format!("the exporter at {} is ending", self.address))
                .with_hint("connect again when it is back"),
        };
        error.context(doing)
    }

    /// Starts a call; the first half sends.
    pub(crate) async fn open<R: Rpc>(
        &self,
        metadata: Vec<(&'static str, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Result<(Outgoing, Messages<R::Answer>), CallError> {
        self.open_for::<R>(metadata, body, MAX_MESSAGE).await
    }

    /// As [`open`](Self::open), with a limit for the messages of the answer.
    async fn open_for<R: Rpc>(
        &self,
        metadata: Vec<(&'static str, HeaderValue)>,
        body: Option<Bytes>,
        max_message_bytes: usize,
    ) -> Result<(Outgoing, Messages<R::Answer>), CallError> {
        let request = grpc::request(Scheme::HTTP, &self.authority, R::PATH);
        let mut request = request.map_err(CallError::Broken)?;
        let headers = request.headers_mut();
        let passphrase = self.passphrase.iter().map(|value| (PASSPHRASE, value.clone()));
        headers.extend(
            passphrase.chain(metadata).map(|(name, value)| (HeaderName::from_static(name), value)),
        );
        let (answer, mut sending) = self.requests.send(request).await?;
        if let Some(body) = body {
            // An exporter that refuses a call may have ended it already; its answer says so.
            drop(sending.end_after(body));
        }
        let messages = Messages::new(answer.await?, max_message_bytes)?;
        Ok((sending, messages))
    }

    /// A call with one answer, within the call timeout. Dropping the future cancels it. `doing` is
    /// the context of its errors.
    pub(crate) async fn unary<R: Rpc>(
        &self,
        request: &R::Request,
        doing: &str,
    ) -> Result<R::Answer> {
        self.in_time(self.unlimited::<R>(request, doing), doing).await
    }

    /// As [`unary`](Self::unary), without a timeout.
    pub(crate) async fn unlimited<R: Rpc>(
        &self,
        request: &R::Request,
        doing: &str,
    ) -> Result<R::Answer> {
        let request = encode(request).context(doing)?;
        match self.answer::<R>(request, MAX_MESSAGE).await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.explain(error, doing).await),
        }
    }

    /// The first call, which fetches the report: the caller explains its failure.
    pub(crate) async fn first(&self) -> Result<<GetReport as Rpc>::Answer, CallError> {
        let request = encode(&()).map_err(CallError::Broken)?;
        self.answer::<GetReport>(request, MAX_REPORT).await
    }

    async fn answer<R: Rpc>(
        &self,
        request: Bytes,
        max_message_bytes: usize,
    ) -> Result<R::Answer, CallError> {
        let (_, mut messages) =
            self.open_for::<R>(Vec::new(), Some(request), max_message_bytes).await?;
        let answer = messages.next().await.transpose()?;
        if let Some(Err(error)) = messages.next().await {
            return Err(error);
        }
        answer.ok_or_else(|| CallError::Unreadable(Error::internal("it answered nothing")))
    }

    /// A call with many answers; opening it has the call timeout.
    pub(crate) async fn streaming<R: Rpc>(
        &self,
        metadata: Vec<(&'static str, HeaderValue)>,
        request: &R::Request,
        doing: &str,
    ) -> Result<Messages<R::Answer>> {
        let request = encode(request).context(doing)?;
        let opening = async {
            match self.open::<R>(metadata, Some(request)).await {
                Ok((_, messages)) => Ok(messages),
                Err(error) => Err(self.explain(error, doing).await),
            }
        };
        self.in_time(opening, doing).await
    }

    /// Awaits `call` within the call timeout.
    pub(crate) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T>>,
        doing: &str,
    ) -> Result<T> {
        self.within(self.call_timeout, call, doing).await
    }

    /// Awaits `call` for at most `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
        doing: &str,
    ) -> Result<T> {
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
            let message =
                format!("{doing}: the exporter at {} did not answer within {limit:?}", self.address);
            Err(Error::deadline_exceeded(message).with_hint(
                "check whether the driver is busy or hangs, or set a longer limit for the connection",
            ))
        })
    }
}

/// Sends accepted data, and waits until the other side has read it.
async fn flush<T: Transport>(connection: &mut ClientConnection<Noting<T>>, traffic: &Traffic) {
    let sending = poll_fn(|cx| match connection.poll_unpin(cx) {
        Poll::Ready(_) => Poll::Ready(false),
        // It waits for the other side: everything is sent unless the system's buffer is full.
        Poll::Pending if !traffic.is_writing() => Poll::Ready(true),
        Poll::Pending => Poll::Pending,
    });
    if sending.await {
        connection.acknowledged().await;
    }
}

/// Waits until there is a value; for ever if none will come.
async fn wait_for(values: &mut watch::Receiver<Option<Duration>>) -> Duration {
    if let Ok(value) = values.wait_for(Option::is_some).await
        && let Some(value) = *value
    {
        return value;
    }
    std::future::pending().await
}
