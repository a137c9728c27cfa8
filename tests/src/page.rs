//! Fetches a page through a driver's network: HTTP/1.0, as little of it as works.

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout_at};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// The largest page, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// The body of the page at `path`. Tries again until `within` is over, since a guest that boots
/// takes a while until it serves. Cancelling closes the connection.
///
/// # Errors
/// That of the last attempt: those of the connection, `DataLoss` for an answer that is not HTTP,
/// `Unavailable` for a status other than 200.
pub async fn fetch(network: &dyn Network, path: &str, within: Duration) -> Result<String> {
    let until = Instant::now() + within;
    loop {
        let end = until.min(Instant::now() + ATTEMPT);
        let attempt = timeout_at(end, fetch_once(network, path)).await;
        let error = match attempt {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(error)) => error,
            Err(_) => Error::deadline_exceeded(format!("no answer within {ATTEMPT:?}")),
        };
        if Instant::now() + PAUSE >= until {
            return Err(error.context(format!("fetching {path}, many times within {within:?}")));
        }
        // The end of the pause is the only news: nothing announces that a guest begins to listen.
        sleep(PAUSE).await;
    }
}

async fn fetch_once(network: &dyn Network, path: &str) -> Result<String> {
    let mut stream = network.connect().await?.into_io()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: guest\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| {
        Error::data_loss(format!("{} bytes that are not HTTP came back", answer.len()))
    })?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(Error::unavailable(format!("the guest answered `{status}`"))),
    }
}
