//! Flashing: sources, codecs, digests, sparse and atomic writes.
//!
//! [`write_image`] takes an image from any source, decompresses it, checks it, and replaces a file
//! with it, completely or not at all. [`read_image`] is the way back. [`write_image_to`] does the
//! same for a driver's [`ImageMedium`], and [`CopyImage::copy_to`] for a writer. The drivers are
//! [`FileFlasherConfig`] (`file-flasher`), [`StorageMuxConfig`] (`storage-mux`), and mocks of both.
//!
//! ```
//! use jumpstarter_driver_core::prelude::*;
//! use jumpstarter_driver_flasher::{WriteOptions, write_image};
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! let disk = folder.path().join("disk.img");
//! let report = write_image(ImageSource::bytes("an image"), &disk, WriteOptions::default()).await?;
//! assert_eq!(report.bytes_written, 8);
//! # Ok(()) }
//! ```
//!
//! A pipeline of threads does the work, with bounded queues of reused buffers between them:
//!
//! ```text
//! read ──┬── decode ── write
//!        └── digest (only when somebody wants it)
//! ```

mod block_map;
mod command_mux;
mod copy;
mod decode;
mod device;
mod digest;
mod feed;
mod file;
mod foreign;
mod item;
mod mapped;
mod medium;
mod mock;
mod mock_mux;
mod options;
mod output;
mod read;
mod read_back;
mod thread;
mod write;

pub use block_map::check_block_map;
pub use command_mux::{StorageMuxConfig, StorageMuxDriver};
pub use copy::CopyImage;
pub use file::{FileFlasher, FileFlasherConfig};
pub use jumpstarter_codec::Compression;
pub use jumpstarter_files::Turn;
pub use medium::ImageMedium;
pub use mock::{MockFlasher, MockFlasherConfig};
pub use mock_mux::{
    MockStorageMux, MockStorageMuxConfig, MockStorageMuxFlasher, MockStorageMuxFlasherConfig,
};
pub use options::{NewFile, WriteOptions, WriteReport};
pub use read::read_image;
pub use write::{write_image, write_image_to};
