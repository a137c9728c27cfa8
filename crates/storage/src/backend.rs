//! What a storage is made of: a folder, or a service.

use std::time::Duration;

use bytes::Bytes;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{PresignedRequest, StorageCapability, StoredMetadata};
use jumpstarter_files::InnerPath;
use tokio::io::{AsyncRead, AsyncSeek};

/// Where files are stored.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, and the backend's errors; so have the other methods.
    async fn read(&self, path: &InnerPath) -> Result<Box<dyn Reading>>;

    /// Begins a file, which takes its name when it is finished.
    ///
    /// # Errors
    /// `InvalidArgument` for a folder.
    async fn write(&self, path: &InnerPath) -> Result<Box<dyn Writing>>;

    /// What is known of a file or folder.
    ///
    /// # Errors
    /// `NotFound`.
    async fn stat(&self, path: &InnerPath) -> Result<StoredMetadata>;

    /// Copies a file.
    ///
    /// # Errors
    /// `NotFound`.
    async fn copy(&self, from: &InnerPath, to: &InnerPath) -> Result<()>;

    /// Gives a file another path.
    ///
    /// # Errors
    /// `NotFound`.
    async fn rename(&self, from: &InnerPath, to: &InnerPath) -> Result<()>;

    /// Removes a file, or a folder with everything in it.
    ///
    /// # Errors
    /// The backend's errors.
    async fn remove_all(&self, path: &InnerPath) -> Result<()>;

    /// Makes a folder and those above it; returns whether it was missing.
    ///
    /// # Errors
    /// The backend's errors.
    async fn create_dir(&self, path: &InnerPath) -> Result<bool>;

    /// Removes a file or an empty folder, if there is one.
    ///
    /// # Errors
    /// The backend's errors.
    async fn delete(&self, path: &InnerPath) -> Result<()>;

    /// Lists a folder, or what begins with a path; with `deep`, also what is in its folders.
    ///
    /// # Errors
    /// The backend's errors.
    async fn list(&self, path: &InnerPath, deep: bool) -> Result<ValueStream<String>>;

    /// Signs a request.
    ///
    /// # Errors
    /// `Unimplemented`, unless the backend signs requests.
    async fn presign(
        &self,
        what: Presigned,
        path: &InnerPath,
        valid: Duration,
    ) -> Result<PresignedRequest> {
        let _ = (what, path, valid);
        Err(Error::unimplemented("this storage signs no requests"))
    }

    /// What it can do.
    fn capability(&self) -> StorageCapability;
}

/// What a signed request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presigned {
    /// The metadata.
    Stat,
    /// The content.
    Read,
    /// New content.
    Write,
}

/// A file that is open for reading.
pub trait Reading: AsyncRead + AsyncSeek + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncSeek + Send + Sync + Unpin> Reading for T {}

/// A file that is being written. Dropping it keeps the old file.
#[async_trait]
pub trait Writing: Send + Sync {
    /// Appends bytes. After an error, and when it is cancelled, the file cannot be finished.
    ///
    /// # Errors
    /// The backend's errors.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Completes the file, which takes its name.
    ///
    /// # Errors
    /// The backend's errors.
    async fn finish(self: Box<Self>) -> Result<()>;
}
