//! The answer to one request.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use jumpstarter_driver_core::{blocking, http_date, parse_http_date};
use jumpstarter_files::{ConfinedFolder, InnerPath};

use crate::range::Part;

/// How much of a file is read at once.
const PIECE: u64 = 256 * 1024;

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers a request: files are sent, folders are not listed.
pub(crate) async fn answer<B>(request: &Request<B>, folder: Arc<ConfinedFolder>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED);
        answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let Some(path) = path(request.uri().path()) else { return refusal(StatusCode::NOT_FOUND) };
    let opened = blocking(move || {
        let file = folder.read(&path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata))
    });
    match opened.await {
        Ok((file, metadata)) => send(request, file, &metadata),
        Err(error) => {
            tracing::debug!(path = request.uri().path(), error = %error.report(), "not served");
            refusal(status(error.kind()))
        }
    }
}

/// The file that a URL's path means; none for one that leads out of the folder.
fn path(text: &str) -> Option<InnerPath> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    InnerPath::new(&text).ok()
}

fn status(kind: jumpstarter_driver_core::ErrorKind) -> StatusCode {
    use jumpstarter_driver_core::ErrorKind;
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        // A folder, a device, a link that leads out.
        ErrorKind::InvalidArgument | ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let text = format!("{status}\n");
    let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, text);
    answer
}

fn send<B>(request: &Request<B>, file: File, metadata: &Metadata) -> Response<Body> {
    let (length, tag) = (metadata.len(), tag(metadata));
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, tag.clone());
    set(header::LAST_MODIFIED, http_date(modified));
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    let sent = request.headers();
    if is_unchanged(sent, &tag, modified) {
        return respond(StatusCode::NOT_MODIFIED, headers, empty());
    }
    let part = match text(sent, &header::RANGE) {
        Some(range) if range_applies(sent, &tag, modified) => Part::of(range, length),
        _ => Part::Whole,
    };
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let (status, first, count) = match part {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Bytes(first, last) => {
            set(header::CONTENT_RANGE, format!("bytes {first}-{last}/{length}"));
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        Part::Unsatisfiable => {
            set(header::CONTENT_RANGE, format!("bytes */{length}"));
            return respond(StatusCode::RANGE_NOT_SATISFIABLE, headers, empty());
        }
    };
    set(header::CONTENT_LENGTH, count.to_string());
    set(header::CONTENT_TYPE, "application/octet-stream".to_owned());
    let is_head = request.method() == Method::HEAD;
    respond(status, headers, if is_head { empty() } else { bytes(file, first, count) })
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Changes with the file: a file that is replaced has another number.
fn tag(metadata: &Metadata) -> String {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!("\"{:x}-{:x}-{seconds:x}.{nanoseconds:x}\"", metadata.ino(), metadata.len())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the client has this file already.
fn is_unchanged(sent: &HeaderMap, tag: &str, modified: SystemTime) -> bool {
    if let Some(tags) = text(sent, &header::IF_NONE_MATCH) {
        let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
        return tags.any(|one| one == tag || one == "*");
    }
    let since = text(sent, &header::IF_MODIFIED_SINCE).and_then(parse_http_date);
    // HTTP's times have whole seconds.
    since.is_some_and(|since| modified < since + Duration::from_secs(1))
}

/// Whether the range is of this file: a download goes on only with the file that it began with.
fn range_applies(sent: &HeaderMap, tag: &str, modified: SystemTime) -> bool {
    match text(sent, &header::IF_RANGE) {
        None => true,
        Some(condition) if condition.starts_with('"') => condition == tag,
        Some(condition) => condition == http_date(modified),
    }
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

/// The bytes of a file from `first`, `count` of them. One that shrinks meanwhile breaks the answer
/// off.
fn bytes(file: File, first: u64, count: u64) -> Body {
    let pieces = stream::try_unfold((file, first, count), async |(mut file, first, left)| {
        if left == 0 {
            return Ok(None);
        }
        let read = blocking(move || {
            file.seek(SeekFrom::Start(first))?;
            let mut piece = Vec::with_capacity(left.min(PIECE) as usize);
            (&mut file).take(left.min(PIECE)).read_to_end(&mut piece)?;
            if piece.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Ok((file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::from)?;
        let length = piece.len() as u64;
        Ok(Some((Frame::data(Bytes::from(piece)), (file, first + length, left - length))))
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}
