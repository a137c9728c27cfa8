//! Cameras at a device.
//!
//! - `http-video` ([`HttpVideo`]): a camera that serves MJPEG by HTTP.
//! - `ustreamer` ([`UStreamer`]): runs the program ustreamer, which serves a capture device.
//!
//! Both are a [`Video`]. [`VideoServer`] makes one a page of this machine, for clients.

mod exchange;
mod http_video;
mod interface;
mod jpeg;
mod server;
mod ustreamer;

pub use http_video::{HttpVideo, HttpVideoConfig};
pub use interface::{UStreamerDetails, Video, VideoState};
pub use jpeg::size as jpeg_size;
pub use server::VideoServer;
pub use ustreamer::{UStreamer, UStreamerConfig};
