//! The little of an HTTP client that images need: one connection a request, redirects by our own rules.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::http::Piece;
use crate::url::Url;

const MAX_REDIRECTS: usize = 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A server may think for longer about what it was sent.
const STORE_LIMIT: Duration = Duration::from_secs(300);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The headers of a presigned request.
#[derive(Clone)]
pub(super) struct Headers(HeaderMap);

impl Headers {
    pub(super) fn new(given: &[(String, String)]) -> Result<Self> {
        // These are the connection's business, and ours.
        const OURS: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
            let Some((name, mut value)) = parsed else {
                return Err(Error::invalid_argument("a header of the presigned request is not usable")
                    .with_hint("names are words, values have no line breaks"));
            };
            if !OURS.contains(&name.as_str()) {
                value.set_sensitive(true);
                headers.append(name, value);
            }
        }
        Ok(Self(headers))
    }

    /// Leaves what another origin may see.
    fn for_strangers(self) -> Self {
        let secret = |name: &str| {
            ["authorization", "proxy-authorization", "cookie"].contains(&name)
                || ["x-amz-", "x-goog-", "x-ms-"].iter().any(|prefix| name.starts_with(prefix))
        };
        let mut left = HeaderMap::new();
        for (name, value) in &self.0 {
            if !secret(name.as_str()) {
                left.append(name, value.clone());
            }
        }
        Self(left)
    }
}

/// What the URL holds; redirects are followed.
pub(super) async fn get(mut url: Url, mut headers: Headers) -> Result<BoxStream<'static, io::Result<Bytes>>> {
    for _ in 0..=MAX_REDIRECTS {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let sent = tokio::time::timeout(ANSWER_LIMIT, send(Method::GET, &url, &headers, body));
        let response = sent.await.unwrap_or_else(|_| Err(late("answer", ANSWER_LIMIT)))?;
        match response.status() {
            StatusCode::OK => return Ok(chunks(response)),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => {
                let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
                let location = location.ok_or_else(|| {
                    Error::new(ErrorKind::Unavailable, format!("{url} redirects without saying where to"))
                })?;
                let next = url.join(location).with_context(|| format!("following the redirect of {url}"))?;
                if !next.same_origin(&url) {
                    headers = headers.for_strangers();
                }
                url = next;
            }
            status => return Err(refused(&url, status)),
        }
    }
    Err(Error::unavailable(format!("{url} redirects more than {MAX_REDIRECTS} times")))
}

/// Sends the pieces, up to the one that says that it was the last.
pub(super) async fn put(url: Url, headers: Headers, pieces: mpsc::Receiver<Piece>) -> Result<()> {
    let frames = stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Piece::Data(data)) => Some((Ok(Frame::data(data)), Some(pieces))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the dump broke off")), None)),
        }
    });
    let body = StreamBody::new(frames).boxed_unsync();
    let response = send(Method::PUT, &url, &headers, body).await?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(refused(&url, status)),
    }
}

fn late(what: &str, limit: Duration) -> Error {
    Error::deadline_exceeded(format!("the server did not {what} within {} s", limit.as_secs()))
}

fn refused(url: &Url, status: StatusCode) -> Error {
    let kind = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
        status if status.is_server_error() => ErrorKind::Unavailable,
        _ => ErrorKind::FailedPrecondition,
    };
    Error::new(kind, format!("{url} answers {status}"))
}

fn broken(error: hyper::Error) -> Error {
    Error::unavailable("the connection to the server broke").with_source(error)
}

/// The body of an answer; it ends the connection with itself.
fn chunks(response: Response<(Incoming, Driving)>) -> BoxStream<'static, io::Result<Bytes>> {
    let (body, driving) = response.into_body();
    let data = BodyStream::new(body).filter_map(move |frame| {
        let _alive = &driving;
        let data = frame.map(|frame| frame.into_data().ok()).map_err(|error| {
            let error = Error::data_loss("the download broke off").with_source(error);
            io::Error::from(error.with_hint("get it again; the link may be good for one download only"))
        });
        futures_util::future::ready(data.transpose())
    });
    StreamExt::boxed(data)
}

/// The task of a connection, which ends with its owner.
struct Driving(tokio::task::JoinHandle<()>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(
    method: Method,
    url: &Url,
    headers: &Headers,
    body: Body,
) -> Result<Response<(Incoming, Driving)>> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, connect(url));
    let connection = connecting.await.unwrap_or_else(|_| Err(late("accept a connection", CONNECT_LIMIT)))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let driving = Driving(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection for an image ended");
        }
    }));
    let uploading = method == Method::PUT;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() =
        url.target.parse().map_err(|_| Error::invalid_argument(format!("{url} is not usable")))?;
    *request.headers_mut() = headers.0.clone();
    let host = HeaderValue::try_from(url.authority());
    let host = host.map_err(|_| Error::invalid_argument(format!("the host of {url} is not usable")))?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("jumpstarter"));
    let answer = sender.send_request(request);
    let response = match uploading {
        // The time of the upload itself is the dumping driver's; a server that hangs is seen by its silence.
        true => answer.await,
        false => tokio::time::timeout(STORE_LIMIT, answer).await.map_err(|_| late("answer", STORE_LIMIT))?,
    };
    Ok(response.map_err(broken)?.map(|body| (body, driving)))
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

async fn connect(url: &Url) -> Result<Box<dyn Connection>> {
    let doing = || format!("connecting to {}", url.authority());
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.with_context(doing)?;
    stream.set_nodelay(true).with_context(doing)?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(url.host.clone())
        .map_err(|_| Error::invalid_argument(format!("{} is not a host", url.host)))?;
    let stream = TlsConnector::from(trust().await?).connect(name, stream).await.with_context(doing)?;
    Ok(Box::new(stream))
}

/// The system's certificate authorities, or those of the file that SSL_CERT_FILE names.
async fn trust() -> Result<Arc<ClientConfig>> {
    static CONFIG: tokio::sync::OnceCell<Arc<ClientConfig>> = tokio::sync::OnceCell::const_new();
    let load = || async {
        let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let loaded =
            loaded.await.map_err(|error| Error::internal("reading certificates").with_source(error))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(loaded.certs);
        if roots.is_empty() {
            return Err(Error::failed_precondition("this system has no certificate authorities")
                .with_hint("install ca-certificates, or name a file in SSL_CERT_FILE"));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(
            tokio_rustls::rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("setting up TLS").with_source(error))?;
        Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    };
    CONFIG.get_or_try_init(load).await.cloned()
}
