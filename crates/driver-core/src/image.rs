//! Images in transit: their source ([`ImageSource`]), their destination ([`ImageSink`]), and their
//! progress.
//!
//! A source carries bytes *as they are stored*, compressed or not, plus wishes: observers of the
//! progress, the expected digest. Nothing here decompresses or hashes: the pipeline of
//! `driver-flasher` does both, and a driver that writes images by other means calls
//! [`ImageSource::open`] and reads. Images at URLs are fetched by a crate that the program links
//! ([`ImageSupport`]), or by the exporter that has the device.
//!
//! ```
//! use jumpstarter_driver_core::prelude::*;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! let mut chunks = ImageSource::bytes("firmware").with_name("tiny.bin").open().await?;
//! assert_eq!(chunks.receive().await?.as_deref(), Some(&b"firmware"[..]));
//! # Ok(()) }
//! ```

mod encoding;
mod hex;
mod progress;
mod rate;
mod remote;
mod sink;
mod source;
mod stream;
mod target_writer;

pub use encoding::Encoding;
pub use hex::hex;
pub use progress::{Meter, Observer, Progress};
pub use rate::Rate;
pub use remote::{BoxWriter, ImageRequest, ImageSupport, SupportEntry};
pub use sink::ImageSink;
pub use source::{DigestReport, ImageSource, LateLength, Wishes};
pub use stream::ImageStream;
