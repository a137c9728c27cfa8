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
use tokio::sync::oneshot;

use crate::endpoint::{CONNECT_TIMEOUT, Endpoint, yes};

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
/// Datagrams can be lost without an error, as usual in UDP. If the endpoint's machine reports that
/// nothing listens there, or if a datagram is too large, the channel ends with an error that names
/// the endpoint. After the client has finished sending, the channel ends after 2 s without an
/// answer.
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

impl UdpNetwork {
    /// A socket for the first address that this machine has a way to.
    async fn open_socket(&self) -> Result<UdpSocket> {
        let mut failure = Error::unavailable("the name has no address");
        for address in self.endpoint.resolve(CONNECT_TIMEOUT).await? {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let open = async {
                let socket = UdpSocket::bind(any).await?;
                socket.connect(address).await?;
                Ok::<_, io::Error>(socket)
            };
            match open.await {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = Error::from(error).context(address.to_string()),
            }
        }
        Err(failure)
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
        let socket = self
            .open_socket()
            .await
            .with_context(|| format!("connecting to UDP endpoint {self}"))?;
        let (socket, endpoint) = (Arc::new(socket), self.endpoint.clone());
        let (failed, failure) = oneshot::channel();
        let failed = Some(failed);
        let sender = Sender { socket: socket.clone(), endpoint, waiting: None, failed };
        let (endpoint, failure) = (self.endpoint.clone(), Some(failure));
        let receiver = Receiver { socket, endpoint, failure, buffer: vec![0; LARGEST] };
        let datagrams = stream::unfold(Some(receiver), |receiver| async { receiver?.next().await });
        Ok(Channel::from_parts(Framing::Datagrams, datagrams, sender))
    }

    async fn address(&self) -> Result<String> {
        self.endpoint.address("udp", CONNECT_TIMEOUT).await
    }
}

/// The error of a datagram that did not get to the endpoint, or of its answer.
fn broken(endpoint: &Endpoint, error: &io::Error, datagram: Option<&Bytes>) -> Error {
    let source = io::Error::new(error.kind(), error.to_string());
    match (error.kind(), datagram) {
        // The report of the endpoint's machine about an earlier datagram.
        (io::ErrorKind::ConnectionRefused, _) => {
            Error::unavailable(format!("nothing listens at UDP endpoint {endpoint}"))
                .with_source(source)
                .with_hint("start the service there, and then connect again")
        }
        (_, Some(datagram)) => Error::from(source).context(format!(
            "sending a datagram of {} bytes to UDP endpoint {endpoint}",
            datagram.len()
        )),
        (_, None) => Error::from(source).context(format!("receiving from UDP endpoint {endpoint}")),
    }
}

struct Receiver {
    socket: Arc<UdpSocket>,
    endpoint: Endpoint,
    /// Why the sender failed; `None` when the client has finished sending.
    failure: Option<oneshot::Receiver<Error>>,
    buffer: Vec<u8>,
}

impl Receiver {
    /// The next datagram; nothing follows an error.
    async fn next(mut self) -> Option<(io::Result<Bytes>, Option<Self>)> {
        loop {
            let finished = self.failure.is_none();
            let failure = async {
                match &mut self.failure {
                    Some(failure) => failure.await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                failure = failure => match failure {
                    Some(error) => return Some((Err(error.into()), None)),
                    None => self.failure = None,
                },
                received = self.socket.recv(&mut self.buffer) => return match received {
                    Ok(length) => {
                        Some((Ok(Bytes::copy_from_slice(&self.buffer[..length])), Some(self)))
                    }
                    Err(error) => Some((Err(broken(&self.endpoint, &error, None).into()), None)),
                },
                () = tokio::time::sleep(LINGER), if finished => return None,
            }
        }
    }
}

struct Sender {
    socket: Arc<UdpSocket>,
    endpoint: Endpoint,
    /// The datagram that the socket has not taken yet.
    waiting: Option<Bytes>,
    /// Where the receiver learns why sending failed. `None` once the client has finished.
    failed: Option<oneshot::Sender<Error>>,
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
        let Some(datagram) = self.waiting.take() else { return Poll::Ready(Ok(())) };
        match self.socket.poll_send(context, &datagram) {
            Poll::Pending => {
                self.waiting = Some(datagram);
                Poll::Pending
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                // The client of an exporter only sees what its receiving direction reports.
                let error = || broken(&self.endpoint, &error, Some(&datagram));
                let (first, second) = (error(), error());
                if let Some(failed) = self.failed.take() {
                    failed.send(first).ok();
                }
                Poll::Ready(Err(second.into()))
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        self.failed = None;
        Poll::Ready(Ok(()))
    }
}
