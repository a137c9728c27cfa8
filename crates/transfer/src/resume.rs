//! Downloads that continue after a break, if the rest is known to be of the same image.

use std::hash::Hasher;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hyper::StatusCode;
use hyper::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use twox_hash::XxHash3_64;

use crate::decode::Chunks;
use crate::exchange::Answer;
use crate::framing::{coding, says_its_end};
use crate::get::{Asked, ask};
use crate::way::Way;

/// How many times in a row the server may break off without a further byte.
const MAX_BREAKS: u32 = 3;
/// How many times in a row it may not answer, as while it restarts: about half a minute in total.
const MAX_SILENCES: u32 = 9;
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// The proof that a later answer is of the same image.
enum Identity {
    /// A strong entity tag (RFC 9110, section 8.8.3).
    Tag(HeaderValue),
    /// The digest of the whole image is compared with an expected one.
    Digest,
    /// A checksum of the delivered bytes: all of them are fetched again for comparison.
    Content(Box<XxHash3_64>),
}

impl Identity {
    fn new(headers: &HeaderMap, is_checked: bool) -> Self {
        let tag = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
        match tag {
            Some(tag) => Self::Tag(tag.clone()),
            None if is_checked => Self::Digest,
            None => Self::Content(Box::new(XxHash3_64::new())),
        }
    }
}

/// The body of `answer`, continued after breaks. `total` is its length, if it is known.
pub(crate) fn resuming(way: Way, answer: Answer, total: Option<u64>, is_checked: bool) -> Chunks {
    let identity = Identity::new(answer.headers(), is_checked);
    let chunks = body(answer);
    let download = Resumable { way, chunks, identity, total, delivered: 0, breaks: 0, resumed: 0 };
    stream::unfold(Some(download), Resumable::next).fuse().boxed()
}

/// The pieces of a body; its connection ends with it.
pub(crate) fn body(answer: Answer) -> Chunks {
    let (body, driving) = answer.into_body();
    let data = http_body_util::BodyStream::new(body).filter_map(move |frame| {
        let _alive = &driving;
        let data = frame.map(|frame| frame.into_data().ok()).map_err(|error| {
            let error = Error::data_loss("the download broke off").with_source(error);
            io::Error::from(
                error.with_hint("get it again; the link may be good for one download only"),
            )
        });
        futures_util::future::ready(data.transpose())
    });
    StreamExt::boxed(data)
}

struct Resumable {
    way: Way,
    chunks: Chunks,
    identity: Identity,
    total: Option<u64>,
    delivered: u64,
    /// Breaks since the last byte.
    breaks: u32,
    resumed: u64,
}

impl Resumable {
    async fn next(download: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut download = download?;
        loop {
            match download.chunks.next().await {
                None => {
                    if download.total.is_none_or(|total| download.delivered >= total) {
                        return None;
                    }
                    let broke = Error::data_loss("the download ended early");
                    if let Err(error) = download.resume(broke.into()).await {
                        return Some((Err(error), None));
                    }
                }
                Some(Ok(chunk)) => {
                    download.delivered += chunk.len() as u64;
                    download.breaks = 0;
                    if let Identity::Content(checksum) = &mut download.identity {
                        checksum.write(&chunk);
                    }
                    return Some((Ok(chunk), Some(download)));
                }
                Some(Err(broke)) => {
                    if let Err(error) = download.resume(broke).await {
                        return Some((Err(error), None));
                    }
                }
            }
        }
    }

    /// Fetches the rest, or returns why the download ends.
    async fn resume(&mut self, broke: io::Error) -> io::Result<()> {
        self.breaks += 1;
        // The end may have arrived: then the connection had extra bytes, or an error.
        if self.breaks > MAX_BREAKS || self.total.is_some_and(|total| self.delivered >= total) {
            return Err(broke);
        }
        self.resumed += 1;
        if self.resumed.is_power_of_two() {
            tracing::warn!(
                "the download of {} broke off after {} bytes; it goes on there (time {})",
                self.way.url,
                self.delivered,
                self.resumed
            );
        }
        // At once after progress; a server that breaks off again may need a moment.
        let mut delay = match self.breaks {
            1 => Duration::ZERO,
            breaks => FIRST_DELAY * 4_u32.pow(breaks),
        };
        for _ in 0..MAX_SILENCES {
            tokio::time::sleep(delay).await;
            match self.again().await {
                Ok(chunks) => {
                    self.chunks = chunks;
                    return Ok(());
                }
                Err(error) if is_passing(&error) => {
                    tracing::debug!(error = %error.report(), "resuming a download");
                }
                Err(error) => {
                    return Err(error.context("resuming a download that broke off").into());
                }
            }
            delay = (delay * 2).clamp(FIRST_DELAY, Duration::from_secs(8));
        }
        Err(broke)
    }

    /// Requests the rest.
    async fn again(&mut self) -> Result<Chunks> {
        let mut headers = HeaderMap::new();
        if !matches!(self.identity, Identity::Content(_)) {
            let range = HeaderValue::try_from(format!("bytes={}-", self.delivered));
            headers.insert(RANGE, range.map_err(|_| Error::internal("a range is no header"))?);
        }
        if let Identity::Tag(tag) = &self.identity {
            headers.insert(IF_RANGE, tag.clone());
        }
        let answer = ask(&mut self.way, Asked { headers, ..Asked::image() }).await?;
        if matches!(answer.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            self.check_ending(answer.headers())?;
        }
        match (answer.status(), &self.identity) {
            (StatusCode::PARTIAL_CONTENT, Identity::Tag(tag))
                if answer.headers().get(ETAG).is_some_and(|found| found != tag) =>
            {
                Err(self.changed())
            }
            (StatusCode::PARTIAL_CONTENT, Identity::Tag(_) | Identity::Digest) => {
                self.check_range(answer.headers())?;
                Ok(body(answer))
            }
            (StatusCode::OK, Identity::Tag(tag)) if answer.headers().get(ETAG) != Some(tag) => {
                Err(self.changed())
            }
            (StatusCode::OK, _) => self.skip_delivered(body(answer)).await,
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => Err(self.changed()),
            (status, _) => Err(self.way.refused(status)),
        }
    }

    /// Checks that the rest comes as it is, and that its end can be distinguished from a break, as
    /// was checked of the first answer.
    fn check_ending(&self, headers: &HeaderMap) -> Result<()> {
        let url = &self.way.url;
        if coding(url, headers)?.is_some() || !says_its_end(url, headers)? {
            return Err(Error::data_loss(format!("{url} sends the rest in another way")));
        }
        Ok(())
    }

    /// Checks that the server sends the requested range (RFC 9110, section 14.4).
    fn check_range(&self, headers: &HeaderMap) -> Result<()> {
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let parsed = range.and_then(|range| {
            let (bytes, total) = range.strip_prefix("bytes ")?.split_once('/')?;
            let (first, last) = bytes.split_once('-')?;
            let total = match total {
                "*" => None,
                total => Some(total.parse::<u64>().ok()?),
            };
            Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, total))
        });
        let Some((first, last, total)) = parsed else {
            return Err(Error::data_loss(format!(
                "{} sends a part without its place",
                self.way.url
            )));
        };
        let is_other_total = self.total.is_some() && total.is_some() && total != self.total;
        let is_cut = self.total.or(total).is_some_and(|total| last.checked_add(1) != Some(total));
        if first != self.delivered || is_other_total || is_cut {
            return Err(self.changed());
        }
        Ok(())
    }

    /// Skips the delivered bytes, which are fetched again, and returns what follows.
    async fn skip_delivered(&mut self, mut chunks: Chunks) -> Result<Chunks> {
        let mut left = self.delivered;
        let mut checksum = XxHash3_64::new();
        while left > 0 {
            let Some(mut chunk) = chunks.next().await.transpose().map_err(passing)? else {
                return Err(self.changed());
            };
            let known = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            let rest = chunk.split_off(known);
            checksum.write(&chunk);
            left -= known as u64;
            self.way.count_again(known);
            if !rest.is_empty() {
                chunks = stream::iter([Ok(rest)]).chain(chunks).boxed();
            }
        }
        match &self.identity {
            Identity::Content(delivered) if delivered.finish() != checksum.finish() => {
                Err(self.changed())
            }
            _ => Ok(chunks),
        }
    }

    fn changed(&self) -> Error {
        Error::data_loss(format!("the image at {} changed meanwhile", self.way.url))
            .with_hint("get it again")
    }
}

/// A break while known bytes are fetched again counts like one before the answer.
fn passing(error: io::Error) -> Error {
    Error::unavailable("it broke off again").with_source(error)
}

/// Whether another request may succeed.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}
