//! One request for pictures, and as much of its answer as is wanted.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// The longest answer.
const MAX_ANSWER: usize = 16 << 20;

/// A request.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) target: &'a str,
    pub(crate) host: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
}

/// Asks, and reads the answer until it is enough or ends. The answer must be a success.
pub(crate) async fn get(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    asked: Asked<'_>,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> Result<Vec<u8>> {
    let Asked { target, host, headers } = asked;
    let mut request = Request::get(target).header(HOST, host).header(CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| Error::invalid_argument("the request is not usable").with_source(error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    // The connection ends with this call.
    let _driving = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(broken)?;
    if !answer.status().is_success() {
        return Err(refused(answer.status()));
    }
    let (mut incoming, mut body) = (answer.into_body(), Vec::new());
    while let Some(frame) = incoming.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            body.extend_from_slice(&data);
        }
        if is_enough(&body) {
            break;
        }
        if body.len() > MAX_ANSWER {
            let message = "the camera's answer has more than 16 MiB, and no complete picture";
            return Err(Error::resource_exhausted(message));
        }
    }
    Ok(body)
}

fn broken(error: hyper::Error) -> Error {
    Error::unavailable("the connection to the camera broke").with_source(error)
}

fn refused(status: StatusCode) -> Error {
    let kind = match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::FailedPrecondition,
    };
    let error = Error::new(kind, format!("the camera answers {status}"));
    match status.is_redirection() {
        true => error.with_hint("write the URL that it redirects to"),
        false => error,
    }
}
