//! Fetching an image with GET.

use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use jumpstarter_driver_core::Result;
use tokio_util::sync::CancellationToken;

use crate::answer::{Image, image};
use crate::exchange::{Answer, exchange, nothing};
use crate::way::{MAX_REDIRECTS, Way, late, redirects};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The image at a URL; redirects are followed. With `is_checked` somebody compares its digest with
/// an expected one.
pub(crate) async fn get(mut way: Way, is_checked: bool) -> Result<Image> {
    let answer = ask(&mut way, &HeaderMap::new()).await?;
    match answer.status() {
        StatusCode::OK => image(way, answer, is_checked).await,
        status => Err(way.refused(status)),
    }
}

/// The answer to a request with these headers besides; redirects are followed.
pub(crate) async fn ask(way: &mut Way, headers: &HeaderMap) -> Result<Answer> {
    for _ in 0..=MAX_REDIRECTS {
        let asked = async {
            let io = way.open().await?;
            let mut request = way.request(Method::GET, nothing())?;
            request.headers_mut().extend(headers.clone());
            exchange(io, request, CancellationToken::new()).await
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(late(&way.url, "answer", ANSWER_LIMIT)))?;
        match redirects(answer.status()) {
            true => way.follow(answer.headers())?,
            false => return Ok(answer),
        }
    }
    Err(way.endless())
}
