//! `websocket`: a WebSocket that this machine can reach.

mod connection;
mod tls;
mod url;

use std::fmt;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{ConfigProblem, deadline_after};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::endpoint::{CONNECT_TIMEOUT, connect_timeout, hidden, yes};
use connection::Settings;
use url::Address;

/// The largest message from the server unless configured, as Python's library has it.
const MAX_MESSAGE: ByteSize = ByteSize::mebibytes(1);
/// How often the server is asked whether it still answers, unless configured.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What a message is sent as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// Bytes.
    #[default]
    Binary,
    /// Text, for servers that take nothing else.
    Text,
}

/// A WebSocket that this machine can reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebsocketNetworkConfig {
    /// Where to connect: `ws://host:port/path`, or `wss://…` for TLS. A user and a password before
    /// the host (`ws://user:password@host`) are sent to the server and never shown.
    url: String,
    /// Whether clients may ask for the address.
    #[serde(default = "yes")]
    enable_address: bool,
    /// Whether messages are sent as `binary` or `text`. Both kinds are received.
    #[serde(default)]
    send_as: MessageKind,
    /// The largest message that is accepted from the server.
    #[serde(default = "max_message_size")]
    max_message_size: ByteSize,
    /// How often the server is pinged. A server that says nothing for twice that time is lost.
    #[serde(default = "keep_alive")]
    keep_alive: Span,
    /// A file of certificate authorities (PEM) that are trusted beside the system's.
    #[serde(default)]
    ca_file: Option<HostPath>,
    /// How long connecting may take.
    #[serde(default = "connect_timeout")]
    connect_timeout: Span,
}

fn max_message_size() -> ByteSize {
    MAX_MESSAGE
}

fn keep_alive() -> Span {
    Span::from(KEEP_ALIVE)
}

#[async_trait]
impl DriverConfig for WebsocketNetworkConfig {
    const NAME: &'static str = "websocket";
    const PYTHON_NAMES: &'static [&'static str] =
        &["jumpstarter_driver_network.driver.WebsocketNetwork"];
    type Driver = WebsocketNetwork;

    fn check(&self) -> Vec<ConfigProblem> {
        let address = Address::read(&self.url);
        let url = address.err().map(|error| ConfigProblem::from_error("url", &error));
        let zero = |field: &str, is_zero: bool| {
            is_zero.then(|| ConfigProblem::new(field, "0 is too small"))
        };
        let size = zero("max_message_size", self.max_message_size.as_bytes() == 0);
        let ping = zero("keep_alive", self.keep_alive.as_duration().is_zero());
        [url, size, ping].into_iter().flatten().collect()
    }

    async fn open(self, _: OpenContext) -> Result<WebsocketNetwork> {
        let mut network = WebsocketNetwork::new(&self.url)?;
        network.shows_address = self.enable_address;
        network.ca_file = self.ca_file;
        network.connect_timeout = self.connect_timeout.as_duration();
        network.settings.send_as = self.send_as;
        network.settings.keep_alive = self.keep_alive.as_duration();
        network.max_message_size = self.max_message_size;
        Ok(network)
    }
}
register_driver!(WebsocketNetworkConfig);

/// A WebSocket: each [`connect`](Network::connect) is one connection to it, and each frame of its
/// channel one message.
///
/// The channel ends when the server closes with code 1000 or 1001, or without a code; another code,
/// or a connection that breaks, is an error. A WebSocket has no half-close: after the client has
/// finished sending, it is closed when nothing has come for 2 s.
#[derive(Clone, Debug)]
pub struct WebsocketNetwork {
    address: Address,
    shows_address: bool,
    ca_file: Option<HostPath>,
    connect_timeout: Duration,
    max_message_size: ByteSize,
    settings: Settings,
}

impl WebsocketNetwork {
    /// The WebSocket at `url`. Nothing is resolved or connected yet.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no URL of a WebSocket.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            address: Address::read(url)?,
            shows_address: true,
            ca_file: None,
            connect_timeout: CONNECT_TIMEOUT,
            max_message_size: MAX_MESSAGE,
            settings: Settings { send_as: MessageKind::Binary, keep_alive: KEEP_ALIVE },
        })
    }

    async fn open_socket(&self) -> Result<WebSocketStream<Box<dyn Io>>> {
        let stream = self.address.endpoint.open_tcp(self.connect_timeout).await?;
        let io: Box<dyn Io> = match self.address.is_secure {
            true => {
                let host = self.address.endpoint.bare_host();
                Box::new(tls::secure(stream, host, self.ca_file.as_ref()).await?)
            }
            false => Box::new(stream),
        };
        let most = usize::try_from(self.max_message_size.as_bytes()).unwrap_or(usize::MAX);
        let limits =
            WebSocketConfig::default().max_message_size(Some(most)).max_frame_size(Some(most));
        let request = self.address.request()?;
        match client_async_with_config(request, io, Some(limits)).await {
            Ok((socket, _)) => Ok(socket),
            Err(SocketError::Http(response)) => {
                let status = response.status();
                let message = format!("the server answers {status} instead of opening a WebSocket");
                Err(Error::unavailable(message).with_hint("check the URL's path and credentials"))
            }
            Err(error) => Err(Error::unavailable("the server does not open a WebSocket")
                .with_source(error)
                .with_hint("check that the URL's host, port and scheme are those of a WebSocket")),
        }
    }
}

impl fmt::Display for WebsocketNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Driver for WebsocketNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for WebsocketNetwork {
    async fn connect(&self) -> Result<Channel> {
        let doing = || format!("connecting to WebSocket {self}");
        let deadline = deadline_after(self.connect_timeout);
        let socket = match timeout_at(deadline, self.open_socket()).await {
            Ok(socket) => socket.with_context(doing)?,
            Err(_) => {
                let message = format!("no answer for {:?}", self.connect_timeout);
                return Err(Error::unavailable(message).context(doing()));
            }
        };
        Ok(connection::channel(socket, self.settings, self.to_string()))
    }

    async fn address(&self) -> Result<String> {
        match self.shows_address {
            true => Ok(self.to_string()),
            false => Err(hidden("WebSocket")),
        }
    }
}

/// What a WebSocket goes over.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
