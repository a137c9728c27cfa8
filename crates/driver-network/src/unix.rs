//! `unix`: a Unix socket on this machine.

use std::io;
use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::endpoint::CONNECT_TIMEOUT;

/// A Unix socket on this machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnixNetworkConfig {
    /// Path of the socket.
    path: HostPath,
}

#[async_trait]
impl DriverConfig for UnixNetworkConfig {
    const NAME: &'static str = "unix";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_network.driver.UnixNetwork"];
    type Driver = UnixNetwork;

    async fn open(self, _: OpenContext) -> Result<UnixNetwork> {
        Ok(UnixNetwork::new(self.path))
    }
}
register_driver!(UnixNetworkConfig);

/// A Unix stream socket: each [`connect`](Network::connect) is one connection to it.
#[derive(Clone, Debug)]
pub struct UnixNetwork {
    path: HostPath,
}

impl UnixNetwork {
    /// The socket at `path`. It may come to exist later.
    pub fn new(path: impl Into<HostPath>) -> Self {
        Self { path: path.into() }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn open_stream(&self) -> Result<UnixStream> {
        let path = self.path.located().await;
        let deadline = deadline_after(CONNECT_TIMEOUT);
        connect(&path, deadline).await.map_err(|error| self.unreachable(error))
    }

    fn unreachable(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => Error::from(error),
            io::ErrorKind::NotFound => {
                Error::unavailable("there is no such socket").with_source(error).with_hint(format!(
                    "check the path, and that the program that makes the socket is running; {}",
                    self.path.looked_for()
                ))
            }
            io::ErrorKind::ConnectionRefused => Error::unavailable("nothing listens on the socket")
                .with_source(error)
                .with_hint("the program that made the socket has ended; start it again"),
            io::ErrorKind::WouldBlock => {
                Error::unavailable("the listener does not accept connections").with_source(error)
            }
            _ => Error::unavailable("the connection failed").with_source(error),
        }
    }
}

/// Connects to a Unix socket. A listener whose queue is full is tried again until the deadline: the
/// kernel gives no event for when it has room.
pub(crate) async fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            connected => return connected,
        }
    }
}

impl Driver for UnixNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for UnixNetwork {
    async fn connect(&self) -> Result<Channel> {
        let doing = || format!("connecting to Unix socket {}", self.path.display());
        let (reader, writer) = self.open_stream().await.with_context(doing)?.into_split();
        Ok(Channel::from_split(reader, writer))
    }
}
