//! WebSockets to real servers.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::Registry;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{
    PortForward, TcpNetwork, WebsocketNetwork, WebsocketNetworkConfig,
};
use jumpstarter_driver_testkit::conformance;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{WebSocketStream, accept_async};

conformance!(
    mod echo, WebsocketNetworkConfig, { "url": echo().await }, [network(echo)], deadline: 60 s
);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it should not take this long")
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/path", listener.local_addr().unwrap());
    (listener, url)
}

/// A server that sends each message back as it came, and the URL to it.
async fn echo() -> String {
    let (listener, url) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(socket) = accept_async(stream).await else { return };
                let (mut sink, mut messages) = socket.split();
                while let Some(Ok(message)) = messages.next().await {
                    if message.is_close() || sink.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

async fn open(config: serde_json::Value) -> Result<Arc<dyn Network>> {
    let name = "jumpstarter_driver_network.driver.WebsocketNetwork";
    let entry = Registry::linked().find(name)?;
    let driver = (entry.open)(config, OpenContext::at("ws")).await?;
    Device::of_shared_driver(driver).get::<dyn Network>("")
}

/// A connection of the driver with this configuration, and the server's end of it.
async fn pair(mut config: serde_json::Value) -> (Channel, WebSocketStream<TcpStream>) {
    let (listener, url) = listener().await;
    config["url"] = url.into();
    let network = open(config).await.unwrap();
    let accept = async { accept_async(listener.accept().await.unwrap().0).await.unwrap() };
    let (channel, server) = within(async { tokio::join!(network.connect(), accept) }).await;
    (channel.unwrap(), server)
}

/// The next message that is no ping.
async fn next(server: &mut WebSocketStream<TcpStream>) -> Message {
    loop {
        let message = within(server.next()).await.unwrap().unwrap();
        if !message.is_ping() && !message.is_pong() {
            return message;
        }
    }
}

#[tokio::test]
async fn messages_of_both_kinds_keep_their_boundaries() {
    let (mut channel, mut server) = pair(json!({})).await;
    for size in [0, 1, 0, 70_000, 1 << 20] {
        channel.send(vec![7; size]).await.unwrap();
        assert_eq!(next(&mut server).await, Message::binary(vec![7; size]));
        server.send(Message::binary(vec![8; size])).await.unwrap();
        assert_eq!(within(channel.receive()).await.unwrap().unwrap(), vec![8; size]);
    }
    for text in ["", "grüß"] {
        server.send(Message::text(text)).await.unwrap();
        assert_eq!(within(channel.receive()).await.unwrap().unwrap(), text.as_bytes());
    }
    let (mut channel, mut server) = pair(json!({"send_as": "text"})).await;
    channel.send("grüß").await.unwrap();
    assert_eq!(next(&mut server).await, Message::text("grüß"));
    channel.send(vec![0xff]).await.unwrap();
    let error = within(channel.receive()).await.unwrap_err();
    assert!(error.report().contains("is not text in UTF-8"), "{error:?}");
}

#[tokio::test]
async fn pings_are_answered_and_sent_also_while_nobody_reads() {
    let (_channel, mut server) = pair(json!({"keep_alive": "2s"})).await;
    server.send(Message::Ping("x".into())).await.unwrap();
    let (mut answered, mut pings) = (false, 0);
    while !answered || pings < 3 {
        match within(server.next()).await.unwrap().unwrap() {
            Message::Pong(payload) => answered |= payload == "x",
            Message::Ping(_) => pings += 1,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_answers_no_pings_is_lost() {
    let (mut channel, _server) = pair(json!({"keep_alive": "50ms"})).await;
    let error = within(channel.receive()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("has not answered a ping for 100ms"), "{error:?}");
}

#[tokio::test]
async fn close_codes_are_an_end_or_an_error() {
    for (code, expected) in [
        (CloseCode::Normal, None),
        (CloseCode::Away, None),
        (CloseCode::Error, Some("closed the WebSocket with code 1011: on fire")),
        (CloseCode::Policy, Some("closed the WebSocket with code 1008: on fire")),
    ] {
        let (mut channel, mut server) = pair(json!({})).await;
        server.send(Message::text("last")).await.unwrap();
        let frame = CloseFrame { code, reason: "on fire".into() };
        server.send(Message::Close(Some(frame))).await.unwrap();
        assert_eq!(within(channel.receive()).await.unwrap().unwrap(), "last");
        match (within(channel.receive()).await, expected) {
            (Ok(None), None) => {}
            (Err(error), Some(expected)) => {
                assert!(error.report().contains(expected), "{error:?}");
            }
            (other, _) => panic!("{code}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_does_not_look_complete() {
    let (mut channel, server) = pair(json!({})).await;
    drop(server);
    let error = within(channel.receive()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("broke"), "{error:?}");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_named() {
    let (mut channel, mut server) = pair(json!({"max_message_size": "1KiB"})).await;
    server.send(Message::binary(vec![0; 1024])).await.unwrap();
    assert_eq!(within(channel.receive()).await.unwrap().unwrap().len(), 1024);
    server.send(Message::binary(vec![0; 1025])).await.unwrap();
    let error = within(channel.receive()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.hint().unwrap().contains("max_message_size"), "{error:?}");
}

#[tokio::test]
async fn answers_come_after_the_client_has_finished_and_then_the_socket_is_closed() {
    let (mut channel, mut server) = pair(json!({})).await;
    channel.send("question").await.unwrap();
    channel.finish().await.unwrap();
    assert_eq!(next(&mut server).await, Message::binary("question"));
    server.send(Message::text("answer")).await.unwrap();
    assert_eq!(within(channel.receive()).await.unwrap().unwrap(), "answer");
    match next(&mut server).await {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Normal),
        other => panic!("{other}"),
    }
    assert!(within(server.next()).await.is_none_or(|message| message.is_err()));
    assert!(within(channel.receive()).await.unwrap().is_none());
    // A client that leaves closes it as well, after its last message.
    let (mut channel, mut server) = pair(json!({})).await;
    channel.send("bye").await.unwrap();
    drop(channel);
    assert_eq!(next(&mut server).await, Message::binary("bye"));
    assert!(next(&mut server).await.is_close());
}

#[tokio::test]
async fn a_server_of_something_else_says_so() {
    let (listener, url) = listener().await;
    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    };
    let url = url.replace("ws://", "ws://me:secret@");
    let network = WebsocketNetwork::new(&url).unwrap();
    let (connected, request) = within(async { tokio::join!(network.connect(), answer) }).await;
    assert!(request.contains("GET /path HTTP/1.1"), "{request}");
    assert!(request.to_lowercase().contains("authorization: basic bwu6c2vjcmv0"), "{request}");
    let error = connected.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    assert!(report.contains("answers 404 Not Found") && !report.contains("secret"), "{report}");
    assert!(!network.address().await.unwrap().contains("secret"));
    drop(listener);
    let report = network.connect().await.unwrap_err().report();
    assert!(report.contains("refused") && report.contains("/path"), "{report}");
}

#[tokio::test]
async fn tls_trusts_a_file_of_authorities_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, issued.cert.pem()).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, _) = listener().await;
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut socket = accept_async(stream).await.unwrap();
            let message = socket.next().await.unwrap().unwrap();
            socket.send(message).await.unwrap();
        }
    });
    let url = format!("wss://localhost:{port}/");
    let network = open(json!({"url": url, "ca_file": ca_file})).await.unwrap();
    let mut channel = within(network.connect()).await.unwrap();
    channel.send("hello").await.unwrap();
    assert_eq!(within(channel.receive()).await.unwrap().unwrap(), "hello");
    let stranger = open(json!({"url": url})).await.unwrap();
    let error = within(stranger.connect()).await.unwrap_err();
    assert!(error.report().contains("ca_file"), "{error:?}");
}

#[tokio::test]
async fn configuration_is_checked_and_addresses_can_be_hidden() {
    let config: WebsocketNetworkConfig = serde_json::from_value(
        json!({"url": "http://me:secret@h", "keep_alive": 0, "max_message_size": 0}),
    )
    .unwrap();
    let problems = config.check();
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["url", "max_message_size", "keep_alive"]);
    assert!(!format!("{problems:?}").contains("secret"));
    let network = open(json!({"url": "ws://h/x", "enable_address": false})).await.unwrap();
    assert_eq!(network.address().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let network = open(json!({"url": "ws://h/x"})).await.unwrap();
    assert_eq!(network.address().await.unwrap(), "ws://h/x");
}

#[tokio::test]
async fn a_stream_is_forwarded_as_messages() {
    let network = Arc::new(WebsocketNetwork::new(&echo().await).unwrap());
    let forward = PortForward::tcp(network).await.unwrap();
    let network = TcpNetwork::from_address(forward.tcp_address().unwrap());
    let mut channel = network.connect().await.unwrap();
    channel.send("hello").await.unwrap();
    assert_eq!(within(channel.receive()).await.unwrap().unwrap(), "hello");
    channel.finish().await.unwrap();
    assert!(within(channel.receive()).await.unwrap().is_none());
    assert_eq!(forward.stats().failures, 0);
}
