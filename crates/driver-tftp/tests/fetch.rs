//! Real clients fetch what a client put into the storage, and wrong packets do no harm.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_core::storage::write_file;
use jumpstarter_driver_core::{Registry, Storage};
use jumpstarter_driver_testkit::{eventually_some, skip};
use jumpstarter_driver_tftp as _;
use jumpstarter_supervise::Command;
use tokio::net::UdpSocket;
use tokio::time::timeout;

const NAME: &str = "jumpstarter_driver_tftp.driver.Tftp";

struct Server {
    device: Device,
    root: tempfile::TempDir,
    port: u16,
}

impl Server {
    async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let entry = Registry::linked().find(NAME).unwrap();
        let config: Value = json!({ "root_dir": root.path(), "host": "127.0.0.1", "port": 0 });
        let driver = (entry.open)(config, OpenContext::at("tftp")).await.unwrap();
        let device = Device::of_shared_driver(driver);
        assert_eq!(device.call("", "get_port", vec![]).await.unwrap(), 0);
        device.call("", "start", vec![]).await.unwrap();
        device.call("", "start", vec![]).await.unwrap();
        let port = device.call("", "get_port", vec![]).await.unwrap().as_u64().unwrap();
        Self { device, root, port: port as u16 }
    }

    async fn put(&self, name: &str, content: &[u8]) {
        let storage = self.device.get::<dyn Storage>("storage").unwrap();
        write_file(&*storage, name, ImageSource::bytes(content.to_vec())).await.unwrap();
    }

    async fn client(&self) -> Client {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Client { socket, port: self.port }
    }
}

/// A client that speaks the protocol by hand.
struct Client {
    socket: UdpSocket,
    port: u16,
}

impl Client {
    async fn ask(&self, request: &str) {
        let packet = [&[0, 1], request.as_bytes()].concat();
        self.socket.send_to(&packet, ("127.0.0.1", self.port)).await.unwrap();
    }

    /// The next packet, after which answers go to its sender.
    async fn next(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 70_000];
        let received = timeout(Duration::from_secs(20), self.socket.recv_from(&mut buffer));
        let (length, from) = received.await.expect("a packet comes").unwrap();
        self.port = from.port();
        buffer.truncate(length);
        buffer
    }

    async fn ack(&self, block: u16) {
        let packet = [[0, 4], block.to_be_bytes()].concat();
        self.socket.send_to(&packet, ("127.0.0.1", self.port)).await.unwrap();
    }

    /// The next packet that is not `known`, which may come again.
    async fn next_but(&mut self, known: &[u8]) -> Vec<u8> {
        loop {
            let packet = self.next().await;
            if packet != known {
                return packet;
            }
        }
    }

    /// What the server answers a request with.
    async fn answer(&mut self, request: &str) -> Vec<u8> {
        self.ask(request).await;
        self.next().await
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|number| (number * 7 + number / 512) as u8).collect()
}

/// Runs a client; returns whether it is installed.
async fn run(program: &str, arguments: &[&str]) -> bool {
    let command = Command::new(program).args(arguments);
    match jumpstarter_supervise::run(command, Duration::from_secs(60)).await {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("not found") || text.contains("no such program"), "{text}");
            skip(&format!("{program} is not installed: apt-get install tftp-hpa curl"));
            false
        }
    }
}

#[tokio::test]
async fn tftp_hpa_and_curl_fetch_files() {
    let server = Server::start().await;
    let target = server.root.path().join("../tftp-fetched");
    let target = tempfile::NamedTempFile::new_in(target.parent().unwrap()).unwrap();
    let target = target.path().to_str().unwrap();
    let port = server.port.to_string();
    for length in [0, 511, 512, 100_000] {
        server.put("boot/zImage", &content(length)).await;
        let arguments = ["-m", "binary", "127.0.0.1", &port, "-c", "get", "boot/zImage", target];
        if !run("tftp", &arguments).await {
            return;
        }
        assert!(std::fs::read(target).unwrap() == content(length), "{length}");
    }
    let url = format!("tftp://127.0.0.1:{port}/boot/zImage");
    for block in ["8192", "512", "1468"] {
        server.put("boot/zImage", &content(1_000_000)).await;
        let arguments = ["-sS", "--tftp-blksize", block, "-o", target, &url];
        if !run("curl", &arguments).await {
            return;
        }
        assert!(std::fs::read(target).unwrap() == content(1_000_000), "{block}");
    }
}

#[tokio::test]
async fn windows_are_sent_and_resent() {
    let server = Server::start().await;
    server.put("file", &content(40)).await;
    let mut client = server.client().await;
    // Nothing is sent again because of its time.
    let options = "blksize\x008\0windowsize\x004\0tsize\x000\0other\x001\0timeout\x0099\0";
    let accepted = client.answer(&format!("file\0octet\0{options}")).await;
    assert_eq!(accepted, b"\0\x06blksize\x008\0windowsize\x004\0tsize\x0040\0timeout\x0099\0");
    client.ack(0).await;
    let block = |number: u8| {
        let start = (usize::from(number) - 1) * 8;
        [&[0, 3, 0, number], &content(40)[start..(start + 8).min(40)]].concat()
    };
    for number in 1..=4 {
        assert_eq!(client.next().await, block(number));
    }
    // The third and fourth were lost: they come again with what the window has room for.
    client.ack(2).await;
    for number in 3..=5 {
        assert_eq!(client.next().await, block(number));
    }
    // The file ends with a block, so that an empty one follows.
    assert_eq!(client.next().await, [0, 3, 0, 6]);
    client.ack(6).await;
    server.device.close().await.unwrap();
}

/// A file of more blocks than their numbers go.
#[tokio::test]
async fn numbers_of_blocks_begin_again() {
    let server = Server::start().await;
    let content = content(66_000 * 8 + 3);
    server.put("file", &content).await;
    let mut client = server.client().await;
    client.answer("file\0octet\0blksize\x008\0windowsize\x0064\0timeout\x0099\0").await;
    client.ack(0).await;
    let (mut found, mut number) = (Vec::new(), 0u16);
    loop {
        let block = client.next().await;
        number = number.wrapping_add(1);
        assert_eq!(block[..4], [&[0, 3], &number.to_be_bytes()[..]].concat());
        found.extend_from_slice(&block[4..]);
        let is_last = block.len() < 12;
        if is_last || number % 64 == 0 {
            client.ack(number).await;
        }
        if is_last {
            break;
        }
    }
    assert!(found == content);
}

#[tokio::test]
async fn lost_packets_come_again_and_repeated_ones_change_nothing() {
    let server = Server::start().await;
    server.put("file", &content(600)).await;
    let mut client = server.client().await;
    let start = Instant::now();
    let first = client.answer("file\0octet\0timeout\x001\0").await;
    assert_eq!(first, b"\0\x06timeout\x001\0");
    assert_eq!(client.next().await, first, "the acknowledgement was lost");
    assert!(start.elapsed() > Duration::from_millis(900));
    client.ack(0).await;
    let block = client.next_but(&first).await;
    assert_eq!((&block[..4], &block[4..]), (&[0, 3, 0, 1][..], &content(600)[..512]));
    // A repeated acknowledgement must not double the traffic; a packet from another port is
    // another client's.
    client.ack(0).await;
    let mut stranger = server.client().await;
    stranger.port = client.port;
    stranger.ack(1).await;
    assert_eq!(client.next().await, block, "only the timeout sends it again");
    client.ack(1).await;
    let last = client.next_but(&block).await;
    assert_eq!((&last[..4], &last[4..]), (&[0, 3, 0, 2][..], &content(600)[512..]));
    client.ack(2).await;
}

#[tokio::test]
async fn names_are_confined() {
    let server = Server::start().await;
    server.put("folder/file", b"x").await;
    symlink("/etc/passwd", server.root.path().join("link")).unwrap();
    for (name, code) in [
        ("none", 1),
        ("folder", 2),
        ("", 2),
        ("link", 2),
        ("../etc/passwd", 2),
        ("folder/../../etc/passwd", 2),
        ("/etc/passwd", 1),
    ] {
        let answer = server.client().await.answer(&format!("{name}\0octet\0")).await;
        assert_eq!(answer[..4], [0, 5, 0, code], "{name}: {answer:?}");
        assert!(!String::from_utf8_lossy(&answer).contains("root:"), "{name}");
    }
    let answer = server.client().await.answer("/folder//file\0octet\0").await;
    assert_eq!(answer, b"\0\x03\0\x01x");
    let mut client = server.client().await;
    let write = b"\0\x02new\0octet\0";
    client.socket.send_to(write, ("127.0.0.1", client.port)).await.unwrap();
    assert_eq!(client.next().await[..4], [0, 5, 0, 2]);
    assert!(!server.root.path().join("new").exists());
}

/// Random changes of a good packet, and random packets: the server answers the next request.
#[tokio::test]
async fn wrong_packets_do_no_harm() {
    let server = Server::start().await;
    server.put("file", &content(700)).await;
    let mut random = fastrand::Rng::with_seed(7);
    let good = b"\0\x01file\0octet\0blksize\x001468\0timeout\x001\0tsize\x000\0windowsize\x004\0";
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..3000 {
        let mut packet = match round % 4 {
            0 => (0..random.usize(..600)).map(|_| random.u8(..)).collect(),
            1 => good[..random.usize(..good.len())].to_vec(),
            _ => good.to_vec(),
        };
        for _ in 0..random.usize(..4) {
            if !packet.is_empty() {
                let place = random.usize(..packet.len());
                packet[place] = random.u8(..);
            }
        }
        if round % 50 == 0 {
            packet = [&good[..], &vec![b'9'; random.usize(..60_000)]].concat();
        }
        socket.send_to(&packet, ("127.0.0.1", server.port)).await.unwrap();
        if round % 200 == 0 {
            // Another client is served meanwhile, and its transfer gets wrong packets too.
            let mut client = server.client().await;
            client.ask("file\0octet\0").await;
            let answer = client.next().await;
            if answer[..2] == [0, 5] {
                continue;
            }
            assert_eq!(answer[..4], [0, 3, 0, 1], "{answer:?}");
            for wrong in [&[][..], &[0], &[0, 4], &[0, 4, 0], &[0, 4, 9, 9], &[9, 9, 9, 9], &packet]
            {
                let place = ("127.0.0.1", client.port);
                client.socket.send_to(&wrong[..wrong.len().min(900)], place).await.unwrap();
            }
            client.ack(1).await;
            let answer = client.next_but(&answer).await;
            assert_eq!(answer[..4], [0, 3, 0, 2], "{answer:?}");
            client.ack(2).await;
        }
    }
    let answer = server.client().await.answer("file\0octet\0").await;
    assert_eq!(answer.len(), 516);
}

#[tokio::test]
async fn transfers_are_bounded() {
    let server = Server::start().await;
    server.put("file", &content(700)).await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        let mut client = server.client().await;
        assert_eq!(client.answer("file\0octet\0").await[..4], [0, 3, 0, 1]);
        clients.push(client);
    }
    assert_eq!(server.client().await.answer("file\0octet\0").await[..4], [0, 5, 0, 0]);
    // One that ends makes room.
    let client = clients.last_mut().unwrap();
    client.ack(1).await;
    client.next().await;
    client.ack(2).await;
    eventually_some("there is room", async || {
        let answer = server.client().await.answer("file\0octet\0").await;
        (answer[..4] == [0, 3, 0, 1]).then_some(())
    })
    .await;
}

/// A port below 1024 without a privilege is said before, as a root that is no folder.
#[tokio::test]
async fn what_cannot_be_served_is_said_before() {
    let root = tempfile::NamedTempFile::new().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let entry = Registry::linked().find(NAME).unwrap();
    let config = json!({ "root_dir": root.path(), "host": "127.0.0.1", "port": port });
    let warnings: Vec<String> =
        (entry.warnings)(config).iter().map(|warning| warning.message.clone()).collect();
    let expected =
        [format!("{} is no folder", root.path().display()), format!("port {port} is in use")];
    assert_eq!(warnings, expected);
}
