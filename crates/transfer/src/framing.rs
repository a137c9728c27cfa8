//! The headers that say how a body is encoded and where it ends.

use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Error, Result};

use crate::url::Url;

/// Whether the body has a length or an end mark. Without, it ends with the connection.
pub(crate) fn says_its_end(url: &Url, headers: &HeaderMap) -> Result<bool> {
    let codings = words(headers, TRANSFER_ENCODING);
    match codings.as_slice() {
        [] => Ok(headers.contains_key(CONTENT_LENGTH)),
        [only] if only == "chunked" => Ok(true),
        _ => Err(unreadable(url, "transfer-encoding", &codings)),
    }
}

/// How the body is encoded besides. A file `os.img.gz` that a server calls "os.img, in gzip" is the
/// file as it is.
pub(crate) fn coding(url: &Url, headers: &HeaderMap) -> Result<Option<Encoding>> {
    let mut codings = words(headers, CONTENT_ENCODING);
    // Stores keep the name of the framing in which an SDK sent them an object; it is not how they
    // give it.
    codings.retain(|coding| coding != "identity" && coding != "aws-chunked");
    let (encoding, extensions) = match codings.as_slice() {
        [] => return Ok(None),
        [only] => match only.strip_prefix("x-").unwrap_or(only) {
            "gzip" => (Encoding::Gzip, ["gz", "tgz"]),
            "zstd" => (Encoding::Zstd, ["zst", "tzst"]),
            "xz" => (Encoding::Xz, ["xz", "txz"]),
            "bzip2" => (Encoding::Bz2, ["bz2", "tbz2"]),
            _ => return Err(unreadable(url, "content-encoding", &codings)),
        },
        _ => return Err(unreadable(url, "content-encoding", &codings)),
    };
    let extension =
        url.path().rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let is_the_file = extension.is_some_and(|extension| extensions.contains(&extension.as_str()));
    Ok((!is_the_file).then_some(encoding))
}

fn unreadable(url: &Url, header: &str, codings: &[String]) -> Error {
    let codings = codings.join(", ");
    let codings = jumpstarter_text::truncated(&codings, 80);
    let codings = jumpstarter_text::line(&codings);
    Error::failed_precondition(format!(
        "{url} has the {header} `{codings}`, which is not read here"
    ))
    .with_hint("have the server send the file as it is, or in gzip or zstd")
}

/// The words of a header that is a list, in lower case.
pub(crate) fn words(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let lists = headers
        .get_all(name)
        .into_iter()
        .map(|list| String::from_utf8_lossy(list.as_bytes()).to_lowercase());
    let words = lists
        .flat_map(|list| list.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>());
    words.filter(|word| !word.is_empty()).collect()
}
