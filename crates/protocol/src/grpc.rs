//! The headers of gRPC on HTTP/2
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use jumpstarter_driver_core::{Error, Result};

use crate::MessageEncoding;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(GRPC.as_bytes()))
}

/// Makes the head of a request for `path` from the server at `authority`. `scheme` is `https` over
/// TLS, else `http`.
///
/// # Errors
/// `Internal` for an authority that cannot be sent.
pub fn request(scheme: Scheme, authority: &str, path: &'static str) -> Result<Request<()>> {
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    let uri = uri
        .map_err(|error| Error::internal("the server's address is not a URI").with_source(error))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static("jumpstarter-rs"));
    Ok(request)
}

/// Whether a request is a call.
pub fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::POST && is_grpc(headers)
}

/// Makes the head of an answer.
pub fn response() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// Adds the accepted compressions of requests, for clients that use another one.
pub fn say_encodings(headers: &mut HeaderMap) {
    headers.insert("grpc-accept-encoding", HeaderValue::from_static(MessageEncoding::ACCEPTED));
}

/// Checks that an answer is one to a call.
///
/// # Errors
/// `Unimplemented` for an answer that is not gRPC.
pub fn check_response(status: StatusCode, headers: &HeaderMap) -> Result<()> {
    match status == StatusCode::OK && is_grpc(headers) {
        true => Ok(()),
        false => Err(Error::unimplemented(format!("it answers HTTP {status} instead of gRPC"))),
    }
}

/// The client's timeout of the call: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count =
        Some(digits).filter(|digits| (1..=8).contains(&digits.len()))?.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let limit = |text: &'static str| {
            timeout(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-timeout"),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(limit("5S"), Some(Duration::from_secs(5)));
        assert_eq!(limit("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(limit("250m"), Some(Duration::from_millis(250)));
        for wrong in ["", "S", "5", "5s", "123456789n", "-1S", "1 S"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }
}
