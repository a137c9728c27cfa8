//! Loopbacks and sockets, on real ones.

use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_serial::{Rfc2217Server, SerialConfig, SerialPort};
use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::serial::{ended, receive, timely};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

#[tokio::test]
async fn a_loopback_returns_what_it_gets_to_each_connection_its_own() {
    let port = SerialPort::loopback();
    let (mut one, mut two) = (port.connect().await.unwrap(), port.connect().await.unwrap());
    one.send("one").await.unwrap();
    two.send("two").await.unwrap();
    assert_eq!(receive(&mut one, 3).await, b"one");
    assert_eq!(receive(&mut two, 3).await, b"two");
    one.finish().await.unwrap();
    ended(&mut one).await;
    Serial::close(&port).await.unwrap();
    ended(&mut two).await;
}

#[tokio::test]
async fn a_socket_is_a_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    let mut config = SerialConfig::new(url.parse().unwrap());
    config.reconnect = false;
    let port = SerialPort::new(config);
    let mut channel = port.connect().await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    channel.send("AT\r").await.unwrap();
    // A serial line has no end of input.
    channel.finish().await.unwrap();
    let mut command = [0; 3];
    timely(device.read_exact(&mut command)).await.unwrap();
    assert_eq!(&command, b"AT\r");
    device.write_all(b"OK\r\n").await.unwrap();
    assert_eq!(receive(&mut channel, 4).await, b"OK\r\n");
    drop(device);
    ended(&mut channel).await;
    drop(listener);
    assert_eq!(port.connect().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Whether the kernel asks after silence if the peer at this port still exists: the timer of
/// `/proc/net/tcp`.
fn keeps_alive(peer: u16) -> bool {
    let peer = format!(":{peer:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    table.lines().any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns[2].ends_with(&peer) && columns[3] == "01" && columns[5].starts_with("02:")
    })
}

#[tokio::test]
async fn a_terminal_server_whose_machine_is_lost_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let port = SerialPort::new(SerialConfig::new(format!("socket://{address}").parse().unwrap()));
    let _channel = port.connect().await.unwrap();
    eventually("the client keeps it alive", || keeps_alive(address.port())).await;
    // The server's side, and its client.
    let server = Rfc2217Server::bind(Arc::new(SerialPort::loopback()), "127.0.0.1:0").await;
    let server = server.unwrap();
    let url = format!("rfc2217://{}", server.address());
    let port = SerialPort::new(SerialConfig::new(url.parse().unwrap()));
    let _channel = port.connect().await.unwrap();
    // While bytes wait to be acknowledged, another timer is shown.
    eventually("the client keeps it alive", || keeps_alive(server.address().port())).await;
    let client = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let client = client.local_addr().unwrap().port();
    eventually("the server keeps it alive", || keeps_alive(client)).await;
}

#[tokio::test]
async fn a_unix_socket_is_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.sock");
    let port = SerialPort::unix_socket(&path);
    assert_eq!(port.connect().await.unwrap_err().kind(), ErrorKind::NotFound);
    let listener = UnixListener::bind(&path).unwrap();
    let mut channel = port.connect().await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    device.write_all(b"login: ").await.unwrap();
    assert_eq!(receive(&mut channel, 7).await, b"login: ");
    // Ending the port reaches the device.
    Serial::close(&port).await.unwrap();
    let mut rest = Vec::new();
    timely(device.read_to_end(&mut rest)).await.unwrap();
    ended(&mut channel).await;
    assert_eq!(port.open_connections(), 0);
}
