//! Fetching an image with GET.

use std::time::Duration;

use hyper::{Method, StatusCode};
use jumpstarter_driver_core::Result;
use tokio_util::sync::CancellationToken;

use crate::answer::{Image, image};
use crate::exchange::{exchange, nothing};
use crate::way::{MAX_REDIRECTS, Way, late, redirects};

const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The image at a URL; redirects are followed. With `is_checked` somebody compares its digest with
/// an expected one.
pub(crate) async fn get(mut way: Way, is_checked: bool) -> Result<Image> {
    for _ in 0..=MAX_REDIRECTS {
        let asked = async {
            let io = way.open().await?;
            exchange(io, way.request(Method::GET, nothing())?, CancellationToken::new()).await
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(late(&way.url, "answer", ANSWER_LIMIT)))?;
        match answer.status() {
            StatusCode::OK => return image(&way.url, answer, is_checked).await,
            status if redirects(status) => way.follow(answer.headers())?,
            status => return Err(way.refused(status)),
        }
    }
    Err(way.endless())
}
