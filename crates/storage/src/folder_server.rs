//! A server of a folder that clients start and stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use tokio_util::task::AbortOnDropHandle;

use crate::driver::StorageDriver;
use crate::serving;

/// The folder, the storage by which clients put files there, and the server while it is started.
/// One start or stop happens at a time.
pub struct FolderServer {
    /// Such as `HTTP`.
    protocol: &'static str,
    host: String,
    port: u16,
    place: PathBuf,
    /// `None` once it is closed.
    folder: Mutex<Option<Arc<ConfinedFolder>>>,
    storage: Arc<StorageDriver>,
    running: Mutex<Option<Running>>,
    turn: tokio::sync::Mutex<()>,
}

struct Running {
    port: u16,
    task: AbortOnDropHandle<()>,
}

impl fmt::Debug for FolderServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderServer({}, {})", self.protocol, self.place.display())
    }
}

impl FolderServer {
    /// The name of the child that [`storage`](Self::storage) returns.
    pub const STORAGE: &'static str = "storage";

    /// Opens the folder, and makes it if it is missing. An empty `host` is
    /// [`serving::default_address`].
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn open(
        protocol: &'static str,
        root: &HostPath,
        host: &str,
        port: u16,
        removes_created: bool,
    ) -> Result<Self> {
        let place = root.located().await;
        let folder = blocking(move || Ok(Arc::new(ConfinedFolder::create(place)?))).await?;
        let host = match host {
            "" => serving::default_address().to_string(),
            host => host.to_owned(),
        };
        Ok(Self {
            protocol,
            host,
            port,
            place: folder.place().to_owned(),
            storage: Arc::new(StorageDriver::folder(folder.clone(), removes_created)),
            folder: Mutex::new(Some(folder)),
            running: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// The files that are served, as a child of the server's driver.
    pub fn storage(&self) -> Child {
        Child::new(Self::STORAGE, self.storage.clone()).describe("the files that are served")
    }

    /// The address or name that the server listens at.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that the server listens at; `None` while it is not running.
    pub fn port(&self) -> Option<u16> {
        self.running().as_ref().map(|running| running.port)
    }

    /// Starts the server; one that runs is stopped first. `serve` listens at the address, and
    /// returns which one it got and what answers there, which is dropped by a stop.
    ///
    /// # Errors
    /// Those of listening; `FailedPrecondition` once it is closed.
    pub async fn restart<L, S>(
        &self,
        serve: impl FnOnce(SocketAddr, Arc<ConfinedFolder>) -> L,
    ) -> Result<()>
    where
        L: Future<Output = io::Result<(SocketAddr, S)>>,
        S: Future<Output = ()> + Send + 'static,
    {
        let _turn = self.turn.lock().await;
        self.end().await;
        self.begin(serve).await
    }

    /// Starts the server as [`restart`](Self::restart) does, unless it is running.
    ///
    /// # Errors
    /// As [`restart`](Self::restart).
    pub async fn start<L, S>(
        &self,
        serve: impl FnOnce(SocketAddr, Arc<ConfinedFolder>) -> L,
    ) -> Result<()>
    where
        L: Future<Output = io::Result<(SocketAddr, S)>>,
        S: Future<Output = ()> + Send + 'static,
    {
        let _turn = self.turn.lock().await;
        if self.running().is_some() {
            tracing::warn!("the {} server is running already", self.protocol);
            return Ok(());
        }
        self.begin(serve).await
    }

    /// Stops the server and waits until its port is free. Succeeds if it is not running.
    pub async fn stop(&self) {
        let _turn = self.turn.lock().await;
        if !self.end().await {
            tracing::warn!("the {} server is not running", self.protocol);
        }
    }

    /// Stops the server, for the end of a lease.
    pub async fn reset(&self) {
        let _turn = self.turn.lock().await;
        self.end().await;
    }

    /// Stops the server for good, and releases the folder.
    pub async fn close(&self) {
        let _turn = self.turn.lock().await;
        self.end().await;
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin<L, S>(
        &self,
        serve: impl FnOnce(SocketAddr, Arc<ConfinedFolder>) -> L,
    ) -> Result<()>
    where
        L: Future<Output = io::Result<(SocketAddr, S)>>,
        S: Future<Output = ()> + Send + 'static,
    {
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let folder = folder.ok_or_else(|| Error::failed_precondition("the server is closed"))?;
        let address = serving::listening_address(&self.host, self.port).await?;
        let listening = serve(address, folder).await.map_err(Error::from).map_err(|error| {
            error.with_hint("`jmp check` says why; choose another `port` or `host`")
        });
        let doing = || format!("listening at {}:{} for {}", self.host, self.port, self.protocol);
        let (address, serving) = listening.with_context(doing)?;
        tracing::info!(%address, folder = %self.place.display(), "serving over {}", self.protocol);
        let task = AbortOnDropHandle::new(tokio::spawn(serving));
        *self.running() = Some(Running { port: address.port(), task });
        Ok(())
    }

    /// Ends the server with its connections; returns whether it was running.
    async fn end(&self) -> bool {
        let Some(running) = self.running().take() else { return false };
        running.task.abort();
        // It is cancelled, which is no failure.
        drop(running.task.await);
        true
    }
}
