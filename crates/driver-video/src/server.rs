//! A camera as a page of this machine, for clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jumpstarter_driver_core::{Error, ErrorKind, Result, ResultExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::interface::Video;

/// How long a browser may take to ask.
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// The longest request.
const MAX_HEAD: usize = 16 << 10;
/// How long accepting pauses after it failed, for example because no file descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failures that wait to be asked for.
const FAILURES: usize = 16;
/// What the path `/` shows.
const PAGE: &str = "<!DOCTYPE html><html><head><title>Camera</title></head>\
    <body style=\"margin:0;background:#222;text-align:center\">\
    <a href=\"/snapshot\"><img src=\"/stream\" alt=\"the stream\" style=\"max-width:100%\"></a>\
    </body></html>\n";

/// A port with the pages `/`, `/stream` (MJPEG) and `/snapshot` (JPEG) of a camera. Dropping it
/// ends all connections.
///
/// Only pages that this machine's own names lead to are answered, so that no other web page
/// reads the pictures by a name that resolves to here.
#[derive(Debug)]
pub struct VideoServer {
    address: SocketAddr,
    failures: mpsc::Receiver<Error>,
    _task: AbortOnDropHandle<()>,
}

impl VideoServer {
    /// Listens at a port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// `Unavailable` if the port is taken.
    pub async fn start(video: Arc<dyn Video>, port: u16) -> Result<Self> {
        let doing = || format!("listening at port {port} of 127.0.0.1");
        let listener = TcpListener::bind(("127.0.0.1", port)).await.with_context(doing)?;
        let address = listener.local_addr().with_context(doing)?;
        let (failed, failures) = mpsc::channel(FAILURES);
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, video, failed)));
        Ok(Self { address, failures, _task: task })
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a page fails, and returns why. Of many failures at once some are dropped.
    pub async fn failure(&mut self) -> Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }
}

async fn serve(listener: TcpListener, video: Arc<dyn Video>, failed: mpsc::Sender<Error>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (video, failed) = (video.clone(), failed.clone());
                    connections.spawn(async move {
                        if let Err(error) = attend(stream, &*video).await {
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

/// Answers one request.
async fn attend(mut stream: TcpStream, video: &dyn Video) -> Result<()> {
    let head = match tokio::time::timeout(ASK_WITHIN, head(&mut stream)).await {
        Ok(Some(head)) => head,
        // A browser connects ahead of time.
        _ => return Ok(()),
    };
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    let name = host.and_then(|host| host.split(':').next()).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        _ if !["127.0.0.1", "localhost"].contains(&name) => {
            answer(&mut stream, "403 Forbidden", "text/plain", b"use http://127.0.0.1\n").await;
        }
        ("GET", "/") => answer(&mut stream, "200 OK", "text/html", PAGE.as_bytes()).await,
        ("GET", "/snapshot") => match picture(video).await {
            Ok(file) => answer(&mut stream, "200 OK", "image/jpeg", &file).await,
            Err(error) => return Err(fail(&mut stream, error).await),
        },
        ("GET", "/stream") => return pass(stream, video).await,
        ("GET", _) => answer(&mut stream, "404 Not Found", "text/plain", b"not here\n").await,
        _ => answer(&mut stream, "405 Method Not Allowed", "text/plain", b"only GET\n").await,
    }
    Ok(())
}

async fn picture(video: &dyn Video) -> Result<Vec<u8>> {
    let text = video.snapshot().await?;
    STANDARD.decode(text).map_err(|error| {
        Error::data_loss("the exporter's picture is not base64").with_source(error)
    })
}

/// The head of a request; `None` if the browser leaves or sends something else.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if bytes.windows(4).any(|end| end == b"\r\n\r\n") {
            return String::from_utf8(bytes).ok();
        }
    }
}

/// A browser that has left does not matter.
async fn answer(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if stream.write_all(head.as_bytes()).await.is_ok() {
        stream.write_all(body).await.ok();
        stream.shutdown().await.ok();
    }
}

async fn fail(stream: &mut TcpStream, error: Error) -> Error {
    let status = match error.kind() {
        ErrorKind::DeadlineExceeded => "504 Gateway Timeout",
        _ => "502 Bad Gateway",
    };
    answer(stream, status, "text/plain", format!("{error:#}\n").as_bytes()).await;
    error
}

/// Passes on the camera's own answer until one of both leaves.
async fn pass(mut stream: TcpStream, video: &dyn Video) -> Result<()> {
    let opening = async {
        let path = video.stream_path().await?;
        if path.contains(|letter: char| letter.is_control() || letter == ' ') {
            return Err(Error::data_loss("the exporter's path of the stream is none"));
        }
        let mut channel = video.connect().await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        channel.send(request).await?;
        Ok(channel)
    };
    let channel = match opening.await {
        Ok(channel) => channel,
        Err(error) => return Err(fail(&mut stream, error).await),
    };
    // The camera keeps the connection while its writer is held.
    let (mut from_camera, _writer) = channel.split();
    let (mut from_browser, mut to_browser) = stream.split();
    let passing = async {
        while let Some(bytes) = from_camera.receive().await? {
            if to_browser.write_all(&bytes).await.is_err() {
                return Ok(());
            }
        }
        to_browser.shutdown().await.ok();
        Ok(())
    };
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        passed = passing => passed,
        _ = tokio::io::copy(&mut from_browser, &mut nowhere) => Ok(()),
    }
}
