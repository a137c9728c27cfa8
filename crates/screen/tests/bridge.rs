//! The bridge for browsers: a WebSocket client in place of noVNC.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_network::{EchoNetwork, TcpNetwork};
use jumpstarter_screen::{Bridge, NOVNC};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap()
}

async fn open(
    request: impl IntoClientRequest,
) -> Result<(WebSocketStream<TcpStream>, Response), Error> {
    let request = request.into_client_request()?;
    let place = request.uri().authority().unwrap().as_str();
    let stream = TcpStream::connect(place).await?;
    client_async(request, stream).await
}

#[tokio::test]
async fn a_page_with_the_secret_reaches_the_screen() {
    let bridge = Bridge::start(Arc::new(EchoNetwork::new())).await.unwrap();
    let (mut plain, _) = open(bridge.websocket()).await.unwrap();
    let mut request = bridge.websocket().into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "binary".parse().unwrap());
    let (mut older, answer) = open(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "binary");
    for socket in [&mut plain, &mut older] {
        socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
        let answer = within(socket.next()).await.unwrap().unwrap();
        assert_eq!(answer.into_data().as_ref(), [1, 2, 3]);
    }
    plain.close(None).await.unwrap();
    within(async { while plain.next().await.is_some() {} }).await;

    let place = bridge.websocket().rsplit_once('/').unwrap().0.to_owned();
    let guessed = format!("{place}/websockify");
    match open(guessed).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 404),
        other => panic!("{other:?}"),
    }
    let websocket = bridge.websocket();
    drop(bridge);
    within(async { while older.next().await.is_some_and(|message| message.is_ok()) {} }).await;
    assert!(open(websocket).await.is_err());
}

#[tokio::test]
async fn the_url_has_what_the_page_needs() {
    let bridge = Bridge::start(Arc::new(EchoNetwork::new())).await.unwrap();
    let websocket = bridge.websocket();
    let (place, secret) = websocket.strip_prefix("ws://").unwrap().split_once('/').unwrap();
    let port = place.strip_prefix("127.0.0.1:").unwrap();
    assert_eq!(secret.len(), 32);
    let check = |page: &str, encrypt, beginning: &str| {
        let rest = format!("&autoconnect=1&reconnect=1&host=127.0.0.1&port={port}&path={secret}");
        assert_eq!(bridge.url(page, encrypt), format!("{beginning}{rest}"));
    };
    check(NOVNC, false, "https://novnc.com/noVNC/vnc.html?encrypt=0");
    check("http://lab/vnc.html?a=b", true, "http://lab/vnc.html?a=b&encrypt=1");
}

#[tokio::test]
async fn a_screen_that_is_not_there_is_reported() {
    // No server uses the port, and the kernel gives it to no socket.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let mut bridge = Bridge::start(Arc::new(TcpNetwork::from_address(nobody))).await.unwrap();
    let (mut socket, _) = open(bridge.websocket()).await.unwrap();
    within(async { while socket.next().await.is_some_and(|message| message.is_ok()) {} }).await;
    let error = within(bridge.failure()).await;
    assert!(format!("{error:#}").starts_with("connecting to the screen: "), "{error:#}");
}
