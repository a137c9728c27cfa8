//! A local UDP port: one socket, and a channel to the device for each local peer.

use std::collections::HashMap;
use std::fmt;
use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{sink, stream};
use jumpstarter_driver_core::{Channel, Error, Framing, Network, Result};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{ACCEPT_PAUSE, Endpoint, LOOPBACK, PortForward, pass_on};
use crate::listen;
use crate::stats::LiveStats;

/// The largest datagram, in bytes, and one more.
const LARGEST: usize = 64 * 1024;
/// Datagrams of one peer that wait for the device; more are dropped.
const WAITING: usize = 128;
/// How long a peer may be silent, and the device to it.
const IDLE: Duration = Duration::from_secs(120);
/// How many peers there may be at once.
const MOST_PEERS: usize = 1024;

/// A UDP forward to be started by awaiting it.
///
/// Each local peer, by its address and port, has a channel to the device, so that answers find it.
/// A channel ends when neither side has sent anything for two minutes, or when the device refuses
/// it; the peer's next datagram opens another. Datagrams stay whole, empty ones too, and are
/// dropped where they come faster than the device takes them.
#[must_use = "a forward starts when it is awaited"]
pub struct UdpForward {
    network: Arc<dyn Network>,
    address: String,
    idle: Duration,
    most_peers: usize,
}

impl UdpForward {
    pub(super) fn new(network: Arc<dyn Network>) -> Self {
        Self { network, address: LOOPBACK.to_owned(), idle: IDLE, most_peers: MOST_PEERS }
    }

    /// Listens on `address`, as [`TcpForward::bind`](super::TcpForward::bind) does.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.address = address.to_string();
        self
    }

    /// How long a peer's channel may be silent until it ends; 2 minutes unless set.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// How many peers there may be at once; 1,024 unless set. The datagrams of others are dropped.
    pub fn most_peers(mut self, most_peers: usize) -> Self {
        self.most_peers = most_peers.min(Semaphore::MAX_PERMITS);
        self
    }
}

impl fmt::Debug for UdpForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpForward").field("address", &self.address).finish_non_exhaustive()
    }
}

impl IntoFuture for UdpForward {
    type Output = Result<PortForward>;
    type IntoFuture = BoxFuture<'static, Result<PortForward>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (sockets, address) = listen::udp(&self.address).await?;
            let room = Arc::new(Semaphore::new(self.most_peers));
            Ok(PortForward::start(Endpoint::Udp(address), |stats, stopping| async move {
                let mut serving = JoinSet::new();
                for socket in sockets {
                    let (network, room) = (self.network.clone(), room.clone());
                    let (stats, idle) = (stats.clone(), self.idle);
                    let (socket, stopping) = (Arc::new(socket), stopping.clone());
                    serving.spawn(async move {
                        Local { socket, network, stats, idle, room }.serve(stopping).await;
                    });
                }
                while let Some(ended) = serving.join_next().await {
                    if let Err(error) = ended {
                        let broken = Error::internal("a socket of the forward broke down");
                        stats.failed(&broken.with_source(error));
                    }
                }
            }))
        })
    }
}

/// One of the forward's sockets.
struct Local {
    socket: Arc<UdpSocket>,
    network: Arc<dyn Network>,
    stats: Arc<LiveStats>,
    idle: Duration,
    room: Arc<Semaphore>,
}

impl Local {
    /// Receives until it is stopped or dropped, which ends the peers' channels.
    async fn serve(&self, stopping: CancellationToken) {
        let mut buffer = vec![0; LARGEST];
        let mut peers: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
        let mut channels = JoinSet::new();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, peer)) => {
                        let datagram = Bytes::copy_from_slice(&buffer[..length]);
                        self.pass(datagram, peer, &mut peers, &mut channels);
                    }
                    Err(error) => {
                        self.stats.failed(&Error::from(error).context("receiving a datagram"));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = channels.join_next() => match ended {
                    Ok(peer) => if peers.get(&peer).is_some_and(mpsc::Sender::is_closed) {
                        peers.remove(&peer);
                    },
                    Err(error) => {
                        let error = Error::internal("a peer's channel broke down").with_source(error);
                        self.stats.failed(&error);
                        peers.retain(|_, sender| !sender.is_closed());
                    }
                },
            }
        }
        channels.shutdown().await;
    }

    fn pass(
        &self,
        datagram: Bytes,
        peer: SocketAddr,
        peers: &mut HashMap<SocketAddr, mpsc::Sender<Bytes>>,
        channels: &mut JoinSet<SocketAddr>,
    ) {
        let datagram = match peers.get(&peer).map(|sender| sender.try_send(datagram.clone())) {
            Some(Ok(())) => return,
            Some(Err(TrySendError::Full(_))) => return self.stats.dropped(),
            Some(Err(TrySendError::Closed(datagram))) => datagram,
            None => datagram,
        };
        let Ok(place) = self.room.clone().try_acquire_owned() else {
            return self.stats.dropped();
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        // There is room for one.
        sender.try_send(datagram).ok();
        peers.insert(peer, sender);
        channels.spawn(self.channel(peer, receiver, place));
    }

    /// Passes the peer's datagrams on, and the answers back, until it is silent for too long.
    fn channel(
        &self,
        peer: SocketAddr,
        datagrams: mpsc::Receiver<Bytes>,
        place: OwnedSemaphorePermit,
    ) -> impl Future<Output = SocketAddr> + Send + 'static {
        let active = Arc::new(Notify::new());
        let seen = active.clone();
        let datagrams = stream::unfold(datagrams, move |mut datagrams| {
            let seen = seen.clone();
            async move {
                let datagram = datagrams.recv().await?;
                seen.notify_one();
                Some((Ok(datagram), datagrams))
            }
        });
        let (socket, seen) = (self.socket.clone(), active.clone());
        let answers = sink::unfold((), move |(), answer: Bytes| {
            let (socket, seen) = (socket.clone(), seen.clone());
            async move {
                seen.notify_one();
                socket.send_to(&answer, peer).await.map_err(|error| {
                    let message = format!("a datagram of {} bytes: {error}", answer.len());
                    io::Error::new(error.kind(), message)
                })?;
                Ok(())
            }
        });
        let local = Channel::from_parts(Framing::Datagrams, datagrams, answers);
        let passing = pass_on(local, self.network.clone(), self.stats.clone());
        let idle = self.idle;
        async move {
            let silent = async { while timeout(idle, active.notified()).await.is_ok() {} };
            tokio::select! {
                () = passing => {}
                () = silent => {}
            }
            drop(place);
            peer
        }
    }
}
