//! `udp`: a UDP endpoint that this machine can reach.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, stream};
use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::resolve::{Endpoint, yes};
use crate::tcp::CONNECT_TIMEOUT;

/// The largest datagram, in bytes, and one byte more to notice a larger one.
const LARGEST: usize = 64 * 1024;
/// How long answers may take after the client has finished sending. UDP itself has no end.
const LINGER: Duration = Duration::from_secs(2);

/// A UDP endpoint that this machine can reach.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdpNetworkConfig {
    /// Host name or IP address.
    host: String,
    /// UDP port.
    port: NonZeroU16,
    /// Whether clients may ask for the address.
    #[serde(default = "yes")]
    enable_address: bool,
}

#[async_trait]
impl DriverConfig for UdpNetworkConfig {
    const NAME: &'static str = "udp";
    const PYTHON_NAMES: &'static [&'static str] = &["jumpstarter_driver_network.driver.UdpNetwork"];
    type Driver = UdpNetwork;

    async fn open(self, _: OpenContext) -> Result<UdpNetwork> {
        let network = UdpNetwork::new(self.host, self.port.get());
        Ok(if self.enable_address { network } else { network.hide_address() })
    }
}
register_driver!(UdpNetworkConfig);

/// A UDP endpoint: each [`connect`](Network::connect) is one socket, and each frame of its channel
/// one datagram.
///
/// As usual in UDP, a datagram without a receiver is lost without an error. After the client has
/// finished sending, the channel ends after 2 s without an answer.
#[derive(Clone, Debug)]
pub struct UdpNetwork {
    endpoint: Endpoint,
}

impl UdpNetwork {
    /// The endpoint at `port` of `host`, a host name or an IP address. Nothing is resolved yet.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { endpoint: Endpoint::new(host, port) }
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
}

impl fmt::Display for UdpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Driver for UdpNetwork {
    interfaces!(Network);
}

#[async_trait]
impl Network for UdpNetwork {
    async fn connect(&self) -> Result<Channel> {
        let doing = || format!("connecting to UDP endpoint {self}");
        let address = self.endpoint.resolve(CONNECT_TIMEOUT).await.with_context(doing)?[0];
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.with_context(doing)?;
        socket.connect(address).await.with_context(doing)?;
        let (socket, finished) = (Arc::new(socket), CancellationToken::new());
        let sender = Sender {
            socket: socket.clone(),
            waiting: None,
            finished: Some(finished.clone().drop_guard()),
        };
        let receiver = Receiver { socket, finished, buffer: vec![0; LARGEST] };
        let datagrams = stream::unfold(receiver, Receiver::next);
        Ok(Channel::from_parts(Framing::Datagrams, datagrams, sender))
    }

    async fn address(&self) -> Result<String> {
        self.endpoint.address("udp", CONNECT_TIMEOUT).await
    }
}

/// Whether the peer's host reported that nobody took an earlier datagram.
fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

struct Receiver {
    socket: Arc<UdpSocket>,
    /// Cancelled when the client has finished sending.
    finished: CancellationToken,
    buffer: Vec<u8>,
}

impl Receiver {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let quiet = async {
            self.finished.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        let received = async {
            loop {
                match self.socket.recv(&mut self.buffer).await {
                    Err(error) if is_lost(&error) => {}
                    received => return received,
                }
            }
        };
        let received = tokio::select! {
            received = received => received,
            () = quiet => return None,
        };
        let datagram = received.map(|length| Bytes::copy_from_slice(&self.buffer[..length]));
        Some((datagram, self))
    }
}

struct Sender {
    socket: Arc<UdpSocket>,
    /// The datagram that the socket has not taken yet.
    waiting: Option<Bytes>,
    /// `None` once the client has finished sending.
    finished: Option<DropGuard>,
}

impl Sink<Bytes> for Sender {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, datagram: Bytes) -> io::Result<()> {
        self.waiting = Some(datagram);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(datagram) = &self.waiting {
            match ready!(self.socket.poll_send(context, datagram)) {
                // The report is about an earlier one.
                Err(error) if is_lost(&error) => continue,
                Err(error) => {
                    let length = datagram.len();
                    self.waiting = None;
                    let message = format!("sending a datagram of {length} bytes: {error}");
                    return Poll::Ready(Err(io::Error::new(error.kind(), message)));
                }
                Ok(_) => self.waiting = None,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        self.finished = None;
        Poll::Ready(Ok(()))
    }
}
