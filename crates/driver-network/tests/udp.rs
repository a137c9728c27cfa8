//! Datagrams: the driver, and forwards to local ports.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::Framing;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{EchoNetwork, ForwardStats, PortForward, TcpNetwork, UdpNetwork};
use jumpstarter_driver_testkit::{eventually_some, reserve_port};
use tokio::net::UdpSocket;

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it should not take this long")
}

async fn eventually(forward: &PortForward, wanted: impl Fn(&ForwardStats) -> bool) -> ForwardStats {
    eventually_some("the statistics", async || Some(forward.stats()).filter(&wanted)).await
}

async fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// An endpoint on which nothing listens.
fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], reserve_port()).into()
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (length, from) = within(socket.recv_from(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// A device that sends each datagram back.
async fn device() -> Arc<UdpNetwork> {
    let (socket, address) = socket().await;
    tokio::spawn(async move {
        loop {
            let (datagram, from) = received(&socket).await;
            socket.send_to(&datagram, from).await.unwrap();
        }
    });
    Arc::new(UdpNetwork::from_address(address))
}

async fn client(forward: &PortForward) -> UdpSocket {
    let (socket, _) = socket().await;
    socket.connect(forward.udp_address().unwrap()).await.unwrap();
    socket
}

async fn asks(client: &UdpSocket, question: &[u8]) {
    client.send(question).await.unwrap();
    assert_eq!(received(client).await.0, question);
}

const SIZES: [usize; 6] = [0, 1, 0, 1400, 65_507, 0];

#[tokio::test]
async fn datagrams_stay_whole_in_both_directions_also_empty_ones() {
    let (peer, address) = socket().await;
    let network = UdpNetwork::from_address(address);
    assert_eq!(network.address().await.unwrap(), format!("udp://{address}"));
    let mut channel = network.connect().await.unwrap();
    for size in SIZES {
        channel.send(vec![7; size]).await.unwrap();
        let (datagram, from) = received(&peer).await;
        assert_eq!(datagram, vec![7; size]);
        peer.send_to(&datagram, from).await.unwrap();
        assert_eq!(within(channel.receive()).await.unwrap().unwrap(), vec![7; size]);
    }
    // UDP has no end: once the sender is done and nothing comes any more, the channel has one.
    channel.finish().await.unwrap();
    assert!(within(channel.receive()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refusal_ends_the_channel_and_names_the_endpoint() {
    let address = nobody();
    let network = UdpNetwork::from_address(address);
    let expected = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let report = error.report();
        let named = format!("nothing listens at UDP endpoint {address}");
        assert!(report.contains(&named) && error.hint().is_some(), "{report}");
    };
    let mut channel = network.connect().await.unwrap();
    channel.send("lost").await.unwrap();
    expected(within(channel.receive()).await.unwrap_err());
    assert!(channel.receive().await.unwrap().is_none());
    // A client that only sends learns it, too, and so does its receiving direction.
    let (mut reader, mut writer) = network.connect().await.unwrap().split();
    let refused = async {
        loop {
            if let Err(error) = writer.send("lost").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    expected(within(refused).await);
    expected(within(reader.receive()).await.unwrap_err());
    // The service comes, and the next connection works.
    let peer = UdpSocket::bind(address).await.unwrap();
    let mut channel = network.connect().await.unwrap();
    channel.send("taken").await.unwrap();
    assert_eq!(received(&peer).await.0, b"taken");
}

#[tokio::test]
async fn a_datagram_that_is_too_large_is_an_error_of_both_directions() {
    let network = UdpNetwork::from_address(socket().await.1);
    let (mut reader, mut writer) = network.connect().await.unwrap().split();
    let sent = writer.send(vec![0; 70_000]).await.unwrap_err();
    let received = within(reader.receive()).await.unwrap_err();
    for error in [sent, received] {
        assert!(error.report().contains("a datagram of 70000 bytes to UDP endpoint"), "{error:?}");
    }
}

#[tokio::test]
async fn each_local_peer_gets_its_own_answers() {
    let forward = PortForward::udp(device().await).await.unwrap();
    let clients = [client(&forward).await, client(&forward).await, client(&forward).await];
    for (index, client) in clients.iter().enumerate() {
        client.send(&[index as u8; 10]).await.unwrap();
    }
    for (index, client) in clients.iter().enumerate().rev() {
        assert_eq!(received(client).await.0, [index as u8; 10]);
    }
    for size in SIZES {
        asks(&clients[0], &vec![9; size]).await;
    }
    let stats = forward.stats();
    assert_eq!((stats.connections, stats.active, stats.failures), (3, 3, 0));
    let bytes = 30 + SIZES.iter().sum::<usize>() as u64;
    assert_eq!((stats.bytes_to_device, stats.bytes_from_device), (bytes, bytes));
    assert_eq!(forward.endpoint().to_string(), forward.address());
}

#[tokio::test]
async fn a_silent_peer_ends_and_may_come_back() {
    let starting = PortForward::udp(device().await).idle(Duration::from_secs(3));
    let forward = starting.await.unwrap();
    let client = client(&forward).await;
    for times in 1..=2 {
        asks(&client, b"here").await;
        let stats = eventually(&forward, |stats| stats.active == 0).await;
        assert_eq!((stats.connections, stats.failures), (times, 0));
    }
}

#[tokio::test]
async fn peers_are_limited_and_those_that_have_a_place_go_on() {
    let forward = PortForward::udp(device().await).most_peers(1).await.unwrap();
    let (first, second) = (client(&forward).await, client(&forward).await);
    asks(&first, b"one").await;
    second.send(b"two").await.unwrap();
    eventually(&forward, |stats| stats.dropped_datagrams == 1).await;
    asks(&first, b"three").await;
    assert_eq!(forward.stats().connections, 1);
}

#[tokio::test]
async fn a_refused_peer_is_counted_and_its_next_datagram_tries_again() {
    let address = nobody();
    let forward = PortForward::udp(Arc::new(UdpNetwork::from_address(address))).await.unwrap();
    let client = client(&forward).await;
    client.send(b"lost").await.unwrap();
    let stats = eventually(&forward, |stats| stats.failures == 1).await;
    assert!(stats.last_error.unwrap().contains(&format!("UDP endpoint {address}")));
    let device = UdpSocket::bind(address).await.unwrap();
    client.send(b"taken").await.unwrap();
    assert_eq!(received(&device).await.0, b"taken");
}

#[tokio::test]
async fn a_device_that_is_slower_than_its_peer_loses_datagrams_and_nothing_grows() {
    struct Stuck;
    #[async_trait]
    impl Network for Stuck {
        async fn connect(&self) -> Result<Channel> {
            std::future::pending().await
        }
    }
    let forward = PortForward::udp(Arc::new(Stuck)).await.unwrap();
    let client = client(&forward).await;
    let flooding = async {
        while forward.stats().dropped_datagrams == 0 {
            client.send(b"x").await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    within(flooding).await;
    assert_eq!(forward.stats().active, 1);
    within(forward.stop()).await;
}

#[tokio::test]
async fn localhost_is_reached_by_both_families_and_freed_at_the_end() {
    let forward = within(PortForward::udp(device().await).bind("localhost:0").into_future()).await;
    let forward = forward.unwrap();
    let address = forward.udp_address().unwrap();
    let known: Vec<_> =
        tokio::net::lookup_host(("localhost", address.port())).await.unwrap().collect();
    for address in &known {
        let any = if address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let client = UdpSocket::bind(any).await.unwrap();
        client.connect(address).await.unwrap();
        asks(&client, b"ping").await;
    }
    let taken = PortForward::udp(device().await).bind(address).await.unwrap_err();
    assert!(taken.report().contains("ss -lunp"), "{taken:?}");
    forward.stop().await;
    UdpSocket::bind(address).await.unwrap();
}

#[tokio::test]
async fn streams_and_datagrams_are_not_mixed() {
    let error = PortForward::tcp(device().await).await.unwrap_err();
    assert!(error.hint().unwrap().contains("forward-udp"), "{error:?}");

    let forward = PortForward::udp(Arc::new(EchoNetwork::new())).await.unwrap();
    client(&forward).await.send(b"x").await.unwrap();
    let stats = eventually(&forward, |stats| stats.failures == 1).await;
    assert!(stats.last_error.unwrap().contains("carries a stream of bytes"));
}

/// An endpoint of messages that is no UDP, as a WebSocket.
struct Messages;

#[async_trait]
impl Network for Messages {
    async fn connect(&self) -> Result<Channel> {
        let (channel, mut device) = Channel::pair(Framing::Datagrams);
        tokio::spawn(async move {
            while let Some(message) = device.receive().await.unwrap() {
                device.send(message).await.unwrap();
            }
            device.finish().await.unwrap();
        });
        Ok(channel)
    }
}

#[tokio::test]
async fn messages_may_carry_a_stream() {
    let forward = PortForward::tcp(Arc::new(Messages)).await.unwrap();
    let network = TcpNetwork::from_address(forward.tcp_address().unwrap());
    let mut channel = network.connect().await.unwrap();
    channel.send("hello").await.unwrap();
    channel.finish().await.unwrap();
    assert_eq!(within(channel.receive()).await.unwrap().unwrap(), "hello");
    assert!(within(channel.receive()).await.unwrap().is_none());
}
