//! Fetching an image while it is read.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use jumpstarter_driver_core::image::{ImageRequest, LateLength, Progress};
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};

use crate::answer::Image;
use crate::cache::cached;
use crate::check::Expected;
use crate::decode::Chunks;
use crate::get::get;
use crate::oci::{self, Reference};
use crate::pace::Pace;
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, Way};

/// The way that a request begins.
pub(crate) fn way(request: &ImageRequest, settings: Settings) -> Result<Way> {
    Ok(Way::new(Url::parse(request.url())?, Headers::new(request.headers())?, settings))
}

/// An image that is fetched when it is read; a server that sends nothing, or next to nothing, for
/// `stall_limit` is given up. `oci://registry/repository:tag` is a layer of an image in a registry.
///
/// # Errors
/// `InvalidArgument` for a URL or header that cannot be used; what the server does wrong shows in
/// the reading.
pub fn download(request: ImageRequest, stall_limit: Duration) -> Result<ImageSource> {
    download_with(request, stall_limit, Settings::from_env()?, |_, _| {})
}

/// As [`download`]; `watch` gets the progress with each piece, and `true` once it is done.
///
/// # Errors
/// As [`download`]'s.
pub fn watched_download(
    request: ImageRequest,
    stall_limit: Duration,
    watch: impl Fn(Progress, bool) + Send + Sync + 'static,
) -> Result<ImageSource> {
    download_with(request, stall_limit, Settings::from_env()?, watch)
}

pub(crate) fn download_with(
    request: ImageRequest,
    stall_limit: Duration,
    settings: Settings,
    watch: impl Fn(Progress, bool) + Send + Sync + 'static,
) -> Result<ImageSource> {
    let fetched_again = settings.fetched_again.clone();
    let (sha256, is_checked) = (request.sha256().map(str::to_owned), request.is_checked());
    let (name, asking) = match Reference::is_one(request.url()) {
        true => {
            let reference = Reference::parse(request.url())?;
            (reference.to_string(), oci::fetch(reference, request, settings.clone()).boxed())
        }
        false => {
            let way = way(&request, settings.clone())?;
            (way.url.to_string(), get(way, is_checked).boxed())
        }
    };
    let asking = match sha256 {
        Some(sha256) => cached(settings, Expected::image(&name, sha256), asking).boxed(),
        None => asking,
    };
    let doing = format!("downloading {name}");
    let download = Download {
        stage: Stage::Asking(asking),
        pace: Pace::new(stall_limit),
        stall_limit,
        fetched_again,
        doing,
        progress: Progress::new(0, None),
        length: LateLength::default(),
        watch,
    };
    let length = download.length.clone();
    let source = ImageSource::stream(stream::unfold(Some(download), Download::next), None);
    Ok(source.with_name(name).with_late_length(length))
}

enum Stage {
    Asking(BoxFuture<'static, Result<Image>>),
    Receiving(Chunks),
}

struct Download<W> {
    stage: Stage,
    pace: Pace,
    stall_limit: Duration,
    fetched_again: Arc<AtomicU64>,
    doing: String,
    progress: Progress,
    length: LateLength,
    watch: W,
}

impl<W: Fn(Progress, bool)> Download<W> {
    async fn next(download: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut download = download?;
        let began = Instant::now();
        let before = download.fetched_again.load(Ordering::Relaxed);
        let received = download.receive_in_time().await;
        let again = download.fetched_again.load(Ordering::Relaxed) - before;
        let counted = match received.transpose()? {
            Ok(chunk) => {
                let arrived =
                    chunk.len().saturating_add(usize::try_from(again).unwrap_or(usize::MAX));
                download.pace.add(arrived, began.elapsed()).map(|()| chunk)
            }
            Err(error) => Err(error),
        };
        match counted.context(&download.doing) {
            Ok(chunk) => {
                download.progress.transferred_bytes += chunk.len() as u64;
                (download.watch)(download.progress, false);
                Some((Ok(chunk), Some(download)))
            }
            Err(error) => Some((Err(error.into()), None)),
        }
    }

    /// As [`receive`](Self::receive), unless nothing at all comes.
    async fn receive_in_time(&mut self) -> Result<Option<Bytes>> {
        let mut seen = self.fetched_again.load(Ordering::Relaxed);
        loop {
            let limit = self.stall_limit;
            if let Ok(received) = tokio::time::timeout(limit, self.receive()).await {
                return received;
            }
            let before = std::mem::replace(&mut seen, self.fetched_again.load(Ordering::Relaxed));
            if seen == before {
                let message = format!("nothing came for {} s", limit.as_secs());
                return Err(Error::deadline_exceeded(message));
            }
        }
    }

    /// The next piece; `None` at the end.
    async fn receive(&mut self) -> Result<Option<Bytes>> {
        loop {
            match &mut self.stage {
                Stage::Asking(asked) => {
                    let image = asked.await?;
                    self.progress.total_bytes = image.length;
                    if let Some(length) = image.length {
                        self.length.announce(length);
                    }
                    self.stage = Stage::Receiving(image.chunks);
                }
                Stage::Receiving(chunks) => {
                    let chunk = chunks.next().await.transpose()?;
                    if chunk.is_none() {
                        (self.watch)(self.progress, true);
                    }
                    return Ok(chunk);
                }
            }
        }
    }
}
