//! The driver: a server that is started and stopped.

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_storage::FolderServer;
use tokio::net::TcpListener;

use crate::config::HttpServerConfig;
use crate::interface::HttpServer;
use crate::server;

/// Serves a folder over HTTP while it is started.
#[derive(Debug)]
pub struct HttpServerDriver {
    server: FolderServer,
    timeout: Duration,
}

impl HttpServerDriver {
    pub(crate) async fn open(config: HttpServerConfig) -> Result<Self> {
        let host = config.host.as_deref().unwrap_or_default();
        let removes_created = config.remove_created_on_close;
        let server =
            FolderServer::open("HTTP", &config.root_dir, host, config.port, removes_created);
        Ok(Self { server: server.await?, timeout: Duration::from_secs(config.timeout) })
    }
}

#[async_trait]
impl Driver for HttpServerDriver {
    interfaces!(HttpServer);

    fn children(&self) -> Vec<Child> {
        vec![self.server.storage()]
    }

    async fn reset(&self) -> Result<()> {
        self.server.reset().await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.server.close().await;
        Ok(())
    }
}

#[async_trait]
impl HttpServer for HttpServerDriver {
    async fn start(&self) -> Result<()> {
        let timeout = self.timeout;
        let serve = async move |address, folder| {
            let listener = TcpListener::bind(address).await?;
            Ok((listener.local_addr()?, server::serve(listener, folder, timeout)))
        };
        self.server.restart(serve).await
    }

    async fn stop(&self) -> Result<()> {
        self.server.stop().await;
        Ok(())
    }

    async fn get_url(&self) -> Result<String> {
        let host = match self.server.host() {
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        Ok(format!("http://{host}:{}", self.get_port().await?))
    }

    async fn get_host(&self) -> Result<String> {
        Ok(self.server.host().to_owned())
    }

    async fn get_port(&self) -> Result<u16> {
        Ok(self.server.port().unwrap_or(0))
    }
}
