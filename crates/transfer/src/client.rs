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
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

use crate::http::Piece;
use crate::url::Url;

const MAX_REDIRECTS: usize = 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A server that is asked whether it wants an upload has so long to redirect it; then the upload begins.
const CONTINUE_LIMIT: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The headers of a presigned request.
#[derive(Clone)]
pub(super) struct Headers(HeaderMap);

impl Headers {
    pub(super) fn new(given: &[(String, String)]) -> Result<Self> {
        // These are the connection's business, and ours.
        const OURS: [&str; 5] = ["host", "connection", "content-length", "transfer-encoding", "expect"];
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
pub(super) async fn get(url: Url, headers: Headers) -> Result<BoxStream<'static, io::Result<Bytes>>> {
    let mut way = Way { url, headers };
    for _ in 0..=MAX_REDIRECTS {
        let asked = async {
            let request =
                way.request(Method::GET, Empty::new().map_err(|never| match never {}).boxed_unsync())?;
            let (mut sender, driving) = open(&way.url).await?;
            Ok(sender.send_request(request).await.map_err(broken)?.map(|body| (body, driving)))
        };
        let response = tokio::time::timeout(ANSWER_LIMIT, asked).await;
        let response = response.unwrap_or_else(|_| Err(late("answer", ANSWER_LIMIT)))?;
        match response.status() {
            StatusCode::OK => return Ok(chunks(response)),
            status if redirects(status) => way = way.follow(response.headers())?,
            status => return Err(refused(&way.url, status)),
        }
    }
    Err(way.endless())
}

/// Sends the pieces, up to the one that says that it was the last; `length` bytes, where that is given.
///
/// Redirects are followed that come before anything was sent: the server is asked first.
pub(super) async fn put(
    url: Url,
    headers: Headers,
    length: Option<u64>,
    pieces: mpsc::Receiver<Piece>,
) -> Result<()> {
    let mut way = Way { url, headers };
    let pieces = Arc::new(Mutex::new(pieces));
    for _ in 0..=MAX_REDIRECTS {
        let begin = CancellationToken::new();
        let mut request = way.request(Method::PUT, upload_body(pieces.clone(), length, begin.clone()))?;
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let wanted = begin.clone();
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                wanted.cancel();
            }
        });
        let (mut sender, _driving) = open(&way.url).await?;
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let response = tokio::select! {
            response = &mut answer => response,
            () = tokio::time::sleep(CONTINUE_LIMIT) => {
                // Many servers do not know the question: they wait for what is sent.
                begin.cancel();
                answer.await
            }
        };
        let response = response.map_err(broken)?;
        match response.status() {
            status if status.is_success() => {
                // With a length, the end mark was not asked for.
                return match pieces.lock().await.try_recv() {
                    Ok(Piece::Data(_)) => Err(Error::data_loss(format!(
                        "{} answers {status} before it had everything",
                        way.url
                    ))),
                    _ => Ok(()),
                };
            }
            status if redirects(status) && !begin.is_cancelled() => way = way.follow(response.headers())?,
            status => return Err(refused(&way.url, status)),
        }
    }
    Err(way.endless())
}

/// The body of an upload, which is not touched before `begin`.
fn upload_body(
    pieces: Arc<Mutex<mpsc::Receiver<Piece>>>,
    length: Option<u64>,
    begin: CancellationToken,
) -> Body {
    let frames = stream::unfold(Some(length), move |state| {
        let (pieces, begin) = (pieces.clone(), begin.clone());
        async move {
            let left = state?;
            begin.cancelled().await;
            let failed = |message: &str| Some((Err(io::Error::other(message.to_owned())), None));
            match (pieces.lock().await.recv().await, left) {
                (Some(Piece::Data(data)), None) => Some((Ok(Frame::data(data)), Some(None))),
                (Some(Piece::Data(data)), Some(left)) => match left.checked_sub(data.len() as u64) {
                    Some(left) => Some((Ok(Frame::data(data)), Some(Some(left)))),
                    None => failed("the image is larger than the content-length of the presigned request"),
                },
                (Some(Piece::End), None | Some(0)) => None,
                (Some(Piece::End), Some(_)) => {
                    failed("the image is smaller than the content-length of the presigned request")
                }
                (None, _) => failed("the dump broke off"),
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// Where a request goes, and with which headers: redirects change both.
struct Way {
    url: Url,
    headers: Headers,
}

impl Way {
    fn request(&self, method: Method, body: Body) -> Result<Request<Body>> {
        let url = &self.url;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() =
            url.target.parse().map_err(|_| Error::invalid_argument(format!("{url} is not usable")))?;
        *request.headers_mut() = self.headers.0.clone();
        let host = HeaderValue::try_from(url.authority());
        let host = host.map_err(|_| Error::invalid_argument(format!("the host of {url} is not usable")))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("jumpstarter"));
        Ok(request)
    }

    fn follow(self, answered: &HeaderMap) -> Result<Self> {
        let Self { url, mut headers } = self;
        let location = answered.get(LOCATION).and_then(|location| location.to_str().ok());
        let location =
            location.ok_or_else(|| Error::unavailable(format!("{url} redirects without saying where to")))?;
        let next = url.join(location).with_context(|| format!("following the redirect of {url}"))?;
        if !next.same_origin(&url) {
            headers = headers.for_strangers();
        }
        Ok(Self { url: next, headers })
    }

    fn endless(&self) -> Error {
        Error::unavailable(format!("{} redirects more than {MAX_REDIRECTS} times", self.url))
    }
}

fn redirects(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
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

/// A connection for one request.
async fn open(url: &Url) -> Result<(SendRequest<Body>, Driving)> {
    let connecting = tokio::time::timeout(CONNECT_LIMIT, connect(url));
    let connection = connecting.await.unwrap_or_else(|_| Err(late("accept a connection", CONNECT_LIMIT)))?;
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(broken)?;
    let driving = Driving(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection for an image ended");
        }
    }));
    Ok((sender, driving))
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
