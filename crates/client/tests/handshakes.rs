//! TLS handshakes that do not go on: they are few, and keep nobody out.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_driver_core::Device;
use jumpstarter_exporter::Access;
use support::certificates::Certificates;
use support::stub::Stub;
use support::{Served, in_time};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// More than an exporter waits for at a time from one address: 256, where there are descriptors.
const MANY: usize = 300;
/// A handshake that does not go on ends by itself after this time.
const OPENING_LIMIT: Duration = Duration::from_secs(10);

async fn served(certificates: &Certificates) -> Served {
    let access = Access::default().tls(certificates.of_exporter("localhost"));
    Served::at(Device::of_driver(Stub::default()), Some("127.0.0.1"), access).await
}

/// Peers at that address that connect and say nothing.
async fn silent(from: [u8; 4], to: SocketAddr) -> Vec<TcpStream> {
    let mut peers = Vec::new();
    for _ in 0..MANY {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        peers.push(in_time(socket.connect(to)).await.unwrap());
    }
    peers
}

/// Waits until the exporter waits for no more peers of an address than it may, and still for most
/// of them.
async fn are_bounded(peers: &[TcpStream]) {
    let open = || peers.iter().filter(|peer| is_open(peer)).count();
    let bounded = tokio::time::timeout(OPENING_LIMIT / 2, async {
        while open() > 256 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    bounded.await.expect("some are closed before their time is up");
    assert!(open() > 200, "those that there is room for have their time: {}", open());
}

fn is_open(peer: &TcpStream) -> bool {
    let read = peer.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn works(certificates: &Certificates, address: &str) {
    let options =
        ConnectOptions::new(address.parse().unwrap()).ca_file(certificates.path("ours.pem"));
    let exporter = in_time(connect(&options)).await.unwrap();
    in_time(exporter.device().call("", "off", vec![])).await.unwrap();
    in_time(exporter.device().close()).await.unwrap();
}

#[tokio::test]
async fn silent_peers_do_not_keep_a_good_one_out() {
    let certificates = Certificates::make();
    let served = served(&certificates).await;
    let address: SocketAddr = served.address.parse().unwrap();
    let peers = silent([127, 0, 0, 1], address).await;
    works(&certificates, &format!("localhost:{}", address.port())).await;
    are_bounded(&peers).await;
    drop(peers);
    served.shut_down().await;
}

/// Who is slow loses its place to nobody at another address.
#[cfg(target_os = "linux")] // The whole of 127.0.0.0/8 is this host.
#[tokio::test]
async fn silent_peers_crowd_out_each_other_only() {
    let certificates = Certificates::make();
    let served = served(&certificates).await;
    let address: SocketAddr = served.address.parse().unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let peers = silent([127, 0, 0, 2], address).await;
    are_bounded(&peers).await;
    assert!(is_open(&slow), "the first one to come is still waited for");
    // It goes on now: a client speaks through it.
    let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = relay.local_addr().unwrap().port();
    let relaying = tokio::spawn(async move {
        let (mut client, _) = relay.accept().await.unwrap();
        // The end of either side ends both.
        drop(tokio::io::copy_bidirectional(&mut client, &mut slow).await);
    });
    works(&certificates, &format!("localhost:{port}")).await;
    in_time(relaying).await.unwrap();
    drop(peers);
    served.shut_down().await;
}
