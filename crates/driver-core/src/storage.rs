//! Whole transfers through storage. With a multiplexer the host takes the medium, uses it, and
//! gives it back to the device; a file is opened, written or read, and closed.

use std::sync::Arc;

use crate::error::{ErrorKind, Result, ResultExt};
use crate::file_storage::{FileMode, Storage};
use crate::generic::StorageMux;
use crate::image::{ImageSink, ImageSource};

/// Takes the medium from the device, writes the image, and gives the medium back, also when the
/// write fails.
///
/// Cancelling ends the write and gives the medium back in the background.
///
/// # Errors
/// Those of the multiplexer. The medium is given back after a failed write; a failure of that is
/// logged then.
pub async fn flash_medium(mux: Arc<dyn StorageMux>, source: ImageSource) -> Result<()> {
    let taken = mux.clone();
    with_medium(mux, async move { taken.write(source).await }).await
}

/// Takes the medium from the device, reads it, and gives it back, also when the read fails.
///
/// Cancelling ends the read and gives the medium back in the background.
///
/// # Errors
/// As those of [`flash_medium`].
pub async fn dump_medium(mux: Arc<dyn StorageMux>, target: ImageSink) -> Result<()> {
    let taken = mux.clone();
    with_medium(mux, async move { taken.read(target).await }).await
}

async fn with_medium(
    mux: Arc<dyn StorageMux>,
    transfer: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut medium = Medium(Some(mux.clone()));
    let result = match mux.host().await.context("taking the medium from the device") {
        Ok(()) => transfer.await,
        Err(error) => Err(error),
    };
    let returned = mux.dut().await.context("giving the medium back to the device");
    medium.0 = None;
    if let (Err(_), Err(error)) = (&result, &returned) {
        tracing::warn!(error = %error.report(), "after a transfer that failed");
    }
    result.and(returned)
}

/// The medium while the host has it. Dropping it, when a call is cancelled, gives it back in the
/// background.
struct Medium(Option<Arc<dyn StorageMux>>);

impl Drop for Medium {
    fn drop(&mut self) {
        let Some(mux) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = mux.dut().await {
                    tracing::warn!(
                        error = %error.report(),
                        "giving the medium back after a cancelled transfer"
                    );
                }
            });
        }
    }
}

/// Writes a file of a [`Storage`]: opens it, writes all of `source` and closes it.
///
/// Cancelling keeps the old file.
///
/// # Errors
/// Those of the storage and of the source; the old file is as it was.
pub async fn write_file(storage: &dyn Storage, path: &str, source: ImageSource) -> Result<()> {
    // A source that cannot be read replaces nothing. An empty file is a file.
    match source.look_ahead().await {
        Err(error) if error.kind() != ErrorKind::DataLoss => return Err(error),
        _ => {}
    }
    let file = storage.open(path.to_owned(), FileMode::Write).await?;
    let Err(error) = storage.file_write(file.clone(), source).await else {
        return storage.file_close(file).await;
    };
    // A storage that has not seen the write would complete an empty file. Its session's end drops
    // it.
    if let Ok(false) = storage.file_writable(file.clone()).await {
        storage.file_close(file).await.ok();
    }
    Err(error)
}

/// Reads a file of a [`Storage`]: opens it, reads all of it into `target` and closes it.
///
/// # Errors
/// Those of the storage and of the target.
pub async fn read_file(storage: &dyn Storage, path: &str, target: ImageSink) -> Result<()> {
    let file = storage.open(path.to_owned(), FileMode::Read).await?;
    let read = storage.file_read(file.clone(), target).await;
    read.and(storage.file_close(file).await)
}
