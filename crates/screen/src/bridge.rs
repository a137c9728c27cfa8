//! A screen for browsers: a WebSocket on this machine, which the page noVNC connects to.

use std::fmt;
use std::fmt::Write as _;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::{Error, Network, Result, ResultExt, blocking};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};
use tokio_util::task::AbortOnDropHandle;

/// The page that the upstream client opens.
pub const NOVNC: &str = "https://novnc.com/noVNC/vnc.html";

/// How long a browser may take to ask.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long accepting pauses after it failed, for example because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failures that wait to be asked for.
const FAILURES: usize = 16;
/// The longest message of a browser: of what a user does, only the clipboard is long.
const MAX_MESSAGE: usize = 4 << 20;
/// The header that lists protocols.
const PROTOCOL: &str = "sec-websocket-protocol";

/// A port of 127.0.0.1 where a browser reaches a screen, each connection with its own connection
/// to the device.
///
/// The path of its WebSocket is a secret, so other users of this machine and other web pages
/// cannot connect. Dropping the bridge ends all connections.
#[derive(Debug)]
pub struct Bridge {
    address: SocketAddr,
    path: String,
    failures: mpsc::Receiver<Error>,
    _task: AbortOnDropHandle<()>,
}

impl Bridge {
    /// Listens, for a network endpoint that speaks VNC.
    ///
    /// # Errors
    /// `Unavailable` if no port can be had.
    pub async fn start(network: Arc<dyn Network>) -> Result<Self> {
        let path = blocking(secret).await.context("making a secret path")?;
        let doing = "listening for a browser";
        let listener = TcpListener::bind("127.0.0.1:0").await.context(doing)?;
        let address = listener.local_addr().context(doing)?;
        let (failed, failures) = mpsc::channel(FAILURES);
        let task = tokio::spawn(serve(listener, network, path.clone(), failed));
        Ok(Self { address, path, failures, _task: AbortOnDropHandle::new(task) })
    }

    /// The address of the WebSocket, for other pages and programs.
    pub fn websocket(&self) -> String {
        format!("ws://{}/{}", self.address, self.path)
    }

    /// Waits until a connection fails, and returns why. Of many failures at once some are dropped.
    pub async fn failure(&mut self) -> Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// The URL to open in a browser: a noVNC `page`, such as [`NOVNC`], that connects to this
    /// bridge. With `encrypt` the page connects by TLS, which the bridge itself does not speak.
    pub fn url(&self, page: &str, encrypt: bool) -> String {
        let Self { address, path, .. } = self;
        let separator = if page.contains('?') { '&' } else { '?' };
        format!(
            "{page}{separator}encrypt={}&autoconnect=1&reconnect=1&host={}&port={}&path={path}",
            u8::from(encrypt),
            address.ip(),
            address.port(),
        )
    }
}

/// A word that nobody can guess.
fn secret() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut word, byte| {
        write!(word, "{byte:02x}").ok();
        word
    }))
}

async fn serve(
    listener: TcpListener,
    network: Arc<dyn Network>,
    path: String,
    failed: mpsc::Sender<Error>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (network, path, failed) = (network.clone(), path.clone(), failed.clone());
                    connections.spawn(async move {
                        if let Err(error) = attend(stream, network, &path).await {
                            failed.try_send(error).ok();
                        }
                    });
                }
                Err(error) => {
                    failed.try_send(Error::from(error).context("accepting a browser")).ok();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn attend(stream: TcpStream, network: Arc<dyn Network>, path: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let wanted = format!("/{path}");
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let check = |request: &Request, response| admit(request, response, &wanted);
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
    let accepting = accept_hdr_async_with_config(stream, check, Some(config));
    let socket = match tokio::time::timeout(HANDSHAKE_LIMIT, accepting).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(broken(error)),
        Err(_) => return Err(Error::deadline_exceeded("the browser does not ask for a WebSocket")),
    };
    pass(socket, network).await
}

/// Passes on messages to the device, and what the device says, until one of both ends.
async fn pass(socket: WebSocketStream<TcpStream>, network: Arc<dyn Network>) -> Result<()> {
    let (mut to_browser, mut from_browser) = socket.split();
    let passing = async {
        let channel = network.connect().await.context("connecting to the screen")?;
        let (mut from_device, mut to_device) = channel.split();
        let there = async {
            while let Some(message) = from_browser.next().await {
                match message.map_err(broken)? {
                    Message::Binary(bytes) => to_device.send(bytes).await?,
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            Ok(())
        };
        let back = async {
            while let Some(bytes) = from_device.receive().await? {
                to_browser.send(Message::Binary(bytes)).await.map_err(broken)?;
            }
            Ok(())
        };
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    };
    let passed = passing.await;
    to_browser.close().await.ok();
    passed
}

/// Refuses another path than the secret one, and agrees to the protocol of older pages.
#[expect(clippy::result_large_err, reason = "the library's type")]
fn admit(
    request: &Request,
    mut response: Response,
    wanted: &str,
) -> std::result::Result<Response, ErrorResponse> {
    if request.uri().path() != wanted {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        return Err(refusal);
    }
    let offered = request.headers().get(PROTOCOL).and_then(|value| value.to_str().ok());
    if offered.is_some_and(|names| names.split(',').any(|name| name.trim() == "binary")) {
        response.headers_mut().insert(PROTOCOL, HeaderValue::from_static("binary"));
    }
    Ok(response)
}

fn broken(error: SocketError) -> Error {
    Error::unavailable("the connection of the browser broke").with_source(error)
}

impl fmt::Display for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
