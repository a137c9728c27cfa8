//! Serving a session on a listener.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, Secret};
use jumpstarter_protocol::v1::exporter_service_server::ExporterServiceServer;
use jumpstarter_protocol::v1::router_service_server::RouterServiceServer;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, OPENING_LIMIT, Peer, Transport};
use crate::listener::Accepted;
use crate::passphrase::Passphrase;
use crate::{Listener, Session, TlsOptions};

/// Frames of byte streams may be so large.
const MAX_FRAME: usize = 16 << 20;
/// Streams at a time on one connection; a client waits with more.
const MAX_STREAMS: u32 = 1024;
/// What a client may send on one stream before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// What it may send on all of them: enough for each, and some more, so that no number of streams that nobody reads
/// holds up a call.
const CONNECTION_WINDOW: u32 = (MAX_STREAMS + 1) * STREAM_WINDOW;
/// TLS handshakes under way at a time; further ones take the place of the oldest.
const MAX_HANDSHAKES: usize = 256;

/// Who may connect to a listener.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// TLS, on TCP only.
    pub tls: Option<TlsOptions>,
    /// Asked for on every call.
    pub passphrase: Option<Secret>,
}

impl Access {
    /// Reads the TLS files.
    ///
    /// # Errors
    /// `InvalidArgument` and the like for files that cannot be used.
    pub(crate) fn prepare(&self) -> Result<Door> {
        let acceptor = self.tls.as_ref().map(TlsOptions::acceptor).transpose()?;
        Ok(Door { acceptor, passphrase: self.passphrase.clone() })
    }
}

/// An [`Access`] whose files have been read.
#[derive(Clone, Default)]
pub(crate) struct Door {
    acceptor: Option<TlsAcceptor>,
    passphrase: Option<Secret>,
}

/// The two steps in which serving ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// No new connections.
    pub(crate) accepting: CancellationToken,
    /// No new calls either.
    pub(crate) serving: CancellationToken,
}

/// Serves until `stop`: then it accepts nothing more, and returns when the calls that run have ended
/// ([`Session::shut_down`] ends them). Dropping the future cuts every connection off, with the calls on it.
///
/// # Errors
/// `InvalidArgument` and the like for TLS files that cannot be used.
pub async fn serve(
    session: Session,
    listener: Listener,
    access: Access,
    stop: CancellationToken,
) -> Result<()> {
    let door = access.prepare()?;
    serve_behind(session, listener, door, Stop { accepting: stop.clone(), serving: stop }).await
}

/// As [`serve`], with files that have been read, and an end in two steps.
pub(crate) async fn serve_behind(session: Session, listener: Listener, door: Door, stop: Stop) -> Result<()> {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Connection>>(16);
    // The server runs each connection in a task of its own: this is what ends them with this future.
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let entrance = Entrance { session: session.clone(), sender, cut };
    let router = RouterServiceServer::new(session.clone()).max_decoding_message_size(MAX_FRAME);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(256 * 1024)
        .layer(Passphrase::new(door.passphrase.as_ref()))
        .add_service(ExporterServiceServer::new(session))
        .add_service(router)
        .serve_with_incoming_shutdown(ReceiverStream::new(receiver), stop.serving.clone().cancelled_owned());
    let accepting = async {
        tokio::select! {
            () = accept(listener, door.acceptor, &entrance) => {}
            () = stop.accepting.cancelled() => {}
        }
        // The server ends when nothing more can come: the calls of those who are connected go on until then.
        stop.serving.cancelled().await;
        drop(entrance);
    };
    let (served, ()) = tokio::join!(server, accepting);
    served.map_err(|error| Error::internal("serving").with_source(error))
}

/// The way of an accepted connection to the server.
#[derive(Clone)]
struct Entrance {
    session: Session,
    sender: mpsc::Sender<std::io::Result<Connection>>,
    cut: CancellationToken,
}

impl Entrance {
    async fn admit(&self, transport: Box<dyn Transport>, address: Option<IpAddr>) {
        let peer = Peer { address, ..Peer::default() };
        let open = self.session.0.connections.token();
        let connection = Connection::new(transport, peer, self.cut.clone(), open);
        // An error means that the server has stopped.
        drop(self.sender.send(Ok(connection)).await);
    }
}

async fn accept(listener: Listener, acceptor: Option<TlsAcceptor>, entrance: &Entrance) {
    let mut handshakes = Handshakes::default();
    loop {
        match (listener.accept().await, &acceptor) {
            (Ok(Accepted::Unix(stream)), _) => entrance.admit(Box::new(stream), None).await,
            (Ok(Accepted::Tcp(stream, address)), None) => {
                entrance.admit(Box::new(stream), Some(address)).await;
            }
            (Ok(Accepted::Tcp(stream, address)), Some(acceptor)) => {
                handshakes.begin(acceptor.clone(), stream, address, entrance.clone());
            }
            (Err(error), _) => {
                // Out of file descriptors, mostly: connections that end will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The TLS handshakes under way; dropping this ends them.
#[derive(Default)]
struct Handshakes {
    tasks: JoinSet<()>,
    order: VecDeque<(IpAddr, AbortHandle)>,
}

impl Handshakes {
    fn begin(&mut self, acceptor: TlsAcceptor, stream: TcpStream, address: IpAddr, entrance: Entrance) {
        while self.tasks.try_join_next().is_some() {}
        self.order.retain(|(_, handshake)| !handshake.is_finished());
        if self.order.len() >= MAX_HANDSHAKES {
            self.give_up_one();
        }
        let handshake = async move {
            match tokio::time::timeout(OPENING_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => entrance.admit(Box::new(stream), Some(address)).await,
                Ok(Err(error)) => tracing::info!(%error, "a client's TLS handshake failed"),
                Err(_) => tracing::info!("a client's TLS handshake took too long"),
            }
        };
        self.order.push_back((address, self.tasks.spawn(handshake)));
    }

    /// Ends the oldest one of whoever has the most: silent clients crowd out each other, not the rest.
    fn give_up_one(&mut self) {
        let of = |address: &IpAddr| self.order.iter().filter(|(other, _)| other == address).count();
        let oldest = (0..self.order.len()).rev().max_by_key(|index| of(&self.order[*index].0));
        if let Some((_, handshake)) = oldest.and_then(|index| self.order.remove(index)) {
            tracing::info!("a client's TLS handshake was given up: too many are under way");
            handshake.abort();
        }
    }
}
