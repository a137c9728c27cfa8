//! The driver: a server that is started and stopped.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_storage::FolderServer;
use tokio::net::UdpSocket;

use crate::config::TftpConfig;
use crate::interface::TftpServer;
use crate::server;

/// Serves a folder over TFTP while it is started.
#[derive(Debug)]
pub struct TftpDriver {
    server: FolderServer,
    port: u16,
}

impl TftpDriver {
    pub(crate) async fn open(config: TftpConfig) -> Result<Self> {
        let TftpConfig { root_dir, host, port, remove_created_on_close } = config;
        let server = FolderServer::open("TFTP", &root_dir, &host, port, remove_created_on_close);
        Ok(Self { server: server.await?, port })
    }
}

#[async_trait]
impl Driver for TftpDriver {
    interfaces!(TftpServer);

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
impl TftpServer for TftpDriver {
    async fn start(&self) -> Result<()> {
        let serve = async |address, folder| {
            let socket = UdpSocket::bind(address).await?;
            Ok((socket.local_addr()?, server::serve(socket, folder)))
        };
        self.server.start(serve).await
    }

    async fn stop(&self) -> Result<()> {
        self.server.stop().await;
        Ok(())
    }

    async fn get_host(&self) -> Result<String> {
        Ok(self.server.host().to_owned())
    }

    async fn get_port(&self) -> Result<u16> {
        Ok(self.server.port().unwrap_or(self.port))
    }
}
