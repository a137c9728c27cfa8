//! Local forwards: listens here, connects through a driver.

use std::fmt;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::channel::copy_both;
use jumpstarter_driver_core::{Channel, Error, Network, Result, ResultExt};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::listen::{self, Listener};
use crate::stats::{ForwardStats, LiveStats};
use jumpstarter_files::SocketFile;

/// How long accepting pauses after it failed, for example because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the endpoint may take to report its address; afterwards it counts as one of streams.
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);

/// A local TCP port or Unix socket; every connection to it is forwarded to a device.
///
/// Serves many connections at once, each with one connection to the device; half-close is kept. An
/// endpoint with a UDP address is refused with `FailedPrecondition`: a stream does not keep the
/// boundaries of datagrams. If the device cannot be reached or breaks off, a local TCP connection
/// is reset, so that it does not look complete (a Unix one can only be closed), and
/// [`stats`](PortForward::stats) has the reason. [`stop`](PortForward::stop) or dropping ends the
/// listener and every connection; a Unix socket's file is removed.
///
/// ```
/// # use std::sync::Arc;
/// # use jumpstarter_driver_network::{EchoNetwork, PortForward};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let forward = PortForward::tcp(Arc::new(EchoNetwork::new())).bind("127.0.0.1:0").await?;
/// let stream = tokio::net::TcpStream::connect(forward.address()).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PortForward {
    endpoint: Endpoint,
    stats: Arc<LiveStats>,
    task: AbortOnDropHandle<()>,
    file: Option<SocketFile>,
}

/// The address of a forward. `Display` prints it for programs: `127.0.0.1:4000`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl PortForward {
    /// A TCP port: a free one of 127.0.0.1 unless [`bind`](TcpForward::bind) says otherwise. Await
    /// it to start.
    pub fn tcp(network: Arc<dyn Network>) -> TcpForward {
        TcpForward { network, address: "127.0.0.1:0".to_owned() }
    }

    /// A Unix socket at `path`, for its owner only (mode 0600). Await it to start.
    ///
    /// Replaces a socket that a program left behind; one in use, or another file, is
    /// `AlreadyExists`.
    pub fn unix(network: Arc<dyn Network>, path: impl Into<PathBuf>) -> UnixForward {
        UnixForward { network, path: path.into() }
    }

    /// Fails with `FailedPrecondition` for an endpoint that says that it takes datagrams: a stream
    /// does not keep their bounds.
    async fn check(network: &dyn Network) -> Result<()> {
        match tokio::time::timeout(ADDRESS_LIMIT, network.address()).await {
            Ok(Ok(address)) if address.starts_with("udp:") => {
                Err(Error::failed_precondition(format!(
                    "{address} takes datagrams, and a forward passes on streams"
                ))
                .with_hint("`j stream NAME connect` sends each piece of its input as a datagram; a program uses the channel of `connect`"))
            }
            _ => Ok(()),
        }
    }

    fn start(
        network: Arc<dyn Network>,
        listener: Listener,
        endpoint: Endpoint,
        file: Option<SocketFile>,
    ) -> Self {
        let stats = Arc::new(LiveStats::default());
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, network, stats.clone())));
        Self { endpoint, stats, task, file }
    }

    /// The address at which it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address as text: `127.0.0.1:4000`, or a path.
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// The TCP address, if it listens on one.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Tcp(address) => Some(address),
            Endpoint::Unix(_) => None,
        }
    }

    /// The Unix socket, if it listens on one.
    pub fn path(&self) -> Option<&Path> {
        match &self.endpoint {
            Endpoint::Tcp(_) => None,
            Endpoint::Unix(path) => Some(path),
        }
    }

    /// Its statistics so far.
    pub fn stats(&self) -> ForwardStats {
        self.stats.snapshot()
    }

    /// Ends the listener and every connection, and returns when all are closed and the socket's
    /// file is removed. Cancelling does the same without waiting.
    pub async fn stop(self) {
        self.task.abort();
        // It was cancelled, or it panicked and the panic was reported then.
        self.task.await.ok();
        if let Some(file) = self.file {
            // A hanging file system blocks only this caller.
            tokio::task::spawn_blocking(move || file.remove()).await.ok();
        }
    }
}

/// A TCP forward to be started by awaiting it.
#[must_use = "a forward starts when it is awaited"]
pub struct TcpForward {
    network: Arc<dyn Network>,
    address: String,
}

impl TcpForward {
    /// Listens at `address`, such as `127.0.0.1:8080` or `[::1]:0`; port 0 takes a free one.
    /// `localhost` listens by IPv4 and IPv6, if this machine has them: programs use either.
    ///
    /// Starting it fails with `Unavailable` for a port in use, `PermissionDenied` for one below
    /// 1024 that needs rights, `InvalidArgument` for an invalid host and port.
    ///
    /// Pitfall: `0.0.0.0` opens the device to everyone who can reach this machine.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.address = address.to_string();
        self
    }
}

impl IntoFuture for TcpForward {
    type Output = Result<PortForward>;
    type IntoFuture = BoxFuture<'static, Result<PortForward>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            PortForward::check(&*self.network).await?;
            let (listener, address) = listen::tcp(&self.address).await?;
            Ok(PortForward::start(self.network, listener, Endpoint::Tcp(address), None))
        })
    }
}

/// A Unix socket's forward to be started by awaiting it.
#[must_use = "a forward starts when it is awaited"]
pub struct UnixForward {
    network: Arc<dyn Network>,
    path: PathBuf,
}

impl IntoFuture for UnixForward {
    type Output = Result<PortForward>;
    type IntoFuture = BoxFuture<'static, Result<PortForward>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            PortForward::check(&*self.network).await?;
            let (listener, file) = listen::unix(&self.path).await?;
            Ok(PortForward::start(self.network, listener, Endpoint::Unix(self.path), Some(file)))
        })
    }
}

impl fmt::Debug for TcpForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpForward").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for UnixForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixForward").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Accepts until dropped; dropping ends the connections with it.
async fn serve(listener: Listener, network: Arc<dyn Network>, stats: Arc<LiveStats>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(local) => {
                    connections.spawn(pass_on(local, network.clone(), stats.clone()));
                }
                Err(error) => {
                    stats.failed(&Error::from(error).context("accepting a connection"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                stats.failed(&Error::internal("a forwarded connection broke down").with_source(error));
            },
        }
    }
}

async fn pass_on(local: Channel, network: Arc<dyn Network>, stats: Arc<LiveStats>) {
    let _open = stats.opened();
    let passing = async {
        let device = network.connect().await.context("connecting to the device")?;
        copy_both(local, device, Some(&stats.bytes)).await.context("passing data on")
    };
    if let Err(error) = passing.await {
        stats.failed(&error);
    }
}
