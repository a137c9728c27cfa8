//! Storage for drivers.
//!
//! [`StorageDriver`] offers the interface `Storage` over a folder that no path leaves
//! ([`StorageDriver::folder`]), or over another [`Backend`]. Drivers that serve files to a device
//! ([`FolderServer`]) have one as a child, so that clients put files there.

mod backend;
mod driver;
mod folder;
mod folder_server;
mod hash;
mod http;
mod open_file;
#[cfg(any(feature = "memory", feature = "s3"))]
mod services;
pub mod serving;

pub use backend::{Backend, Presigned, Reading, Writing};
pub use driver::StorageDriver;
pub use folder_server::FolderServer;
pub use http::HttpFiles;
#[cfg(any(feature = "memory", feature = "s3"))]
pub use services::Services;
#[cfg(feature = "s3")]
pub use services::s3::s3_image;
