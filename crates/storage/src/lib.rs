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
pub mod serving;

pub use backend::{Backend, Presigned, Reading, Writing};
pub use driver::StorageDriver;
pub use folder_server::FolderServer;
pub use http::HttpFiles;
