//! A camera: the peer's, but for its fault.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use tokio_util::sync::CancellationToken;

use super::peered::{connect, replaced};

/// Which fault it has; `none` for none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CameraConfig {
    /// The fault.
    fault: String,
    /// The camera that it changes.
    peer: String,
}

#[async_trait]
impl DriverConfig for CameraConfig {
    const NAME: &'static str = "fake-camera";
    type Driver = CameraFake;
    async fn open(self, _: OpenContext) -> Result<CameraFake> {
        Ok(CameraFake { config: self, closed: CancellationToken::new() })
    }
}
register_driver!(CameraConfig);

/// A camera.
#[interface(name = "fake-video", client = "fake.client.Video")]
pub(crate) trait Camera {
    /// Returns a picture.
    async fn snapshot(&self) -> Result<String>;
    /// Reports whether there is one.
    async fn state(&self) -> Result<CameraState>;
    /// Where the stream is.
    async fn stream_path(&self) -> Result<String>;
    /// Connects to the server.
    async fn connect(&self) -> Result<Channel>;
}

/// What it does.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CameraState {
    online: bool,
}

pub(crate) struct CameraFake {
    config: CameraConfig,
    closed: CancellationToken,
}

#[async_trait]
impl Driver for CameraFake {
    interfaces!(Camera);

    async fn close(&self) -> Result<()> {
        if self.config.fault != "streams on" {
            self.closed.cancel();
        }
        Ok(())
    }
}

#[async_trait]
impl Camera for CameraFake {
    async fn snapshot(&self) -> Result<String> {
        let picture: &[u8] =
            if self.config.fault == "no picture" { b"<html>" } else { &[0xff, 0xd8, 0xff, 0xd9] };
        Ok(STANDARD.encode(picture))
    }

    async fn state(&self) -> Result<CameraState> {
        Ok(CameraState { online: true })
    }

    async fn stream_path(&self) -> Result<String> {
        Ok(if self.config.fault == "no stream" { "/none" } else { "/stream" }.to_owned())
    }

    async fn connect(&self) -> Result<Channel> {
        let (reader, writer) = connect(&self.config.peer).await?.split();
        let ends = reader.take_until(self.closed.clone().cancelled_owned());
        Ok(replaced(ends, writer, Vec::new()))
    }
}
