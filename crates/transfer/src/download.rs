//! Fetching an image while it is read.

use std::io;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use jumpstarter_driver_core::image::ImageRequest;
use jumpstarter_driver_core::{Error, ImageSource, Result, ResultExt};

use crate::get::get;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::url::Url;
use crate::way::{Headers, Way};

/// The way that a request begins.
pub(crate) fn way(request: &ImageRequest, settings: Settings) -> Result<Way> {
    Ok(Way::new(Url::parse(request.url())?, Headers::new(request.headers())?, settings))
}

/// An image that is fetched when it is read; a server that sends nothing, or next to nothing, for `stall_limit` is given
/// up.
///
/// # Errors
/// `InvalidArgument` for a URL or header that cannot be used; what the server does wrong shows in the reading.
pub fn download(request: ImageRequest, stall_limit: Duration) -> Result<ImageSource> {
    download_with(request, stall_limit, Settings::from_env()?)
}

pub(crate) fn download_with(
    request: ImageRequest,
    stall_limit: Duration,
    settings: Settings,
) -> Result<ImageSource> {
    let way = way(&request, settings)?;
    let name = way.url.to_string();
    let doing = format!("downloading {name}");
    let is_checked = request.is_checked();
    let fetching = doing.clone();
    let fetched = async move { get(way, is_checked).await.context(fetching).map_err(io::Error::from) };
    let chunks = stream::once(fetched).try_flatten().boxed();
    let paced = stream::unfold(Some((chunks, Pace::new(stall_limit))), move |state| {
        let doing = doing.clone();
        async move {
            let (mut chunks, mut pace) = state?;
            let began = Instant::now();
            let item = match tokio::time::timeout(stall_limit, chunks.next()).await {
                Ok(item) => item?.and_then(|chunk| {
                    let kept = pace.add(chunk.len(), began.elapsed()).context(&doing);
                    kept.map(|()| chunk).map_err(io::Error::from)
                }),
                Err(_) => {
                    let message = format!("{doing}: nothing came for {} s", stall_limit.as_secs());
                    Err(Error::deadline_exceeded(message).into())
                }
            };
            let rest = item.is_ok().then_some((chunks, pace));
            Some((item, rest))
        }
    });
    Ok(ImageSource::stream(paced, None).with_name(name))
}
