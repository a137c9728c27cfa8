//! One HTTP/2 connection over TLS, to a controller or a router.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::uri::Scheme;
use jumpstarter_driver_core::{Error, Result};
use jumpstarter_protocol::http2::{ClientConnection, Requests};
use jumpstarter_protocol::{
    CallError, CertificateFault, ClientTls, Messages, Outgoing, Rpc, TlsFailure, TlsFault, grpc,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::driven::Work;
use crate::gathered::Gathered;
use crate::options::Keepalive;
use crate::{Endpoint, Trust};

/// How long a name, a connection and the handshake of TLS may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// The longest accepted message: gRPC's default.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// Begins calls on a connection, which ends when this is dropped and its last call has ended.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    requests: Requests,
    authority: Arc<str>,
}

/// A connection that a separate task drives.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    caller: Caller,
    ended: CancellationToken,
}

impl Connection {
    /// Connects, through the environment's proxy if there is one.
    ///
    /// # Errors
    /// `Unavailable` and the like, with what was being done, and to whom.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        trust: &Trust,
        tls: &ClientTls,
        keepalive: Keepalive,
    ) -> Result<Self> {
        let (caller, work) = open(endpoint, trust, tls, keepalive).await?;
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = guard;
            work.await;
        });
        Ok(Self { caller, ended })
    }

    /// Whether it is open, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.ended.is_cancelled()
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }
}

/// Connects, through the environment's proxy if there is one. The caller drives the connection.
///
/// # Errors
/// `Unavailable` and the like, with what was being done, and to whom.
pub(crate) async fn open(
    endpoint: &Endpoint,
    trust: &Trust,
    tls: &ClientTls,
    keepalive: Keepalive,
) -> Result<(Caller, Work)> {
    let opening = async {
        let transport = Gathered::new(secure(endpoint, trust, tls).await?);
        let opened = ClientConnection::open(transport.clone()).await.map_err(|error| {
            Error::unavailable(format!("{endpoint} does not speak HTTP/2"))
                .with_source(Error::from(error))
        });
        Ok((opened?, transport))
    };
    let opened = tokio::time::timeout(CONNECT_LIMIT, opening).await.unwrap_or_else(|_| {
        let limit = CONNECT_LIMIT.as_secs();
        Err(Error::deadline_exceeded(format!("{endpoint} did not answer within {limit} s"))
            .with_hint("check the address, and whether a firewall drops the packets"))
    });
    let ((requests, mut connection), transport) = opened?;
    let name = endpoint.to_string();
    let caller = Caller { requests, authority: name.as_str().into() };
    let running = async move {
        let pings = connection.pings();
        let silence = async {
            let Some(mut pings) = pings else { return std::future::pending().await };
            loop {
                tokio::time::sleep(keepalive.interval).await;
                let answered = tokio::time::timeout(keepalive.timeout, pings.ping()).await;
                match answered {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return std::future::pending().await,
                    Err(_) => return,
                }
            }
        };
        tokio::select! {
            outcome = &mut connection => {
                tracing::debug!(endpoint = name, error = ?outcome.err(), "a connection ended");
            }
            () = silence => tracing::debug!(endpoint = name, "a connection is dead"),
        }
    };
    Ok((caller, Box::pin(sending(running, transport))))
}

/// Sends what the connection has gathered, each time it has run.
async fn sending(running: impl Future<Output = ()>, transport: Gathered<impl AsyncWrite + Unpin>) {
    let mut running = std::pin::pin!(running);
    poll_fn(|cx| {
        let ended = running.as_mut().poll(cx);
        match transport.poll_send(cx) {
            // It will not read anything more, either.
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => ended,
        }
    })
    .await;
}

impl Caller {
    /// Begins a call. With a `body` the request is whole; else the first half sends it. The answer
    /// may begin at any time.
    pub(crate) async fn start<R: Rpc>(
        &self,
        metadata: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<(Outgoing, Messages<R::Answer>), CallError> {
        let request = grpc::request(Scheme::HTTPS, &self.authority, R::PATH);
        let mut request = request.map_err(CallError::Broken)?;
        request.headers_mut().extend(metadata);
        let (answer, mut sending) = self.requests.send(request).await?;
        if let Some(body) = body {
            // A server that refuses a call may have ended it already; its answer says so.
            drop(sending.end_after(body));
        }
        Ok((sending, Messages::awaiting(answer, MAX_MESSAGE)))
    }
}

/// Connects, and makes TLS.
pub(crate) async fn secure(
    endpoint: &Endpoint,
    trust: &Trust,
    tls: &ClientTls,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + use<>> {
    let socket = jumpstarter_transfer::connect(endpoint.host(), endpoint.port()).await?;
    let secured = tls.connect(endpoint.host(), socket).await;
    secured.map_err(|error| explain(error, endpoint, trust))
}

/// Explains a failed handshake.
fn explain(error: io::Error, endpoint: &Endpoint, trust: &Trust) -> Error {
    let trusting = match trust {
        Trust::Authorities(_) => "`tls.ca` must hold the authority of its certificate",
        _ => {
            "set `tls.ca` to the authority of its certificate, or `tls.insecure: true` on a trusted network"
        }
    };
    let fault = TlsFailure::find(&error).map(|failure| failure.fault());
    let (message, hint) = match fault {
        Some(TlsFault::NotTls) => {
            (format!("{endpoint} does not speak TLS"), "check the port: a controller speaks TLS")
        }
        Some(TlsFault::Certificate(CertificateFault::Expired)) => (
            format!("the certificate of {endpoint} has expired"),
            "ask who runs the lab; the clock of this machine may also be wrong",
        ),
        Some(TlsFault::Certificate(CertificateFault::NotValidYet)) => (
            format!("the certificate of {endpoint} is not valid yet"),
            "check the clock of this machine",
        ),
        Some(TlsFault::Certificate(_)) => {
            (format!("the certificate of {endpoint} is not trusted"), trusting)
        }
        _ => (
            format!("the TLS handshake with {endpoint} failed"),
            "check the port, and that a controller listens there",
        ),
    };
    Error::unavailable(message).with_source(error).with_hint(hint)
}
