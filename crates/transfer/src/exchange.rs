//! One request and its answer, on one connection.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// So many interim answers (1xx) may come before the answer.
const MAX_INTERIM: usize = 16;
/// The largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;

/// A connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The body of a request that has none.
pub(crate) fn nothing() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// The task of a connection, which ends with its owner.
pub(crate) struct Driving(tokio::task::JoinHandle<()>);

impl Driving {
    pub(crate) fn new(
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        Self(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for an image ended");
            }
        }))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer; its connection ends with it.
pub(crate) type Answer = Response<(Incoming, Driving)>;

/// Sends `request` and waits for the answer. `go_on` is cancelled when the server asks for the
/// body.
pub(crate) async fn exchange(
    io: impl Io,
    mut request: Request<Body>,
    go_on: CancellationToken,
) -> Result<Answer> {
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(broken)?;
    let driving = Driving::new(connection);
    let flooded = CancellationToken::new();
    let (flood, interim) = (flooded.clone(), AtomicUsize::new(0));
    hyper::ext::on_informational(&mut request, move |answer| {
        if answer.status() == StatusCode::CONTINUE {
            go_on.cancel();
        }
        if interim.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            flood.cancel();
        }
    });
    tokio::select! {
        biased;
        () = flooded.cancelled() => {
            Err(Error::unavailable("the server sends interim answers (1xx) without end"))
        }
        answer = sender.send_request(request) => Ok(answer.map_err(broken)?.map(|body| (body, driving))),
    }
}

/// The whole body of an answer.
///
/// # Errors
/// `ResourceExhausted`: it has more than `limit` bytes. `Unavailable`: it breaks off.
pub(crate) async fn whole(answer: Answer, limit: usize) -> Result<Vec<u8>> {
    let (mut incoming, _driving) = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            let message = format!("it has more than {} KiB", limit / 1024);
            return Err(Error::resource_exhausted(message));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

pub(crate) fn broken(error: hyper::Error) -> Error {
    Error::unavailable("the connection to the server broke").with_source(error)
}
