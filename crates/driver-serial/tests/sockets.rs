//! Loopbacks and sockets, on real ones.

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_serial::{SerialConfig, SerialPort};
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
