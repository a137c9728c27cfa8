//! Peers for the configuration's expressions of [`conformance!`](crate::conformance).
//!
//! Peers live until the process ends; folders are removed with the case's temporary folder.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite, copy};
use tokio::net::{TcpListener, TcpStream, UnixListener};

mod camera;
mod screen;
mod uboot;

/// A TCP server on this host that echoes, and half-closes when its client does.
///
/// # Panics
/// If no port can be opened.
pub async fn tcp_echo() -> SocketAddr {
    serve(|stream| {
        let (reader, writer) = stream.into_split();
        echo(reader, writer)
    })
    .await
}

/// A camera on this host: `http://ADDRESS/stream` is MJPEG without end.
///
/// # Panics
/// If no port can be opened.
pub async fn camera() -> SocketAddr {
    serve(|stream| async { drop(camera::serve(stream).await) }).await
}

/// A VNC server on this host, without a password. Its picture does not change.
///
/// # Panics
/// If no port can be opened.
pub async fn screen() -> SocketAddr {
    serve(|stream| async { drop(screen::serve(stream).await) }).await
}

/// The console of a board that waits at U-Boot's `prompt`, as a TCP server on this host. It knows
/// `echo`, `printenv`, `setenv`, `true` and `false`; each client has an environment.
///
/// # Panics
/// If no port can be opened.
pub async fn uboot(prompt: &'static str) -> SocketAddr {
    serve(move |stream| async move { drop(uboot::serve(stream, prompt).await) }).await
}

/// Serves the clients of a new port.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this host");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// The same on a Unix socket in a new folder.
///
/// # Panics
/// If the socket cannot be made.
pub fn unix_echo() -> PathBuf {
    let path = folder().join("echo");
    let listener = UnixListener::bind(&path).expect("a fresh folder has no such socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (reader, writer) = stream.into_split();
            tokio::spawn(echo(reader, writer));
        }
    });
    path
}

/// A new folder for the driver's results, such as a flashed image.
///
/// # Panics
/// If the temporary folder cannot be written.
pub fn folder() -> PathBuf {
    tempfile::tempdir().expect("the temporary folder can be written to").keep()
}

/// Dropping the writer half-closes.
async fn echo(mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) {
    copy(&mut reader, &mut writer).await.ok();
}
