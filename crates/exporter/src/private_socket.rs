//! A Unix socket in a folder that only this user may enter: for hooks, and for the shell of one
//! device.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jumpstarter_driver_core::{Error, Result, ResultExt, blocking};
use jumpstarter_files::{RuntimeDir, SocketPlace};
use tokio::sync::mpsc;

use crate::{Address, Listener};

/// The kind of the folders.
const KIND: &str = "exporter";

/// The socket's path, its folder, and what listens there.
///
/// Others may remove the socket or its folder from under a running exporter.
/// [`ensure`](Self::ensure) listens again then.
#[derive(Debug)]
pub(crate) struct PrivateSocket {
    folder: Arc<RuntimeDir>,
    path: PathBuf,
    /// The socket that was made last.
    place: Mutex<Option<SocketPlace>>,
    listeners: mpsc::UnboundedSender<Listener>,
}

impl PrivateSocket {
    /// Makes the folder, and removes those of exporters that were killed. What listens there comes
    /// through the receiver, first with [`ensure`](Self::ensure).
    pub(crate) async fn new() -> Result<(Self, mpsc::UnboundedReceiver<Listener>)> {
        let folder = blocking(|| Ok(RuntimeDir::create(KIND)?)).await;
        let folder = Arc::new(folder.context("making a private folder for a socket")?);
        let (listeners, receiver) = mpsc::unbounded_channel();
        let path = folder.file("socket");
        Ok((Self { folder, path, place: Mutex::default(), listeners }, receiver))
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

    /// Listens, unless it does and its path leads there.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let (folder, place) = (self.folder.clone(), self.place().clone());
        let is_there = blocking(move || {
            let is_new = folder.ensure()?;
            Ok(!is_new && place.is_some_and(|place| place.is_there()))
        });
        if is_there.await.context("looking after a private socket")? {
            return Ok(());
        }
        let listener = Listener::bind(&Address::Unix(self.path.clone())).await?;
        let renewed = std::mem::replace(&mut *self.place(), listener.place().cloned()).is_some();
        if renewed {
            tracing::warn!(path = %self.path.display(), "another program removed a socket; it was made again");
        }
        self.listeners
            .send(listener)
            .map_err(|_| Error::internal("nothing serves the private socket"))
    }

    fn place(&self) -> std::sync::MutexGuard<'_, Option<SocketPlace>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
