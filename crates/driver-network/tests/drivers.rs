//! The drivers against real sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::time::Duration;

use jumpstarter_driver_core::Registry;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{
    Conversation, EchoNetwork, TcpNetwork, UnixNetwork, VsockNetworkConfig, check, check_within,
};
use jumpstarter_driver_testkit::{eventually_some, skip};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio_vsock::{VsockAddr, VsockListener};

const LONG: Duration = Duration::from_secs(30);

async fn open(name: &str, config: serde_json::Value) -> Result<Device> {
    let entry = Registry::linked().find(name)?;
    (entry.open)(config, OpenContext::at("net")).await.map(Device::of_shared_driver)
}

/// Whether both ends hear each other, and the end of one direction leaves the other open.
async fn exchange(mut client: Conversation, mut server: Conversation) {
    client.send_all("question\n").await.unwrap();
    client.finish().await.unwrap();
    assert_eq!(server.receive_to_end(LONG).await.unwrap(), b"question\n");
    server.send_all("answer\n").await.unwrap();
    assert_eq!(client.receive_until("\n", LONG).await.unwrap(), b"answer\n");
    drop(server);
    assert_eq!(client.receive_to_end(LONG).await.unwrap(), b"");
}

#[tokio::test]
async fn tcp_connects_under_both_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for name in ["tcp", "jumpstarter_driver_network.driver.TcpNetwork"] {
        let device = open(name, json!({"host": "127.0.0.1", "port": port})).await.unwrap();
        let network = device.get::<dyn Network>("").unwrap();
        assert_eq!(network.address().await.unwrap(), format!("tcp://127.0.0.1:{port}"));
        let (client, server) =
            tokio::join!(Conversation::connect(network.as_ref()), listener.accept());
        let server = Conversation::new(Channel::from_io(server.unwrap().0));
        exchange(client.unwrap(), server).await;
    }
}

#[tokio::test]
async fn tcp_tries_every_address_of_a_name() {
    // `localhost` is ::1 and 127.0.0.1 on most machines; only the latter listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = TcpNetwork::new("localhost", listener.local_addr().unwrap().port());
    assert!(check(&network).await.reachable);
    let address = network.address().await.unwrap();
    assert!(
        address.starts_with("tcp://127.0.0.1:") || address.starts_with("tcp://[::1]:"),
        "{address}"
    );
}

#[tokio::test]
async fn tcp_writes_ipv6_in_brackets_and_reads_it_with_and_without() {
    for host in ["::1", "[::1]"] {
        assert_eq!(TcpNetwork::new(host, 80).address().await.unwrap(), "tcp://[::1]:80");
    }
}

#[tokio::test]
async fn tcp_hides_its_address_when_told_to() {
    let device = open("tcp", json!({"host": "127.0.0.1", "port": 1, "enable_address": false}))
        .await
        .unwrap();
    let error = device.get::<dyn Network>("").unwrap().address().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(!error.report().contains("127.0.0.1"), "{error:?}");
}

#[tokio::test]
async fn tcp_configuration_is_checked() {
    for (config, named) in [
        (json!({"host": "h", "port": 0}), "port"),
        (json!({"host": "h", "port": 70000}), "port"),
        (json!({"port": 1}), "host"),
        (json!({"host": "h", "port": 1, "prot": 1}), "prot"),
        (json!({"host": "h", "port": 1, "connect_timeout": "soon"}), "connect_timeout"),
    ] {
        let error = open("tcp", config.clone()).await.expect_err("it should be refused");
        assert!(error.report().contains(named), "{config}: {error:?}");
    }
}

#[tokio::test]
async fn unreachable_endpoints_say_where_and_why() {
    let port = jumpstarter_driver_testkit::reserve_port();
    let refused = TcpNetwork::new("127.0.0.1", port);
    let error = refused.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.report().contains(&format!("127.0.0.1:{port}")) && error.report().contains("refused"),
        "{error:?}"
    );
    let found = check(&refused).await;
    assert!(!found.reachable && found.reason.unwrap().contains("refused"));

    let unknown = TcpNetwork::new("no-such-host.invalid", 1).connect().await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unavailable);
    assert!(unknown.report().contains("no-such-host.invalid"), "{unknown:?}");
}

#[tokio::test]
async fn tcp_gives_up_on_an_endpoint_that_does_not_answer() {
    // A full backlog: the kernel drops further attempts and answers nothing.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let _listener = socket.listen(0).unwrap();
    let network = TcpNetwork::from_address(address).connect_timeout(Duration::from_millis(300));
    let mut open = Vec::new();
    let error = loop {
        match tokio::time::timeout(LONG, network.connect()).await.expect("the timeout holds") {
            Ok(channel) => open.push(channel),
            Err(error) => break error,
        }
        assert!(open.len() < 100, "the backlog is never full");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("no answer"), "{error:?}");
}

#[tokio::test]
async fn unix_connects_under_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    for name in ["unix", "jumpstarter_driver_network.driver.UnixNetwork"] {
        let device = open(name, json!({ "path": path })).await.unwrap();
        let network = device.get::<dyn Network>("").unwrap();
        assert_eq!(network.address().await.unwrap_err().kind(), ErrorKind::Unimplemented);
        let (client, server) =
            tokio::join!(Conversation::connect(network.as_ref()), listener.accept());
        exchange(client.unwrap(), Conversation::new(Channel::from_io(server.unwrap().0))).await;
    }
}

#[tokio::test]
async fn unix_tells_a_missing_socket_from_a_dead_one() {
    let folder = tempfile::tempdir().unwrap();
    let network = UnixNetwork::new(folder.path().join("socket"));
    let error = network.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.report().contains("no such socket") && error.report().contains("socket: "),
        "{error:?}"
    );
    drop(UnixListener::bind(network.path()).unwrap());
    let error = network.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("nothing listens"), "{error:?}");
}

#[tokio::test]
async fn unix_waits_for_room_in_the_listeners_queue() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = tokio::net::UnixSocket::new_stream().unwrap();
    socket.bind(&path).unwrap();
    let listener = socket.listen(1).unwrap();
    let network = UnixNetwork::new(&path);
    let connecting = futures_util::future::join_all((0..10).map(|_| network.connect()));
    let accepting = async {
        let mut accepted = Vec::new();
        while accepted.len() < 10 {
            accepted.push(listener.accept().await.unwrap());
            tokio::task::yield_now().await;
        }
    };
    let both = futures_util::future::join(connecting, accepting);
    let (connected, ()) =
        tokio::time::timeout(LONG, both).await.expect("every connection is accepted");
    assert!(connected.iter().all(Result::is_ok));
}

#[tokio::test]
async fn echo_sends_back_and_ends_with_the_sender() {
    for name in ["echo", "jumpstarter_driver_network.driver.EchoNetwork"] {
        let device = open(name, json!({})).await.unwrap();
        let mut talk = Conversation::new(device.connect("", "connect").await.unwrap());
        talk.send_all("hello").await.unwrap();
        assert_eq!(talk.receive_exact(5, LONG).await.unwrap(), b"hello");
        talk.finish().await.unwrap();
        assert_eq!(talk.receive_to_end(LONG).await.unwrap(), b"");
        let address = device.get::<dyn Network>("").unwrap().address().await;
        assert_eq!(address.unwrap_err().kind(), ErrorKind::Unimplemented);
    }
}

#[tokio::test]
async fn a_check_has_a_deadline() {
    struct Silent;
    #[async_trait]
    impl Network for Silent {
        async fn connect(&self) -> Result<Channel> {
            std::future::pending().await
        }
    }
    let found = check_within(&Silent, Duration::from_millis(20)).await;
    assert!(!found.reachable && found.to_string().contains("no connection after 20ms"), "{found}");
}

#[tokio::test]
async fn a_conversation_finds_patterns_across_frames_and_keeps_the_rest() {
    let mut channel = EchoNetwork::new().connect().await.unwrap();
    for frame in ["one; lo", "gi", "n: two", " rest"] {
        channel.send(frame).await.unwrap();
    }
    let mut talk = Conversation::new(channel);
    assert_eq!(talk.receive_until("login: ", LONG).await.unwrap(), b"one; login: ");
    assert_eq!(talk.receive_exact(3, LONG).await.unwrap(), b"two");
    let late = talk.receive_until("never", Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    assert!(late.report().contains("never") && late.report().contains(" rest"), "{late:?}");
    talk.finish().await.unwrap();
    let ended = talk.receive_exact(100, LONG).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::DataLoss);
    assert_eq!(talk.receive_to_end(LONG).await.unwrap(), b" rest");
    assert_eq!(talk.receive_until("", LONG).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn tcp_leaves_a_name_that_it_cannot_resolve_to_the_client() {
    let network = TcpNetwork::new("no-such-host.invalid", 22);
    assert_eq!(network.address().await.unwrap(), "tcp://no-such-host.invalid:22");
}

#[tokio::test]
async fn tcp_connections_are_kept_alive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _channel = TcpNetwork::new("127.0.0.1", port).connect().await.unwrap();
    let (_server, client) = listener.accept().await.unwrap();
    // `02` in the column of timers: the probes of keep-alive.
    let ends = format!("0100007F:{:04X} 0100007F:{port:04X} 01 ", client.port());
    // Connections of others that come and go may hide it in one reading.
    let listed = async || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().find(|line| line.contains(&ends)).map(str::to_owned)
    };
    let line = eventually_some("the connection is listed", listed).await;
    assert!(line.contains(" 02:"), "{line}");
}

#[tokio::test]
async fn vsock_configuration_is_checked() {
    for (config, named) in [
        (json!({"cid": -1, "port": 1}), "cid"),
        (json!({"cid": 3}), "port"),
        (json!({"cid": 3, "port": 1, "host": "h"}), "host"),
    ] {
        let error = open("vsock", config.clone()).await.expect_err("it should be refused");
        assert!(error.report().contains(named), "{config}: {error:?}");
    }
    let config: VsockNetworkConfig =
        serde_json::from_value(json!({"cid": u32::MAX, "port": u32::MAX})).unwrap();
    let problems = config.check();
    assert_eq!(problems.iter().map(|problem| &problem.field).collect::<Vec<_>>(), ["cid", "port"]);
}

#[tokio::test]
async fn vsock_without_a_machine_says_which_is_missing_and_in_time() {
    // Over the loopback, where the kernel has it, nothing listens there.
    let config = json!({"cid": 1, "port": 0x7fff_fff0, "connect_timeout": "300ms"});
    let device = open("jumpstarter_driver_network.driver.VsockNetwork", config).await.unwrap();
    let network = device.get::<dyn Network>("").unwrap();
    assert_eq!(network.address().await.unwrap(), "vsock://1:2147483632");
    let error = tokio::time::timeout(LONG, network.connect()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("1:2147483632") && error.hint().is_some(), "{error:?}");
}

#[tokio::test]
async fn vsock_connects_over_the_loopback() {
    const THIS_MACHINE: u32 = 1;
    let any_port = u32::MAX;
    let listening = VsockListener::bind(VsockAddr::new(THIS_MACHINE, any_port));
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => return skip(&format!("this kernel has no vsock loopback: {error}")),
    };
    let port = listener.local_addr().unwrap().port();
    let device = open("vsock", json!({"cid": THIS_MACHINE, "port": port})).await.unwrap();
    let network = device.get::<dyn Network>("").unwrap();
    let (client, server) = tokio::join!(Conversation::connect(network.as_ref()), listener.accept());
    exchange(client.unwrap(), Conversation::new(Channel::from_io(server.unwrap().0))).await;
    drop(listener);
    let error = network.connect().await.unwrap_err();
    assert!(error.report().contains(&format!("nothing listens on port {port}")), "{error:?}");
}
