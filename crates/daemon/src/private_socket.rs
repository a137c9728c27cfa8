//! A Unix socket in a folder that only this user may enter: for hooks, and for the shell of one
//! device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jumpstarter_driver_core::{Error, Result, ResultExt, blocking};
use jumpstarter_exporter::{Address, Listener, SocketKeeper};
use jumpstarter_files::RuntimeDir;

/// The kind of the folders.
const KIND: &str = "exporter";

/// The socket's path and its folder.
///
/// Others may remove the socket or its folder from under a running exporter.
/// [`ensure`](Self::ensure) makes them again then.
#[derive(Debug)]
pub(crate) struct PrivateSocket {
    folder: Arc<RuntimeDir>,
    path: PathBuf,
    keeper: SocketKeeper,
}

impl PrivateSocket {
    /// Makes the folder, and listens at a socket in it.
    pub(crate) async fn new() -> Result<(Self, Listener)> {
        let folder = blocking(|| Ok(RuntimeDir::create(KIND)?)).await;
        let folder = Arc::new(folder.context("making a private folder for a socket")?);
        let path = folder.file("socket");
        let listener = Listener::bind(&Address::Unix(path.clone())).await?;
        let keeper = listener.keeper().ok_or_else(|| Error::internal("it is a Unix socket"))?;
        Ok((Self { folder, path, keeper }, listener))
    }

    /// Removes the folders of exporters that were killed.
    pub(crate) async fn sweep() -> Result<()> {
        blocking(|| {
            RuntimeDir::sweep(KIND);
            Ok(())
        })
        .await
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder and the socket again unless they are there.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let folder = self.folder.clone();
        let ensured = blocking(move || Ok(folder.ensure()?)).await;
        ensured.context("looking after a private socket")?;
        self.keeper.ensure().await
    }
}
