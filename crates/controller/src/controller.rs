//! Calls to a controller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt, Secret};
use jumpstarter_protocol::{CallError, ClientTls, Messages, Rpc, encode};
use tokio::sync::Mutex;

use crate::connection::Connection;
use crate::{ControllerOptions, Endpoint, Identity, Kind, Pauses, Refusal, Tunnel};

/// A controller, reached as one exporter or client. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Controller(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: ControllerOptions,
    tls: ClientTls,
    connection: Mutex<Option<Connection>>,
}

impl Controller {
    /// Prepares calls. The first one connects.
    ///
    /// # Errors
    /// `InvalidArgument` for certificates that cannot be trusted, `FailedPrecondition` for a system
    /// without any.
    pub fn new(options: ControllerOptions) -> Result<Self> {
        let tls = options.trust.tls()?;
        Ok(Self(Arc::new(Shared { options, tls, connection: Mutex::new(None) })))
    }

    /// The same controller with a separate connection: a connection belongs to the runtime that
    /// opened it.
    #[must_use]
    pub fn with_separate_connection(&self) -> Self {
        let (options, tls) = (self.0.options.clone(), self.0.tls.clone());
        Self(Arc::new(Shared { options, tls, connection: Mutex::new(None) }))
    }

    /// The controller's address.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.options.endpoint
    }

    /// Who calls.
    pub fn identity(&self) -> &Identity {
        &self.0.options.identity
    }

    /// Makes a call, with one attempt. Dropping the future cancels it.
    ///
    /// # Errors
    /// The controller's own error; `Unavailable` without a connection; `DeadlineExceeded` after the
    /// limit of the options. Each says which controller it is about.
    pub async fn call<R: Rpc>(&self, request: &R::Request) -> Result<R::Answer> {
        let limit = self.0.options.call_limit;
        self.call_within::<R>(request, limit).await
    }

    /// As [`call`](Self::call), with another limit.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_within<R: Rpc>(
        &self,
        request: &R::Request,
        limit: Duration,
    ) -> Result<R::Answer> {
        let doing = || self.doing::<R>();
        let request = encode(request).with_context(doing)?;
        let answer = tokio::time::timeout(limit, self.answer::<R>(request)).await;
        answer
            .unwrap_or_else(|_| {
                Err(Error::deadline_exceeded(format!("no answer within {limit:?}")))
            })
            .with_context(doing)
            .map_err(|error| self.advised(error))
    }

    /// An error about a client's token, with what to do.
    fn advised(&self, error: Error) -> Error {
        let hint = match Refusal::of(&error) {
            _ if self.identity().kind() != Kind::Client || error.hint().is_some() => return error,
            Some(Refusal::Expired) => {
                "log in again with `jmp login`, or ask who runs the lab for a new token"
            }
            // `permission denied` without more is about another client's lease.
            Some(Refusal::Denied)
                if error.kind() != ErrorKind::Unknown
                    || !format!("{error:#}").contains("permission denied") =>
            {
                "log in with `jmp login`, or check the client's name, namespace and token"
            }
            _ => return error,
        };
        error.with_hint(hint)
    }

    /// As [`call`](Self::call), and again while the controller is away or does not answer, for at
    /// most `patience`.
    ///
    /// # Errors
    /// As [`call`](Self::call): the error of the last attempt.
    pub async fn call_patiently<R: Rpc>(
        &self,
        request: &R::Request,
        patience: Duration,
    ) -> Result<R::Answer> {
        let end = tokio::time::Instant::now() + patience;
        let mut pauses = Pauses::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            let error = match self.call::<R>(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = pauses.next_pause();
            if !is_passing(&error) || tokio::time::Instant::now() + pause > end {
                return Err(error);
            }
            tracing::debug!(%error, "a call to the controller is tried again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows a stream of messages. It returns once the request is sent: the answer may begin
    /// hours later.
    ///
    /// # Errors
    /// `Unavailable` without a connection; the controller's own error comes from the stream.
    pub async fn follow<R: Rpc>(&self, request: &R::Request) -> Result<Followed<R::Answer>> {
        let doing = || self.doing::<R>();
        let request = encode(request).with_context(doing)?;
        let opening = async {
            let connection = self.connection().await?;
            let metadata = self.identity().metadata()?;
            let started = connection.caller().start::<R>(metadata, Some(request)).await;
            let (sending, messages) = started.map_err(lost)?;
            Ok(Followed { messages, _sending: sending, doing: doing() })
        };
        let limit = self.0.options.call_limit;
        let opened = tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(Error::deadline_exceeded(format!("no connection within {limit:?}")))
        });
        opened.with_context(doing)
    }

    /// Opens the tunnel that a `Dial` or a `Listen` named.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no endpoint; `Unavailable` without a connection. What the
    /// router itself answers comes from reading the tunnel.
    pub async fn tunnel(&self, router: &str, token: &Secret) -> Result<Tunnel> {
        let doing = || format!("opening a tunnel through the router {router}");
        let endpoint: Endpoint = router.parse().with_context(doing)?;
        let options = &self.0.options;
        let opening =
            Tunnel::open(&endpoint, &options.trust, &self.0.tls, options.keepalive, token);
        opening.await.with_context(doing)
    }

    pub(crate) fn options(&self) -> &ControllerOptions {
        &self.0.options
    }

    pub(crate) fn tls(&self) -> &ClientTls {
        &self.0.tls
    }

    fn doing<R: Rpc>(&self) -> String {
        let method = R::PATH.rsplit('/').next().unwrap_or(R::PATH);
        format!("{method} at the controller {}", self.endpoint())
    }

    async fn answer<R: Rpc>(&self, request: Bytes) -> Result<R::Answer> {
        let connection = self.connection().await?;
        let metadata = self.identity().metadata()?;
        let started = connection.caller().start::<R>(metadata, Some(request)).await;
        let (_sending, mut messages) = started.map_err(lost)?;
        let read = async {
            let answer = messages.next().await.transpose()?;
            if let Some(Err(error)) = messages.next().await {
                return Err(error);
            }
            answer.ok_or_else(|| CallError::Unreadable(Error::internal("it answered nothing")))
        };
        read.await.map_err(lost)
    }

    /// The connection, or a new one in place of one that has ended.
    async fn connection(&self) -> Result<Connection> {
        let mut kept = self.0.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let options = &self.0.options;
        let endpoint = &options.endpoint;
        let connection =
            Connection::open(endpoint, &options.trust, &self.0.tls, options.keepalive).await?;
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

/// The error of a call on a connection: the other side's own, or `Unavailable`.
pub(crate) fn lost(error: CallError) -> Error {
    match error {
        CallError::Broken(error) => {
            Error::unavailable("the connection was lost").with_source(error)
        }
        error => error.into(),
    }
}

/// Whether another attempt may succeed: the other side is away, or does not answer.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}

/// The messages of a stream that a controller sends. Dropping it cancels the call.
#[derive(Debug)]
pub struct Followed<T> {
    messages: Messages<T>,
    _sending: jumpstarter_protocol::Outgoing,
    doing: String,
}

impl<T: prost::Message + Default> Followed<T> {
    /// The next message; `None` once the controller ended the stream without an error. May be
    /// cancelled.
    ///
    /// # Errors
    /// The controller's error, or `Unavailable` for a lost connection. Nothing follows it.
    pub async fn next(&mut self) -> Result<Option<T>> {
        let message = self.messages.next().await.transpose();
        message.map_err(lost).with_context(|| self.doing.clone())
    }
}
