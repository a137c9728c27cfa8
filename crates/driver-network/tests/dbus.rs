//! A real message bus, and real calls to it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_network::{
    Conversation, DbusKind, DbusNetwork, DbusNetworkConfig, PortForward, check,
};
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Child, Command, Sink, SuperviseError, run};
use tokio::io::{AsyncBufReadExt, BufReader};

const LONG: Duration = Duration::from_secs(60);

/// A bus with a listener of each kind, its addresses in that order: a path, a name in the abstract
/// namespace, TCP, TCP with a nonce.
struct Bus {
    addresses: Vec<String>,
    _daemon: Child,
}

impl Bus {
    /// `None` where no daemon is installed.
    async fn start(folder: &Path) -> Option<Self> {
        let socket = folder.join("a bus,with;a%name");
        let escaped = socket.display().to_string().replace('%', "%25");
        let escaped = escaped.replace(' ', "%20").replace(',', "%2c").replace(';', "%3b");
        let listeners = [
            format!("unix:path={escaped}"),
            format!("unix:abstract=jumpstarter-test-{}", std::process::id()),
            "tcp:host=127.0.0.1,port=0,family=ipv4".to_owned(),
            "nonce-tcp:host=127.0.0.1,port=0,family=ipv4".to_owned(),
        ];
        let file = folder.join("bus.conf");
        let listen: String =
            listeners.iter().map(|address| format!("<listen>{address}</listen>")).collect();
        let config = format!(
            "<busconfig><type>session</type>{listen}<auth>EXTERNAL</auth><auth>ANONYMOUS</auth>\
             <allow_anonymous/><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&file, config).unwrap();
        let daemon = Command::new("dbus-daemon").args(["--nofork", "--print-address"]);
        let daemon = daemon.arg(format!("--config-file={}", file.display())).stdout(Sink::Piped);
        // There it puts the file of its nonce.
        let daemon = daemon.env("TMPDIR", folder);
        let daemon = match daemon.spawn().await {
            Ok(daemon) => daemon,
            Err(SuperviseError::NotFound { .. }) => {
                skip("dbus-daemon is not installed: run `cargo xtask setup`");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut said = BufReader::new(daemon.take_stdout().unwrap());
        let mut addresses = String::new();
        tokio::time::timeout(LONG, said.read_line(&mut addresses)).await.unwrap().unwrap();
        let parts: Vec<&str> = addresses.trim().split(';').collect();
        // The daemon writes them in the order of its listeners, or the other way round.
        let of =
            |kind: &str| parts.iter().find(|part| part.starts_with(kind)).map(|p| (*p).to_owned());
        let kinds = ["unix:path", "unix:abstract", "tcp:", "nonce-tcp:"];
        let addresses = kinds.iter().map(|kind| of(kind).unwrap_or_else(|| panic!("{addresses}")));
        Some(Self { addresses: addresses.collect(), _daemon: daemon })
    }
}

/// Calls a method of the bus at `address` by the tool of D-Bus, and returns the answer.
async fn names_at(address: &str) -> String {
    let call = Command::new("dbus-send").arg(format!("--bus={address}")).args([
        "--print-reply",
        "--dest=org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus.ListNames",
    ]);
    run(call.stdout(Sink::Tail(1 << 16)), LONG).await.unwrap().stdout_text()
}

#[tokio::test]
async fn a_call_is_made_through_forwards_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(bus) = Bus::start(folder.path()).await else { return };
    let network = Arc::new(DbusNetwork::at(DbusKind::Session, &bus.addresses[0]).unwrap());
    let tcp = PortForward::tcp(network.clone()).await.unwrap();
    let port = tcp.tcp_address().unwrap().port();
    let unix = PortForward::unix(network, folder.path().join("here")).await.unwrap();
    for address in [
        format!("tcp:host=127.0.0.1,port={port}"),
        format!("unix:path={}", unix.path().unwrap().display()),
    ] {
        let names = names_at(&address).await;
        assert!(names.contains("org.freedesktop.DBus"), "{address}: {names}");
    }
    assert_eq!((tcp.stats().failures, unix.stats().failures), (0, 0));
}

#[tokio::test]
async fn every_transport_reaches_the_bus() {
    let folder = tempfile::tempdir().unwrap();
    let Some(bus) = Bus::start(folder.path()).await else { return };
    for address in &bus.addresses {
        let network = DbusNetwork::at(DbusKind::System, address).unwrap();
        let mut talk = Conversation::connect(&network).await.unwrap();
        // The bus answers with the mechanisms that it knows.
        talk.send_all("\0AUTH\r\n").await.unwrap();
        let answer = talk.receive_until("\r\n", LONG).await.unwrap();
        assert!(answer.starts_with(b"REJECTED EXTERNAL"), "{address}: {answer:?}");
    }
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_the_error_names_each() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("unix:path={}", folder.path().join("missing").display());
    let dead = "tcp:host=127.0.0.1,port=1,family=ipv4";
    let nowhere = format!("launchd:env=X;{missing};{dead}");
    let network = DbusNetwork::at(DbusKind::System, &nowhere).unwrap();
    let error = network.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    for part in [&*missing, "tcp:host=127.0.0.1,port=1", "`launchd` is not supported"] {
        assert!(report.contains(part), "{report}");
    }
    assert!(report.contains("DBUS_SYSTEM_BUS_ADDRESS"), "{report}");

    let Some(bus) = Bus::start(folder.path()).await else { return };
    let network = DbusNetwork::at(DbusKind::System, &format!("{nowhere};{}", bus.addresses[0]));
    assert!(check(&network.unwrap()).await.reachable);
}

#[tokio::test]
async fn what_no_client_can_use_is_refused_before_anything_is_opened() {
    for (address, expected) in [
        ("autolaunch:;systemd:", "the transport `autolaunch` is not supported"),
        ("unix", "a transport and a colon are missing"),
    ] {
        let error = DbusNetwork::at(DbusKind::Session, address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.report().contains(expected), "{error:?}");
    }
    let kind = serde_json::json!({"kind": "user"});
    let error = serde_json::from_value::<DbusNetworkConfig>(kind).unwrap_err().to_string();
    assert!(error.contains("`user`") && error.contains("`system` or `session`"), "{error}");
}

#[tokio::test]
async fn a_bus_that_is_busy_is_waited_for() {
    use std::os::unix::net::{UnixListener, UnixStream};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    );
    let listener = listener.unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let listener = UnixListener::from(listener);
    let _queued = UnixStream::connect(&path).unwrap();
    let network = DbusNetwork::at(DbusKind::System, &format!("unix:path={}", path.display()));
    let network = network.unwrap();
    let connecting = tokio::spawn(async move { network.connect().await });
    // An attempt that does not wait has failed by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!connecting.is_finished());
    listener.accept().unwrap();
    tokio::time::timeout(LONG, connecting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_nonce_of_the_wrong_length_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nonce");
    std::fs::write(&file, "short").unwrap();
    let address = format!("nonce-tcp:host=127.0.0.1,port=1,noncefile={}", file.display());
    let network = DbusNetwork::at(DbusKind::Session, &address).unwrap();
    let report = network.connect().await.unwrap_err().report();
    assert!(report.contains("it has 5 bytes, and a nonce has 16"), "{report}");
}

#[test]
fn the_python_client_learns_which_bus_it_is() {
    let network = DbusNetwork::at(DbusKind::Session, "unix:path=/run/bus").unwrap();
    let label = ("jumpstarter.dev/dbusnetwork/kind".to_owned(), "session".to_owned());
    assert_eq!(network.labels(), [label]);
    let client = "jumpstarter_driver_network.client.DbusNetworkClient";
    assert_eq!(network.client(), Some(client));
}
