//! Local forwards: listens here, connects through a driver.

mod udp;

use std::fmt;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jumpstarter_driver_core::channel::copy_both;
use jumpstarter_driver_core::{Channel, Error, Framing, Network, Result, ResultExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::listen::{self, Listener};
use crate::stats::{ForwardStats, LiveStats};
use jumpstarter_files::SocketFile;

pub use udp::UdpForward;

/// How long accepting pauses after it failed, for example because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the endpoint may take to report its address; afterwards it counts as one of streams.
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);

/// A free port that only this machine reaches.
const LOOPBACK: &str = "127.0.0.1:0";

/// A local TCP port, UDP port or Unix socket; every connection to it is forwarded to a device.
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
    stopping: CancellationToken,
    device_address: Option<String>,
    file: Option<SocketFile>,
}

/// The address of a forward. `Display` prints it for programs: `127.0.0.1:4000`, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A UDP port.
    Udp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Udp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl PortForward {
    /// A TCP port: a free one of 127.0.0.1 unless [`bind`](TcpForward::bind) says otherwise. Await
    /// it to start.
    pub fn tcp(network: Arc<dyn Network>) -> TcpForward {
        TcpForward { network, address: LOOPBACK.to_owned() }
    }

    /// A Unix socket at `path`, for its owner only (mode 0600). Await it to start.
    ///
    /// Replaces a socket that a program left behind; one in use, or another file, is
    /// `AlreadyExists`.
    pub fn unix(network: Arc<dyn Network>, path: impl Into<PathBuf>) -> UnixForward {
        UnixForward { network, path: path.into() }
    }

    /// A local UDP port for an endpoint of datagrams. Await it to start.
    pub fn udp(network: Arc<dyn Network>) -> UdpForward {
        UdpForward::new(network)
    }

    /// A local port of the endpoint's kind: UDP if its address says so, else TCP. Await it to
    /// start.
    ///
    /// An endpoint that hides its address, or does not report it within 5 s, is taken for one of
    /// streams.
    pub fn matching(network: Arc<dyn Network>) -> MatchingForward {
        MatchingForward { network, address: LOOPBACK.to_owned() }
    }

    /// `serve` ends once the token is cancelled and everything is closed.
    fn start<S>(
        endpoint: Endpoint,
        serve: impl FnOnce(Arc<LiveStats>, CancellationToken) -> S,
    ) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let (stats, stopping) = (Arc::new(LiveStats::default()), CancellationToken::new());
        let serving = serve(stats.clone(), stopping.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(serving));
        Self { endpoint, stats, task, stopping, device_address: None, file: None }
    }

    /// What the device said its endpoint's address is when the forward started, such as
    /// `tcp://127.0.0.1:80`; a forward to UDP that was not chosen by the address does not ask.
    pub fn device_address(&self) -> Option<&str> {
        self.device_address.as_deref()
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
            Endpoint::Udp(_) | Endpoint::Unix(_) => None,
        }
    }

    /// The UDP address, if it listens on one.
    pub fn udp_address(&self) -> Option<SocketAddr> {
        match self.endpoint {
            Endpoint::Udp(address) => Some(address),
            Endpoint::Tcp(_) | Endpoint::Unix(_) => None,
        }
    }

    /// The Unix socket, if it listens on one.
    pub fn path(&self) -> Option<&Path> {
        match &self.endpoint {
            Endpoint::Tcp(_) | Endpoint::Udp(_) => None,
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
        // Not aborted: the tasks of its connections would end later.
        self.stopping.cancel();
        // A panic was reported then.
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
    /// A name listens at each of its addresses that this machine has, `localhost` by IPv4 and IPv6:
    /// programs use either.
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
            let device_address = of_streams(address_of(&*self.network).await)?;
            self.start(device_address).await
        })
    }
}

impl TcpForward {
    async fn start(self, device_address: Option<String>) -> Result<PortForward> {
        let (listener, address) = listen::tcp(&self.address).await?;
        let forward = PortForward::start(Endpoint::Tcp(address), |stats, stopping| {
            serve(listener, self.network, stats, stopping)
        });
        Ok(PortForward { device_address, ..forward })
    }
}

/// A forward to a port of the endpoint's kind, to be started by awaiting it.
#[must_use = "a forward starts when it is awaited"]
pub struct MatchingForward {
    network: Arc<dyn Network>,
    address: String,
}

impl MatchingForward {
    /// Listens at `address`, as [`TcpForward::bind`] does.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.address = address.to_string();
        self
    }
}

impl IntoFuture for MatchingForward {
    type Output = Result<PortForward>;
    type IntoFuture = BoxFuture<'static, Result<PortForward>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { network, address } = self;
            let device_address = address_of(&*network).await;
            if device_address.as_deref().is_some_and(is_udp) {
                let forward = PortForward::udp(network).bind(address).await?;
                return Ok(PortForward { device_address, ..forward });
            }
            PortForward::tcp(network).bind(address).start(device_address).await
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
            let device_address = of_streams(address_of(&*self.network).await)?;
            let (listener, file) = listen::unix(&self.path).await?;
            let forward = PortForward::start(Endpoint::Unix(self.path), |stats, stopping| {
                serve(listener, self.network, stats, stopping)
            });
            Ok(PortForward { device_address, file: Some(file), ..forward })
        })
    }
}

impl fmt::Debug for TcpForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpForward").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for MatchingForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatchingForward").field("address", &self.address).finish_non_exhaustive()
    }
}

impl fmt::Debug for UnixForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixForward").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Accepts until it is stopped or dropped, which ends the connections with it.
async fn serve(
    listener: Listener,
    network: Arc<dyn Network>,
    stats: Arc<LiveStats>,
    stopping: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
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
    drop(listener);
    connections.shutdown().await;
}

async fn pass_on(local: Channel, network: Arc<dyn Network>, stats: Arc<LiveStats>) {
    let _open = stats.opened();
    let passing = async {
        let device = network.connect().await.context("connecting to the device")?;
        let device = matched(local.framing(), device)?;
        copy_both(local, device, Some(&stats.bytes)).await.context("passing data on")
    };
    if let Err(error) = passing.await {
        stats.failed(&error);
    }
}

/// The endpoint's address; `None` if it hides it, or does not report it in time.
async fn address_of(network: &dyn Network) -> Option<String> {
    tokio::time::timeout(ADDRESS_LIMIT, network.address()).await.ok()?.ok()
}

fn is_udp(address: &str) -> bool {
    address.starts_with("udp:")
}

/// Fails with `FailedPrecondition` for an endpoint that says that it takes datagrams: a stream does
/// not keep their bounds.
fn of_streams(address: Option<String>) -> Result<Option<String>> {
    match address {
        Some(address) if is_udp(&address) => Err(Error::failed_precondition(format!(
            "{address} takes datagrams, and this forward passes on streams"
        ))
        .with_hint("forward it to a UDP port: `j PATH forward-udp`")),
        address => Ok(address),
    }
}

/// The device's channel with the framing of the local one. Messages that are no datagrams of UDP,
/// as those of a WebSocket, may be the pieces of a stream.
fn matched(local: Framing, device: Channel) -> Result<Channel> {
    match (local, device.framing()) {
        (Framing::Datagrams, Framing::Bytes) => {
            Err(Error::invalid_argument("the endpoint carries a stream of bytes, no datagrams")
                .with_hint("forward it to a TCP port or a Unix socket"))
        }
        (Framing::Bytes, Framing::Datagrams) => {
            let (reader, writer) = device.split();
            Ok(Channel::from_parts(Framing::Bytes, reader, writer))
        }
        _ => Ok(device),
    }
}
