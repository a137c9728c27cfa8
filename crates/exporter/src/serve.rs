//! Serving a session on a listener.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use jumpstarter_driver_core::{Result, Secret};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, OPENING_LIMIT, Peer, Transport};
use crate::listener::Accepted;
use crate::passphrase::Passphrase;
use crate::{Listener, Session, TlsOptions};

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
        Ok(Door { acceptor, passphrase: self.passphrase.clone(), is_for_hooks: false })
    }
}

/// An [`Access`] whose files have been read.
#[derive(Clone, Default)]
pub(crate) struct Door {
    acceptor: Option<TlsAcceptor>,
    passphrase: Option<Secret>,
    /// Only this exporter's hooks know it.
    is_for_hooks: bool,
}

impl Door {
    /// The door of a socket that only this exporter's hooks know.
    pub(crate) fn for_hooks() -> Self {
        Self { is_for_hooks: true, ..Self::default() }
    }
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
    let passphrase = Passphrase::new(door.passphrase.as_ref());
    // Dropping this cuts the connections off.
    let mut connections = JoinSet::new();
    let mut enter = |transport: Box<dyn Transport>, address: Option<IpAddr>| {
        while connections.try_join_next().is_some() {}
        let (session, passphrase) = (session.clone(), passphrase.clone());
        let open = session.0.connections.clone();
        let peer = Peer { address, is_hook: door.is_for_hooks, ..Peer::default() };
        let served = connection::serve(session, passphrase, transport, peer, stop.serving.clone());
        connections.spawn(open.track_future(served));
    };
    tokio::select! {
        () = accept(&listener, door.acceptor.clone(), &mut enter) => {}
        () = stop.accepting.cancelled() => {}
    }
    drop(listener);
    // The calls of those who are connected go on until then.
    stop.serving.cancelled().await;
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn accept(
    listener: &Listener,
    acceptor: Option<TlsAcceptor>,
    enter: &mut impl FnMut(Box<dyn Transport>, Option<IpAddr>),
) {
    let mut handshakes = Handshakes::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            (stream, address) = handshakes.done() => {
                enter(Box::new(stream), Some(address));
                continue;
            }
        };
        match (accepted, &acceptor) {
            (Ok(Accepted::Unix(stream)), _) => enter(Box::new(stream), None),
            (Ok(Accepted::Tcp(stream, address)), None) => enter(Box::new(stream), Some(address)),
            (Ok(Accepted::Tcp(stream, address)), Some(acceptor)) => {
                handshakes.begin(acceptor.clone(), stream, address);
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
    tasks: JoinSet<Option<(TlsStream<TcpStream>, IpAddr)>>,
    order: VecDeque<(IpAddr, AbortHandle)>,
}

impl Handshakes {
    fn begin(&mut self, acceptor: TlsAcceptor, stream: TcpStream, address: IpAddr) {
        self.order.retain(|(_, handshake)| !handshake.is_finished());
        if self.order.len() >= MAX_HANDSHAKES {
            self.give_up_one();
        }
        let handshake = async move {
            match tokio::time::timeout(OPENING_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(error)) => tracing::info!(%error, "a client's TLS handshake failed"),
                Err(_) => tracing::info!("a client's TLS handshake took too long"),
            }
            None
        };
        self.order.push_back((address, self.tasks.spawn(handshake)));
    }

    /// The next one that succeeds. Cancelling loses none.
    async fn done(&mut self) -> (TlsStream<TcpStream>, IpAddr) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Some(done))) => return done,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
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
