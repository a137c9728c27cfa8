//! Serving a session on a listener.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::{Error, Result, Secret};
use jumpstarter_protocol::v1::exporter_service_server::ExporterServiceServer;
use jumpstarter_protocol::v1::router_service_server::RouterServiceServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::authority::AuthorityAdapter;
use crate::listener::Accepted;
use crate::passphrase::Passphrase;
use crate::{Listener, Session, TlsOptions};

/// Frames of byte streams may be so large.
const MAX_FRAME: usize = 16 << 20;
/// What a client may send before it is read: for one stream, and for one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_STREAMS: u32 = 4096;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const MAX_HANDSHAKES: usize = 64;

/// Who may connect to a listener.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// TLS, on TCP only.
    pub tls: Option<TlsOptions>,
    /// Asked for on every call.
    pub passphrase: Option<Secret>,
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
type Incoming = AuthorityAdapter<Box<dyn Connection>>;

/// Serves until `stop`: then it accepts nothing more, and returns when the calls that run have ended
/// ([`Session::shut_down`] ends them). Dropping the future ends everything at once.
///
/// # Errors
/// `InvalidArgument` and the like for TLS files that cannot be used.
pub async fn serve(
    session: Session,
    listener: Listener,
    access: Access,
    stop: CancellationToken,
) -> Result<()> {
    let acceptor = access.tls.as_ref().map(TlsOptions::acceptor).transpose()?;
    let (sender, receiver) = mpsc::channel::<std::io::Result<Incoming>>(16);
    let router = RouterServiceServer::new(session.clone()).max_decoding_message_size(MAX_FRAME);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(256 * 1024)
        .layer(Passphrase::new(access.passphrase.as_ref()))
        .add_service(ExporterServiceServer::new(session))
        .add_service(router)
        .serve_with_incoming_shutdown(ReceiverStream::new(receiver), stop.clone().cancelled_owned());
    let accepting = async {
        tokio::select! {
            () = accept(listener, acceptor, sender) => {}
            () = stop.cancelled() => {}
        }
    };
    let (served, ()) = tokio::join!(server, accepting);
    served.map_err(|error| Error::internal("serving").with_source(error))
}

async fn accept(
    listener: Listener,
    acceptor: Option<TlsAcceptor>,
    sender: mpsc::Sender<std::io::Result<Incoming>>,
) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: connections that end will free some.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let stream: Box<dyn Connection> = match (stream, &acceptor) {
            (Accepted::Unix(stream), _) => Box::new(stream),
            (Accepted::Tcp(stream), None) => Box::new(stream),
            (Accepted::Tcp(stream), Some(acceptor)) => {
                let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
                let (handshake, sender) = (acceptor.accept(stream), sender.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    let connected = tokio::select! {
                        connected = tokio::time::timeout(HANDSHAKE_LIMIT, handshake) => connected,
                        () = sender.closed() => return,
                    };
                    match connected {
                        Ok(Ok(stream)) => {
                            let stream: Box<dyn Connection> = Box::new(stream);
                            // An error means that the server has stopped.
                            drop(sender.send(Ok(AuthorityAdapter::new(stream))).await);
                        }
                        Ok(Err(error)) => tracing::info!(%error, "a client's TLS handshake failed"),
                        Err(_) => tracing::info!("a client's TLS handshake took too long"),
                    }
                });
                continue;
            }
        };
        if sender.send(Ok(AuthorityAdapter::new(stream))).await.is_err() {
            return;
        }
    }
}
