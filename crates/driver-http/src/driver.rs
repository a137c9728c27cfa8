//! The driver: a server that is started and stopped.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_files::ConfinedFolder;
use jumpstarter_storage::{StorageDriver, serving};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{HttpServerConfig, STORAGE};
use crate::interface::HttpServer;
use crate::server;

/// Serves a folder over HTTP while it is started.
pub struct HttpServerDriver {
    host: String,
    port: u16,
    timeout: Duration,
    place: PathBuf,
    /// `None` once the driver is closed.
    folder: Mutex<Option<Arc<ConfinedFolder>>>,
    storage: Arc<StorageDriver>,
    running: Mutex<Option<Running>>,
    /// One start or stop at a time.
    turn: tokio::sync::Mutex<()>,
}

struct Running {
    address: SocketAddr,
    /// Ends the connections, too.
    server: AbortOnDropHandle<()>,
}

impl fmt::Debug for HttpServerDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpServerDriver({})", self.place.display())
    }
}

impl HttpServerDriver {
    pub(crate) async fn open(config: HttpServerConfig) -> Result<Self> {
        let folder = serving::open_folder(&config.root_dir).await?;
        let storage = StorageDriver::folder(folder.clone(), config.remove_created_on_close);
        let host = config.host.filter(|host| !host.is_empty());
        Ok(Self {
            host: host.unwrap_or_else(|| serving::default_address().to_string()),
            port: config.port,
            timeout: Duration::from_secs(config.timeout),
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

    fn port(&self) -> u16 {
        self.running().as_ref().map_or(0, |running| running.address.port())
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
impl Driver for HttpServerDriver {
    interfaces!(HttpServer);

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
impl HttpServer for HttpServerDriver {
    async fn start(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        self.end().await;
        let folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let folder = folder.ok_or_else(|| Error::failed_precondition("the server is closed"))?;
        let doing = || format!("listening at {}:{}", self.host, self.port);
        let address = serving::listening_address(Some(&self.host), self.port).await?;
        let listener = TcpListener::bind(address).await.map_err(Error::from).map_err(|error| {
            error.with_hint("`jmp check` says why; choose another `port` or `host`")
        });
        let listener = listener.with_context(doing)?;
        let address = listener.local_addr().with_context(doing)?;
        tracing::info!(%address, folder = %self.place.display(), "serving over HTTP");
        let serving = server::serve(listener, folder, self.timeout);
        let server = AbortOnDropHandle::new(tokio::spawn(serving));
        *self.running() = Some(Running { address, server });
        Ok(())
    }

    async fn stop(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        if !self.end().await {
            tracing::warn!("the HTTP server is not running");
        }
        Ok(())
    }

    async fn get_url(&self) -> Result<String> {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        Ok(format!("http://{host}:{}", self.port()))
    }

    async fn get_host(&self) -> Result<String> {
        Ok(self.host.clone())
    }

    async fn get_port(&self) -> Result<u16> {
        Ok(self.port())
    }
}
