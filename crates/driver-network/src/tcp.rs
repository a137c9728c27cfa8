//! `tcp`: a TCP endpoint that this machine can reach.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;

use crate::endpoint::{CONNECT_TIMEOUT, Endpoint, connect_timeout, yes};

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

/// A TCP endpoint: each [`connect`](Network::connect) is one TCP connection, without Nagle's delay
/// and with keep-alive probes.
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
            .endpoint
            .open_tcp(self.connect_timeout)
            .await
            .with_context(|| format!("connecting to TCP endpoint {self}"))?;
        let (reader, writer) = stream.into_split();
        Ok(Channel::from_split(reader, writer))
    }

    async fn address(&self) -> Result<String> {
        self.endpoint.address("tcp", self.connect_timeout).await
    }
}
