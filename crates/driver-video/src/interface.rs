//! The interface of cameras.

use jumpstarter_driver_core::prelude::*;

/// What a camera does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VideoState {
    /// Whether it has a picture.
    pub online: bool,
    /// The width of its picture in pixels.
    #[serde(default)]
    pub width: Option<u32>,
    /// The height of its picture in pixels.
    #[serde(default)]
    pub height: Option<u32>,
    /// The pictures in a second.
    #[serde(default)]
    pub fps: Option<f64>,
    /// Of ustreamer: whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// Of ustreamer: its own report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<UStreamerDetails>,
}

/// What ustreamer reports of itself, as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UStreamerDetails(pub serde_json::Value);

/// A camera, or another source of pictures.
#[interface(name = "video", client = "jumpstarter_driver_video.client.VideoClient")]
pub trait Video {
    /// Returns one picture: a JPEG file, in base64. `Unavailable` if the camera does not answer.
    async fn snapshot(&self) -> Result<String>;

    /// Reports whether there is a picture, and its size.
    async fn state(&self) -> Result<VideoState>;

    /// Returns the path at which the server behind `connect` has the stream of pictures (MJPEG).
    async fn stream_path(&self) -> Result<String>;

    /// Connects to the camera's HTTP server. Dropping the channel closes the connection.
    async fn connect(&self) -> Result<Channel>;
}
