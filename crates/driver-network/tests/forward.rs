//! Forwards with real sockets on both sides.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{
    EchoNetwork, ForwardStats, PortForward, TcpNetwork, UdpNetwork, UnixNetwork, check,
};
use jumpstarter_driver_testkit::{eventually_some, reserve_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it should not take this long")
}

/// Waits until the statistics are as wanted: they follow the connections' ends.
async fn eventually(forward: &PortForward, wanted: impl Fn(&ForwardStats) -> bool) -> ForwardStats {
    eventually_some("the statistics", async || Some(forward.stats()).filter(&wanted)).await
}

async fn listener() -> (TcpListener, Arc<TcpNetwork>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = TcpNetwork::from_address(listener.local_addr().unwrap());
    (listener, Arc::new(network))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_keep_their_data_apart() {
    const CONNECTIONS: usize = 1000;
    const BYTES: usize = 20_000;
    let forward = PortForward::tcp(Arc::new(EchoNetwork::new())).await.unwrap();
    let talk = async |index: usize| {
        let (mut reader, mut writer) =
            TcpStream::connect(forward.address()).await.unwrap().into_split();
        let data = vec![index as u8; BYTES];
        let mut back = Vec::new();
        let send = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let (received, ()) = tokio::join!(reader.read_to_end(&mut back), send);
        received.unwrap_or_else(|error| panic!("{index}: {error}: {:?}", forward.stats()));
        assert!(back == data, "connection {index} got {} bytes", back.len());
    };
    within(futures_util::future::join_all((0..CONNECTIONS).map(talk))).await;
    let stats = eventually(&forward, |stats| stats.active == 0).await;
    let bytes = (CONNECTIONS * BYTES) as u64;
    let mut expected = ForwardStats::default();
    expected.connections = CONNECTIONS as u64;
    (expected.bytes_to_device, expected.bytes_from_device) = (bytes, bytes);
    assert_eq!(stats, expected);
}

#[tokio::test]
async fn the_device_may_answer_after_the_client_finished() {
    let (listener, network) = listener().await;
    let forward = PortForward::tcp(network).await.unwrap();
    let serve = async {
        let (mut server, _) = listener.accept().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        server.write_all(format!("{question} to you").as_bytes()).await.unwrap();
    };
    let ask = async {
        let mut client = TcpStream::connect(forward.address()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hello to you");
    };
    within(async { tokio::join!(serve, ask) }).await;
}

#[tokio::test]
async fn the_client_may_go_on_after_the_device_finished() {
    let (listener, network) = listener().await;
    let forward = PortForward::tcp(network).await.unwrap();
    let serve = async {
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"tell me all").await.unwrap();
        server.shutdown().await.unwrap();
        let mut answer = String::new();
        server.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "all of it");
    };
    let tell = async {
        let mut client = TcpStream::connect(forward.address()).await.unwrap();
        let mut question = String::new();
        client.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "tell me all");
        client.write_all(b"all of it").await.unwrap();
        client.shutdown().await.unwrap();
    };
    within(async { tokio::join!(serve, tell) }).await;
    eventually(&forward, |stats| stats.active == 0 && stats.failures == 0).await;
}

#[tokio::test]
async fn an_unreachable_device_resets_the_connection_and_is_counted() {
    let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
    let network = Arc::new(TcpNetwork::from_address(address));
    let forward = PortForward::tcp(network).await.unwrap();
    let mut client = TcpStream::connect(forward.address()).await.unwrap();
    let error = within(client.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let stats = eventually(&forward, |stats| stats.active == 0).await;
    assert_eq!((stats.connections, stats.failures), (1, 1));
    assert!(stats.last_error.unwrap().contains(&address.to_string()));

    // The forward outlives it: the device comes, and the next connection works.
    let listener = TcpListener::bind(address).await.unwrap();
    let mut client = TcpStream::connect(forward.address()).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    server.write_all(b"here").await.unwrap();
    let mut answer = [0; 4];
    within(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"here");
}

#[tokio::test]
async fn a_device_that_breaks_off_does_not_look_complete() {
    let (listener, network) = listener().await;
    let forward = PortForward::tcp(network).await.unwrap();
    let mut client = TcpStream::connect(forward.address()).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    server.write_all(b"half of it").await.unwrap();
    within(client.read_exact(&mut [0; 10])).await.unwrap();
    server.set_zero_linger().unwrap();
    drop(server);
    let error = within(client.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(eventually(&forward, |stats| stats.active == 0).await.failures, 1);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_device() {
    let (listener, network) = listener().await;
    let forward = PortForward::tcp(network).await.unwrap();
    let client = TcpStream::connect(forward.address()).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    drop(client);
    assert_eq!(within(server.read(&mut [0; 1])).await.unwrap(), 0);
    drop(server);
    eventually(&forward, |stats| stats.active == 0 && stats.failures == 0).await;
}

#[tokio::test]
async fn stopping_and_dropping_end_everything() {
    for stop in [true, false] {
        let (listener, network) = listener().await;
        let forward = PortForward::tcp(network).await.unwrap();
        let address = forward.tcp_address().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        match stop {
            true => within(forward.stop()).await,
            false => drop(forward),
        }
        let error = within(client.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(within(server.read(&mut [0; 1])).await.unwrap(), 0);
        within(async { while check(&TcpNetwork::from_address(address)).await.reachable {} }).await;
    }
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_device_that_hangs() {
    struct Silent;
    #[async_trait]
    impl Network for Silent {
        async fn connect(&self) -> Result<Channel> {
            std::future::pending().await
        }
    }
    let forward = PortForward::tcp(Arc::new(Silent)).await.unwrap();
    let mut client = TcpStream::connect(forward.address()).await.unwrap();
    eventually(&forward, |stats| stats.active == 1).await;
    within(forward.stop()).await;
    assert!(within(client.read(&mut [0; 1])).await.is_err());
}

#[tokio::test]
async fn an_endpoint_of_datagrams_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = || Arc::new(UdpNetwork::new("127.0.0.1", 53));
    let tcp = PortForward::tcp(network()).await.unwrap_err();
    let unix = PortForward::unix(network(), folder.path().join("s")).await.unwrap_err();
    for error in [tcp, unix] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        let reason = "udp://127.0.0.1:53 takes datagrams, and this forward passes on streams";
        assert_eq!(error.to_string(), reason);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (listener, network) = listener().await;
    let address = listener.local_addr().unwrap();
    let error = PortForward::tcp(network).bind(address).await.unwrap_err();
    assert!(error.report().contains(&address.to_string()) && error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_unix_socket_is_private_and_goes_with_the_forward() {
    let folder = tempfile::tempdir().unwrap();
    for stop in [true, false] {
        let path = folder.path().join("local");
        let forward = PortForward::unix(Arc::new(EchoNetwork::new()), &path).await.unwrap();
        assert_eq!(forward.path(), Some(path.as_path()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = UnixStream::connect(forward.address()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = String::new();
        within(client.read_to_string(&mut back)).await.unwrap();
        assert_eq!(back, "hello");
        match stop {
            true => within(forward.stop()).await,
            false => {
                drop(forward);
                // A thread removes the file.
                assert!(jumpstarter_files::finish_removals(Duration::from_secs(20)));
            }
        }
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let echo = || Arc::new(EchoNetwork::new());

    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let forward = PortForward::unix(echo(), &stale).await.unwrap();
    assert!(check(&UnixNetwork::new(&stale)).await.reachable);

    let in_use = PortForward::unix(echo(), &stale).await.unwrap_err();
    assert_eq!(in_use.kind(), ErrorKind::AlreadyExists);
    assert!(check(&UnixNetwork::new(&stale)).await.reachable);

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(
        PortForward::unix(echo(), &file).await.unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    // Another program took the path over: its socket stays.
    std::fs::remove_file(&stale).unwrap();
    let _other = UnixListener::bind(&stale).unwrap();
    within(forward.stop()).await;
    assert!(check(&UnixNetwork::new(&stale)).await.reachable);

    let nowhere =
        PortForward::unix(echo(), folder.path().join("no/such/folder")).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

async fn forward_at(address: &str) -> Result<PortForward> {
    within(PortForward::tcp(Arc::new(EchoNetwork::new())).bind(address).into_future()).await
}

#[tokio::test]
async fn localhost_is_reached_by_both_families() {
    let forward = forward_at("localhost:0").await.unwrap();
    let address = forward.tcp_address().unwrap();
    let known: Vec<_> =
        tokio::net::lookup_host(("localhost", address.port())).await.unwrap().collect();
    assert!(known.contains(&address), "{address} of {known:?}");
    for address in known {
        let mut stream = within(TcpStream::connect(address)).await.unwrap();
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        within(stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"ping", "{address}");
    }
    assert!(address.is_ipv4(), "{address}");
    for (written, host) in [("[::1]:0", "::1"), ("::1:0", "::1"), ("127.0.0.2:0", "127.0.0.2")] {
        let forward = forward_at(written).await.unwrap();
        assert_eq!(forward.tcp_address().unwrap().ip().to_string(), host);
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_explained() {
    let (taken, _) = listener().await;
    let port = taken.local_addr().unwrap().port();
    // On one family only: the other family's port may belong to another program.
    for host in ["127.0.0.1", "localhost"] {
        let error = forward_at(&format!("{host}:{port}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let report = error.report();
        assert!(
            report.contains(&format!("port {port} of {host} is taken by another program")),
            "{report}"
        );
        assert!(report.contains(&format!("ss -ltnp 'sport = :{port}'")), "{report}");
    }
    for (address, kind, expected) in [
        ("192.0.2.1:0", ErrorKind::Unavailable, "this machine does not have the address 192.0.2.1"),
        ("127.0.0.1", ErrorKind::InvalidArgument, "is not a host and a port"),
        ("127.0.0.1:65536", ErrorKind::InvalidArgument, "is not a host and a port"),
        (
            "::x:1",
            ErrorKind::InvalidArgument,
            "write it as 127.0.0.1:8080, localhost:0 or [::1]:8080",
        ),
        (":80", ErrorKind::InvalidArgument, "is not a host and a port"),
    ] {
        let error = forward_at(address).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.report().contains(expected), "{}", error.report());
    }
}

/// An endpoint that counts how often it is asked for its address.
struct Counted(&'static str, std::sync::atomic::AtomicU32);

#[async_trait]
impl Network for Counted {
    async fn connect(&self) -> Result<Channel> {
        Err(Error::unavailable("it has no connections"))
    }

    async fn address(&self) -> Result<String> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(self.0.to_owned())
    }
}

#[tokio::test]
async fn an_address_that_chooses_the_kind_of_forward_is_asked_for_once() {
    for (address, is_udp) in [("tcp://127.0.0.1:22", false), ("udp://127.0.0.1:53", true)] {
        let network = Arc::new(Counted(address, 0.into()));
        let forward = PortForward::matching(network.clone()).await.unwrap();
        assert_eq!(forward.udp_address().is_some(), is_udp, "{address}");
        assert_eq!(forward.device_address(), Some(address));
        assert_eq!(network.1.load(std::sync::atomic::Ordering::Relaxed), 1, "{address}");
    }
}
