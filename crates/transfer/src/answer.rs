//! An answer's description of itself, and whether it can be an image that arrives completely.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, TRANSFER_ENCODING};
use jumpstarter_codec::{FOREIGN_SIGNATURE, foreign};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::{Error, Result};

use crate::decode::{Chunks, decode};
use crate::exchange::Answer;
use crate::framing::{coding, says_its_end, words};
use crate::proof::proved;
use crate::resume::{body, resuming};
use crate::url::Url;
use crate::way::Way;

/// An image that begins to arrive.
pub(crate) struct Image {
    pub(crate) chunks: Chunks,
    /// How many bytes it will be, if the server says so.
    pub(crate) length: Option<u64>,
}

/// The image that an answer holds.
///
/// # Errors
/// `DataLoss`: its end cannot be distinguished from a break, or there is nothing in it.
/// `FailedPrecondition`: it is a page of text, or encoded in a way that is not read here.
pub(crate) async fn image(way: Way, answer: Answer, is_checked: bool) -> Result<Image> {
    let headers = answer.headers().clone();
    let url = &way.url.clone();
    let says_its_end = says_its_end(url, &headers)?;
    let coding = coding(url, &headers)?;
    let length =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    let length = length.filter(|_| coding.is_none() && !headers.contains_key(TRANSFER_ENCODING));
    let chunks = match coding {
        // The next answer may be encoded otherwise.
        Some(coding) => decode(coding, body(answer)),
        None if says_its_end => resuming(way, answer, length, is_checked),
        None => body(answer),
    };
    let (start, chunks) = peek(chunks).await?;
    if start.is_empty() {
        return Err(Error::data_loss(format!("the answer of {url} is empty")));
    }
    refuse_page(url, &headers, &start, is_checked)?;
    let chunks = stream::iter([Ok(start.clone())]).chain(chunks).boxed();
    match Encoding::of_signature(&start) {
        _ if says_its_end || is_checked || coding.is_some() => Ok(Image { chunks, length }),
        Some(encoding) => Ok(Image { chunks: proved(encoding, chunks), length: None }),
        None => Err(Error::data_loss(format!(
            "{url} says neither how long the image is nor where it ends: its end cannot be distinguished from a break"
        ))
        .with_hint("have the server send a Content-Length, give the image's SHA-256, or compress the image")),
    }
}

/// The first bytes, and the rest.
async fn peek(mut chunks: Chunks) -> Result<(Bytes, Chunks)> {
    let mut start = Vec::new();
    while start.len() < FOREIGN_SIGNATURE
        && let Some(chunk) = chunks.try_next().await?
    {
        if start.is_empty() && chunk.len() >= FOREIGN_SIGNATURE {
            return Ok((chunk, chunks));
        }
        start.extend_from_slice(&chunk);
    }
    Ok((start.into(), chunks))
}

/// The type of a body without its parameters, in lower case; empty where none is given.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let kind = words(headers, CONTENT_TYPE).into_iter().next().unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_owned()
}

/// Refuses what servers send in place of an image: pages of a login, of an error, of a folder; and
/// a text that is shorter than a sector, unless a digest proves that it is what is wanted.
fn refuse_page(url: &Url, headers: &HeaderMap, start: &[u8], is_checked: bool) -> Result<()> {
    let kind = content_type(headers);
    let kind = kind.as_str();
    let is_page_type = matches!(
        kind,
        "text/html" | "application/xhtml+xml" | "text/xml" | "application/xml" | "application/json"
    ) || kind.ends_with("+json");
    let start = &start[..start.len().min(FOREIGN_SIGNATURE)];
    let is_text = start.iter().all(|byte| matches!(byte, b'\t'..=b'\r' | 0x1b | b' '..));
    if !(is_page_type && is_text || foreign(start).is_some_and(|foreign| foreign.is_page())) {
        return match is_text && kind.starts_with("text/") && !is_checked {
            true => refuse_text(url, kind, start),
            false => Ok(()),
        };
    }
    let kind = if kind.is_empty() { "of no said type" } else { &jumpstarter_text::line(kind) };
    Err(Error::failed_precondition(format!(
        "{url} answers with a page ({kind}), not with an image"
    ))
    .with_hint("open the URL in a browser: it may ask for a login, or be the page of a download"))
}

/// Refuses a text that is shorter than a sector, and warns of a longer one.
fn refuse_text(url: &Url, kind: &str, start: &[u8]) -> Result<()> {
    let kind = jumpstarter_text::line(kind);
    if start.len() >= FOREIGN_SIGNATURE {
        tracing::warn!("{url} answers with text ({kind}): it is taken for an image");
        return Ok(());
    }
    let text = String::from_utf8_lossy(start);
    let text = jumpstarter_text::truncated(text.trim(), 80);
    let text = jumpstarter_text::line(&text);
    let message = format!("{url} answers with a short text ({kind}), not with an image: `{text}`");
    Err(Error::failed_precondition(message)
        .with_hint("correct the URL; if the text is what you want, give its SHA-256"))
}
