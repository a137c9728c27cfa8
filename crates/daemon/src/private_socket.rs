//! A Unix socket in a folder that only this user can enter: for hooks, and for the shell of one
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
/// Other programs may remove the socket or its folder while the exporter runs.
/// [`ensure`](Self::ensure) creates them again.
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

    /// Creates the folder and the socket again if one is missing.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let folder = self.folder.clone();
        let ensured = blocking(move || Ok(folder.ensure()?)).await;
        ensured.context("looking after a private socket")?;
        self.keeper.ensure().await
    }
}
