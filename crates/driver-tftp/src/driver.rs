//! The driver: a server that is started and stopped.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::{StorageDriver, serving};
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{STORAGE, TftpConfig};
use crate::interface::TftpServer;
use crate::server;

/// Serves a folder over TFTP while it is started.
pub struct TftpDriver {
    host: String,
    port: u16,
    place: PathBuf,
    /// `None` once the driver is closed.
    folder: Mutex<Option<Arc<ConfinedFolder>>>,
    storage: Arc<StorageDriver>,
    running: Mutex<Option<Running>>,
    /// One start or stop at a time.
    turn: tokio::sync::Mutex<()>,
}

struct Running {
    port: u16,
    /// Ends the transfers, too.
    server: AbortOnDropHandle<()>,
}

impl fmt::Debug for TftpDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TftpDriver({})", self.place.display())
    }
}

impl TftpDriver {
    pub(crate) async fn open(config: TftpConfig) -> Result<Self> {
        let folder = serving::open_folder(&config.root_dir).await?;
        let storage = StorageDriver::folder(folder.clone(), config.remove_created_on_close);
        let host = match config.host.is_empty() {
            true => serving::default_address().to_string(),
            false => config.host,
        };
        Ok(Self {
            host,
            port: config.port,
            place: folder.place().to_owned(),
            folder: Mutex::new(Some(folder)),
            storage: Arc::new(storage),
            running: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the server, and waits until its port is free.
    async fn end(&self) -> bool {
        let Some(running) = self.running().take() else { return false };
        running.server.abort();
        // It is cancelled, which is no failure.
        drop(running.server.await);
        true
    }
}

#[async_trait]
impl Driver for TftpDriver {
    interfaces!(TftpServer);

    fn children(&self) -> Vec<Child> {
        let child = Child::new(STORAGE, self.storage.clone());
        vec![child.describe("the files that are served")]
    }

    async fn reset(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.end().await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.end().await;
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}

#[async_trait]
impl TftpServer for TftpDriver {
    async fn start(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if self.running().is_some() {
            tracing::warn!("the TFTP server is running already");
            return Ok(());
        }
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let folder = folder.ok_or_else(|| Error::failed_precondition("the server is closed"))?;
        let doing = || format!("listening at {}:{} (UDP)", self.host, self.port);
        let address = serving::listening_address(Some(&self.host), self.port).await?;
        let socket = UdpSocket::bind(address).await.map_err(Error::from).map_err(|error| {
            error.with_hint("`jmp check` says why; choose another `port` or `host`")
        });
        let socket = socket.with_context(doing)?;
        let address = socket.local_addr().with_context(doing)?;
        tracing::info!(%address, folder = %self.place.display(), "serving over TFTP");
        let serving = server::serve(socket, folder);
        let server = AbortOnDropHandle::new(tokio::spawn(serving));
        *self.running() = Some(Running { port: address.port(), server });
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !self.end().await {
            tracing::warn!("the TFTP server is not running");
        }
        Ok(())
    }

    async fn get_host(&self) -> Result<String> {
        Ok(self.host.clone())
    }

    async fn get_port(&self) -> Result<u16> {
        Ok(self.running().as_ref().map_or(self.port, |running| running.port))
    }
}
