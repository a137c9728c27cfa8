//! Downloads and uploads whose settings a test chooses: names, networks, proxies, certificates.

mod mutations;
mod proxies;
mod redirects;
mod secured;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_driver_core::Error;
use jumpstarter_driver_core::image::ImageRequest;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::download::download_with;
use crate::settings::Settings;
use crate::upload::upload_with;

const DEADLINE: Duration = Duration::from_secs(60);
const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn settings(variables: &[(&str, &str)]) -> Settings {
    let find = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
    Settings::new(|name| find(name).map(|(_, value)| (*value).to_owned())).unwrap()
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Answers the next request; its head.
async fn answer(listener: &TcpListener, text: &str) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let asked = head(&mut stream).await;
    stream.write_all(text.as_bytes()).await.unwrap();
    (asked, stream)
}

fn moved(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

async fn fetch(url: &str, settings: Settings) -> Result<Vec<u8>, Error> {
    let source = download_with(ImageRequest::new(url)?, DEADLINE, settings, |_, _| {})?;
    let reading = tokio::time::timeout(DEADLINE, source.into_stream().try_collect::<Vec<_>>());
    Ok(reading.await.expect("it ends in time")?.concat())
}

async fn send(url: &str, image: &[u8], settings: Settings) -> Result<(), Error> {
    let mut writer = upload_with(ImageRequest::new(url)?, DEADLINE, settings)?;
    let sending = async {
        writer.write_all(image).await?;
        writer.shutdown().await
    };
    Ok(tokio::time::timeout(DEADLINE, sending).await.expect("it ends in time")?)
}

/// That nobody has connected.
async fn untouched(listener: TcpListener) {
    let connected = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(connected.is_err(), "somebody connected");
}
