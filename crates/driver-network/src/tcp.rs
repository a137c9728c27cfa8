//! `tcp`: a TCP endpoint that this machine can reach.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use jumpstarter_driver_core::deadline_after;
use jumpstarter_driver_core::prelude::*;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::resolve::{Endpoint, yes};

/// How long connecting may take unless configured.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A TCP endpoint that this machine can reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpNetworkConfig {
    /// Host name or IP address.
    host: String,
    /// TCP port.
    port: NonZeroU16,
    /// Whether clients may ask for the address.
    #[serde(default = "yes")]
    enable_address: bool,
    /// How long connecting may take, all addresses of the host together.
    #[serde(default = "connect_timeout")]
    connect_timeout: Span,
}

fn connect_timeout() -> Span {
    Span::from(CONNECT_TIMEOUT)
}

#[async_trait]
impl DriverConfig for TcpNetworkConfig {
    const NAME: &'static str = "tcp";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_network.driver.TcpNetwork"];
    type Driver = TcpNetwork;

    async fn open(self, _: OpenContext) -> Result<TcpNetwork> {
        let network = TcpNetwork::new(self.host, self.port.get());
        let network = network.connect_timeout(self.connect_timeout.as_duration());
        Ok(if self.enable_address { network } else { network.hide_address() })
    }
}
register_driver!(TcpNetworkConfig);

/// A TCP endpoint: each [`connect`](Network::connect) is one TCP connection, without Nagle's delay.
#[derive(Clone, Debug)]
pub struct TcpNetwork {
    endpoint: Endpoint,
    connect_timeout: Duration,
}

impl TcpNetwork {
    /// The endpoint at `port` of `host`, a host name or an IP address. Nothing is resolved or
    /// connected yet.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { endpoint: Endpoint::new(host, port), connect_timeout: CONNECT_TIMEOUT }
    }

    /// The endpoint at `address`.
    pub fn from_address(address: SocketAddr) -> Self {
        Self::new(address.ip().to_string(), address.port())
    }

    /// Hides the address: asking for it is then `InvalidArgument`.
    #[must_use]
    pub fn hide_address(mut self) -> Self {
        self.endpoint.shows_address = false;
        self
    }

    /// How long connecting may take, all addresses of the host together; 10 seconds unless set.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Tries the addresses in turn; one that does not answer may use up its share of the time only.
    async fn open_stream(&self) -> Result<TcpStream> {
        let deadline = deadline_after(self.connect_timeout);
        let addresses = self.endpoint.resolve(self.connect_timeout).await?;
        let mut failures = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = Instant::now() + left / (addresses.len() - index) as u32;
            match timeout_at(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failures.push(format!("{address}: {error}")),
                Err(_) => failures.push(format!("{address}: no answer")),
            }
        }
        Err(Error::unavailable(failures.join("; ")).with_hint(
            "check that the service listens there and that nothing on the way blocks it",
        ))
    }
}

impl fmt::Display for TcpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Driver for TcpNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for TcpNetwork {
    async fn connect(&self) -> Result<Channel> {
        let stream = self
            .open_stream()
            .await
            .with_context(|| format!("connecting to TCP endpoint {self}"))?;
        stream
            .set_nodelay(true)
            .with_context(|| format!("setting up the connection to TCP endpoint {self}"))?;
        let (reader, writer) = stream.into_split();
        Ok(Channel::from_split(reader, writer))
    }

    async fn address(&self) -> Result<String> {
        self.endpoint.address("tcp", self.connect_timeout).await
    }
}
