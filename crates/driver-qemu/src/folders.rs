//! The private folders of a machine: of its sockets, and of its images if they are in another one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::RuntimeDir;
use tokio::time::timeout;

use crate::host::Place;
use crate::lock::lock;
use crate::off_runtime::off_runtime;

/// The kind in the folders' names.
const KIND: &str = "qemu";
/// The time limit for checking them.
const LOOKED_WITHIN: Duration = Duration::from_secs(30);
/// The time limit for removing them.
const REMOVED_WITHIN: Duration = Duration::from_secs(30);

/// The private folders with their contents. Dropping them removes them, without waiting.
#[derive(Debug)]
pub(crate) struct Folders {
    sockets: PathBuf,
    images: PathBuf,
    /// Empty once they are removed.
    held: Mutex<Vec<Arc<RuntimeDir>>>,
}

impl Folders {
    /// Creates them, on the volume of a sidecar if QEMU runs there, and removes those of machines
    /// whose programs were killed.
    pub(crate) async fn make(place: &Place) -> Result<Self> {
        let shared = place.shared().map(Path::to_owned);
        off_runtime(async move {
            if let Some(shared) = shared {
                let only = RuntimeDir::create_in(&[shared], KIND)?;
                let (sockets, images) = (only.path().to_owned(), only.path().to_owned());
                return Ok(Self { sockets, images, held: Mutex::new(vec![Arc::new(only)]) });
            }
            let sockets = RuntimeDir::create(KIND)?;
            // If TMPDIR is too long for sockets, these are elsewhere, possibly on a small file
            // system in memory.
            let images = match sockets.is_for_files() {
                true => None,
                false => RuntimeDir::create_for_files(KIND)
                    .inspect_err(|error| {
                        tracing::warn!("the images go where the sockets are: {error}")
                    })
                    .ok(),
            };
            Ok(Self {
                sockets: sockets.path().to_owned(),
                images: images.as_ref().unwrap_or(&sockets).path().to_owned(),
                held: Mutex::new(images.into_iter().chain([sockets]).map(Arc::new).collect()),
            })
        })
        .await
    }

    /// The folder of the sockets, and of other small files.
    pub(crate) fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The folder of the images.
    pub(crate) fn images(&self) -> &Path {
        &self.images
    }

    /// Creates folders again that another program removed; their contents are lost.
    ///
    /// # Errors
    /// The errors of the file system; `DeadlineExceeded` if it hangs.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let held = lock(&self.held).clone();
        let looking = off_runtime(async move {
            held.iter().try_for_each(|folder| folder.ensure().map(drop)).map_err(Error::from)
        });
        timeout(LOOKED_WITHIN, looking)
            .await
            .unwrap_or_else(|_| Err(self.overdue("looked at", LOOKED_WITHIN)))
    }

    /// Removes them.
    ///
    /// # Errors
    /// The errors of the file system; `DeadlineExceeded` if it hangs. The removal then continues.
    pub(crate) async fn remove(&self) -> Result<()> {
        let held = std::mem::take(&mut *lock(&self.held));
        // Images may be large, and their file system may hang, but nothing waits for it. Not
        // `off_runtime`, which would stop.
        let removing = tokio::task::spawn_blocking(move || {
            // A folder that is being checked is removed when that ends.
            held.into_iter().filter_map(Arc::into_inner).try_for_each(RuntimeDir::close)
        });
        match timeout(REMOVED_WITHIN, removing).await {
            Ok(Ok(removed)) => Ok(removed?),
            Ok(Err(error)) => Err(Error::internal("removing its folders").with_source(error)),
            Err(_) => Err(self.overdue("removed", REMOVED_WITHIN)),
        }
    }

    fn overdue(&self, done: &str, within: Duration) -> Error {
        let (images, within) = (self.images.display(), Span::from(within));
        Error::deadline_exceeded(format!("its folder {images} was not {done} within {within}"))
            .with_hint("check that the file system responds: run `ls` in it")
    }
}
