//! Serving a session on a listener.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Result, Secret};
use jumpstarter_protocol::{ServerTls, Transport, UnixSocket};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection;
use crate::crowd::Origin;
use crate::files_watch::FilesWatch;
use crate::layers::Passphrase;
use crate::listener::Accepted;
use crate::peer::Peer;
use crate::seldom::Seldom;
use crate::watched::OPENING_LIMIT;
use crate::windows::FAR_STREAM;
use crate::{Listener, Session, TlsOptions};

/// The pause after a failure to accept a connection.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Who may connect to a listener: everybody by default.
#[derive(Clone, Debug, Default)]
pub struct Access {
    tls: Option<TlsOptions>,
    passphrase: Option<Secret>,
    passphrase_file: Option<PathBuf>,
}

impl Access {
    /// Uses TLS, on TCP only.
    #[must_use]
    pub fn tls(mut self, tls: impl Into<Option<TlsOptions>>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Requires this passphrase for every call.
    #[must_use]
    pub fn passphrase(mut self, passphrase: impl Into<Option<Secret>>) -> Self {
        self.passphrase = passphrase.into();
        self
    }

    /// Requires the passphrase in the first line of this file instead, and reads it again after a
    /// change.
    #[must_use]
    pub fn passphrase_file(mut self, file: impl Into<Option<PathBuf>>) -> Self {
        self.passphrase_file = file.into();
        self
    }

    /// Whether it speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether it asks for a passphrase.
    pub fn has_passphrase(&self) -> bool {
        self.passphrase.is_some() || self.passphrase_file.is_some()
    }

    /// Whether it requires neither a passphrase nor a client's certificate.
    pub fn admits_strangers(&self) -> bool {
        let asks_certificate = self.tls.as_ref().is_some_and(TlsOptions::has_client_authority);
        !asks_certificate && !self.has_passphrase()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// `InvalidArgument` and the like for unusable files.
    pub fn prepare(&self) -> Result<Door> {
        let acceptor = self.tls.clone().map(|tls| {
            let files = tls.files();
            FilesWatch::new("the TLS certificate, key or authority", files, move || tls.acceptor())
        });
        let passphrase = match (&self.passphrase_file, &self.passphrase) {
            (Some(file), _) => Some(Passphrase::of_file(file.clone())?),
            (None, Some(passphrase)) => Some(Passphrase::new(passphrase)),
            (None, None) => None,
        };
        Ok(Door { acceptor: acceptor.transpose()?, passphrase, is_for_hooks: false })
    }
}

/// An [`Access`] whose files have been read, and are read again when they change. The default
/// admits everybody.
#[derive(Clone, Debug, Default)]
pub struct Door {
    acceptor: Option<FilesWatch<ServerTls>>,
    passphrase: Option<Passphrase>,
    /// Whether only this exporter's hooks know it.
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
    /// Accept no new connections.
    pub(crate) accepting: CancellationToken,
    /// Accept no new calls either.
    pub(crate) serving: CancellationToken,
}

/// Serves until `stop`: then it accepts nothing more, and returns when the running calls have ended
/// ([`Session::shut_down`] ends them). Dropping the future cuts every connection off, with the
/// calls on it.
///
/// # Errors
/// `InvalidArgument` and the like for unusable TLS files.
pub async fn serve(
    session: Session,
    listener: Listener,
    access: Access,
    stop: CancellationToken,
) -> Result<()> {
    let door = access.prepare()?;
    serve_behind(session, listener, door, Stop { accepting: stop.clone(), serving: stop }).await
}

/// As [`serve`], with prepared files, and an end in two steps.
pub(crate) async fn serve_behind(
    session: Session,
    mut listener: Listener,
    door: Door,
    stop: Stop,
) -> Result<()> {
    let passphrase = door.passphrase.clone();
    // Dropping this cuts the connections off.
    let mut connections = JoinSet::new();
    let failures = Seldom::new(3, Duration::from_secs(10));
    let keeping = keep(&listener);
    tokio::pin!(keeping);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            never = &mut keeping => match never {},
            () = stop.accepting.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let (transport, origin) = match accepted {
            Ok(Accepted::Unix(stream)) if door.is_for_hooks => {
                (Socket::Unix(stream), Origin::Hooks)
            }
            Ok(Accepted::Unix(stream)) => (Socket::Unix(stream), Origin::Unix),
            Ok(Accepted::Tcp(stream, address)) => (Socket::Tcp(stream), Origin::Tcp(address)),
            Err(error) => {
                // An error of the next connection, or no descriptors are left: connections that end
                // free some.
                if let Some(unlogged) = failures.speak() {
                    let unlogged_before = (unlogged > 0).then_some(unlogged);
                    tracing::warn!(%error, unlogged_before, "a connection could not be accepted");
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => continue,
                    () = stop.accepting.cancelled() => break,
                }
            }
        };
        let Some(place) = session.0.connections.crowd.enter(origin).await else { continue };
        let address = match origin {
            Origin::Tcp(address) => Some(address),
            Origin::Unix | Origin::Hooks => None,
        };
        let mut standing = session.0.connections.standing(place);
        if address.is_some_and(|address| !address.is_loopback()) {
            standing.largest_stream_window = FAR_STREAM;
        }
        let peer = Peer { address, is_hook: door.is_for_hooks, standing: Arc::new(standing) };
        let open = session.0.connections.open.clone();
        let (session, passphrase, door, stop) =
            (session.clone(), passphrase.clone(), door.clone(), stop.clone());
        let served = async move {
            let opened = tokio::select! {
                opened = open_transport(transport, &door) => opened,
                () = peer.standing.crowded_out() => return,
                () = stop.accepting.cancelled(), if door.acceptor.is_some() => return,
            };
            match opened {
                Ok(transport) => {
                    let stop = stop.serving;
                    let _end = connection::serve(session, passphrase, transport, peer, stop).await;
                }
                Err(error) if session.0.connections.crowd.may_speak() => {
                    let address = address.map(|address| address.to_string()).unwrap_or_default();
                    tracing::info!(%error, address, "a client's TLS handshake failed");
                }
                Err(_) => {}
            }
        };
        connections.spawn(open.track_future(served));
    }
    drop(listener);
    // The calls of connected clients continue until then.
    stop.serving.cancelled().await;
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Checks the listener's socket, if it has one in a file system.
fn keep(listener: &Listener) -> impl Future<Output = Infallible> + use<> {
    let keeper = listener.keeper();
    async move {
        match keeper {
            Some(keeper) => keeper.keep().await,
            None => std::future::pending().await,
        }
    }
}

/// An accepted socket.
enum Socket {
    Unix(UnixSocket),
    Tcp(TcpStream),
}

/// The transport of HTTP/2: the socket, or TLS over it.
async fn open_transport(socket: Socket, door: &Door) -> std::io::Result<Box<dyn Transport>> {
    let (stream, acceptor) = match (socket, &door.acceptor) {
        (Socket::Unix(stream), _) => return Ok(Box::new(stream)),
        (Socket::Tcp(stream), None) => return Ok(Box::new(stream)),
        (Socket::Tcp(stream), Some(acceptor)) => (stream, acceptor),
    };
    let acceptor = acceptor.current().await;
    let shaking = tokio::time::timeout(OPENING_LIMIT, acceptor.accept(stream));
    Ok(Box::new(shaking.await.map_err(|_| std::io::Error::other("it took too long"))??))
}
