//! `http-video`: a camera that serves MJPEG by HTTP.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_transfer::SmallRequest;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exchange::{Asked, get};
use crate::interface::{Video, VideoState};
use crate::jpeg;

/// How long a picture may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A camera that serves MJPEG by HTTP, such as one of the network or one on the device itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpVideoConfig {
    /// The URL of the stream (MJPEG). It may hold a user name and a password.
    url: String,
    /// The URL of a single picture (JPEG); without it, the first of the stream is taken.
    snapshot_url: Option<String>,
}

/// A URL may hold a password.
impl std::fmt::Debug for HttpVideoConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpVideoConfig").finish_non_exhaustive()
    }
}

#[async_trait]
impl DriverConfig for HttpVideoConfig {
    const NAME: &'static str = "http-video";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_video.driver.HttpVideo"];
    type Driver = HttpVideo;

    fn check(&self) -> Vec<ConfigProblem> {
        let urls = [("url", Some(&self.url)), ("snapshot_url", self.snapshot_url.as_ref())];
        let wrong = urls.into_iter().filter_map(|(field, url)| {
            let error = SmallRequest::new("GET", url?).err()?;
            let problem = ConfigProblem::from_error(field, &error);
            Some(problem.with_hint("write it as http://camera.lab:8080/stream"))
        });
        wrong.collect()
    }

    async fn open(self, _: OpenContext) -> Result<HttpVideo> {
        let single = self.snapshot_url.as_deref();
        Ok(HttpVideo {
            stream: SmallRequest::new("GET", &self.url)?,
            single: single.map(|url| SmallRequest::new("GET", url)).transpose()?,
            closed: CancellationToken::new(),
        })
    }
}
register_driver!(HttpVideoConfig);

/// A camera that serves MJPEG by HTTP. Each picture is a separate connection.
#[derive(Debug)]
pub struct HttpVideo {
    stream: SmallRequest,
    single: Option<SmallRequest>,
    /// Ends the streams of clients.
    closed: CancellationToken,
}

#[async_trait]
impl Driver for HttpVideo {
    interfaces!(Video);

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        Ok(())
    }
}

impl HttpVideo {
    /// A picture: a JPEG file.
    async fn picture(&self) -> Result<Vec<u8>> {
        let doing = "taking a picture";
        let taking = timeout(LIMIT, async {
            let request = self.single.as_ref().unwrap_or(&self.stream);
            let io = request.connect(LIMIT).await?.into_io()?;
            let (host, headers) = (request.authority(), request.headers().collect());
            let asked = Asked { target: request.target(), host: &host, headers };
            // The beginning of a file is looked through again only where another may have ended.
            let mut known = 0;
            let body = get(io, asked, |body| {
                let ends = body[known..].windows(2).any(|pair| pair == [0xff, 0xd9]);
                known = body.len().saturating_sub(1);
                ends && jpeg::first(body).is_some()
            });
            let body = body.await?;
            jpeg::first(&body).map(<[u8]>::to_vec).ok_or_else(|| {
                let message = format!("the camera's answer of {} bytes has no JPEG", body.len());
                Error::data_loss(message).with_hint("check the URL: it is for MJPEG or JPEG")
            })
        });
        match taking.await {
            Ok(taken) => taken.context(doing),
            Err(_) => {
                Err(Error::deadline_exceeded(format!("no picture within {LIMIT:?}")).context(doing))
            }
        }
    }
}

#[async_trait]
impl Video for HttpVideo {
    async fn snapshot(&self) -> Result<String> {
        Ok(STANDARD.encode(self.picture().await?))
    }

    async fn state(&self) -> Result<VideoState> {
        let picture = match self.picture().await {
            Ok(picture) => picture,
            Err(error) => {
                tracing::info!("the camera is offline: {error:#}");
                return Ok(VideoState::default());
            }
        };
        let (width, height) = jpeg::size(&picture).unzip();
        Ok(VideoState { online: true, width, height, ..VideoState::default() })
    }

    async fn stream_path(&self) -> Result<String> {
        Ok(self.stream.target().to_owned())
    }

    async fn connect(&self) -> Result<Channel> {
        let connected = self.stream.connect(LIMIT).await.context("connecting to the camera")?;
        let (reader, writer) = connected.split();
        let reader = reader.take_until(self.closed.clone().cancelled_owned());
        Ok(Channel::from_parts(Framing::Bytes, reader, writer))
    }
}
