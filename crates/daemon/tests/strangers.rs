//! What strangers and clients may take: connections at a small `ulimit -n`, time, and memory. Real
//! processes.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jumpstarter_client::{ConnectOptions, connect};
use support::DEADLINE;

const EXPORT: &str = "
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
";

/// An exporter on a Unix socket and, with a passphrase, on TCP, with so many descriptors.
struct Exporter {
    child: Child,
    folder: tempfile::TempDir,
    tcp: String,
}

impl Exporter {
    #[expect(clippy::disallowed_methods, reason = "the test needs a process with a separate limit")]
    fn start(descriptors: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("exporter.yaml");
        std::fs::write(&file, EXPORT).unwrap();
        let tests = std::env::current_exe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        command.arg(tests.ancestors().nth(2).unwrap().join("examples/serve"));
        command.arg(&file).arg(folder.path().join("socket")).arg("right").stdin(Stdio::null());
        command.env("TMPDIR", folder.path()).env_remove("XDG_RUNTIME_DIR");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let tcp = line.trim().strip_prefix("ready tcp://").unwrap_or_default().to_owned();
        let exporter = Self { child, folder, tcp };
        assert!(!exporter.tcp.is_empty(), "{line:?}: {}", exporter.log());
        exporter
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The resident memory, in bytes.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// Switches the power over a separate connection, and returns the time that took.
    async fn honest(&self, unix: bool) -> Duration {
        let start = Instant::now();
        let options = match unix {
            true => ConnectOptions::new(jumpstarter_client::Address::Unix(self.socket())),
            false => ConnectOptions::new(self.tcp.parse().unwrap()).insecure().passphrase("right"),
        };
        let exporter =
            connect(&options).await.unwrap_or_else(|error| panic!("{error:?}\n{}", self.log()));
        exporter.device().call("power", "on", vec![]).await.unwrap();
        start.elapsed()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn strangers_with_idle_connections_lock_nobody_out_at_64_descriptors() {
    let exporter = Exporter::start(64);
    let mut strangers = Vec::new();
    for round in 0..5 {
        for number in 0..60 {
            let mut stranger = TcpStream::connect(&exporter.tcp).unwrap();
            // Silent ones, such that begin with HTTP/2, and such that only want TLS.
            let beginning: &[u8] =
                [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01"][number % 3];
            // It may have been ended by now.
            drop(stranger.write_all(beginning));
            strangers.push(stranger);
        }
        for unix in [false, true] {
            let took = exporter.honest(unix).await;
            assert!(took < Duration::from_secs(20), "round {round}, unix: {unix}: {took:?}");
        }
    }
    let log = exporter.log();
    assert!(!log.contains("could not be accepted"), "{log}");
    assert!(log.lines().count() < 200, "strangers fill the log: {} lines", log.lines().count());
    // Those that are left are few.
    let open = std::fs::read_dir(format!("/proc/{}/fd", exporter.child.id())).unwrap().count();
    assert!(open < 50, "{open} descriptors are open");
    drop(strangers);
}

/// What loops that connect from one address without a pause do with each connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loop {
    /// Close it at once.
    Close,
    /// Close it after the first answer.
    Greet,
    /// Wait until the exporter closes it.
    Wait,
    /// Leave it open, up to 200 of them.
    Leave,
}

impl Loop {
    fn run(self, address: &str, ended: &AtomicBool) {
        let mut left = VecDeque::new();
        while !ended.load(Ordering::Relaxed) {
            let Ok(mut stream) = TcpStream::connect(address) else { continue };
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            if self != Self::Close {
                // It may have been ended by now.
                drop(stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
                drop(stream.write_all(&support::http2::frame(4, 0, 0, &[])));
            }
            match self {
                Self::Close => {}
                Self::Greet => drop(stream.read(&mut [0; 64])),
                Self::Wait => while let Ok(1..) = stream.read(&mut [0; 64]) {},
                Self::Leave => left.push_back(stream),
            }
            if left.len() > 200 {
                left.pop_front();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_reconnect_without_a_pause_lock_nobody_of_their_address_out() {
    let exporter = Exporter::start(64);
    for kind in [Loop::Close, Loop::Greet, Loop::Wait, Loop::Leave] {
        let ended = Arc::new(AtomicBool::new(false));
        let loops: Vec<_> = (0..4)
            .map(|_| {
                let (address, ended) = (exporter.tcp.clone(), ended.clone());
                std::thread::spawn(move || kind.run(&address, &ended))
            })
            .collect();
        for _ in 0..5 {
            let took = exporter.honest(false).await;
            assert!(took < Duration::from_secs(20), "{kind:?}: {took:?}");
        }
        ended.store(true, Ordering::Relaxed);
        for each in loops {
            each.join().unwrap();
        }
    }
}

#[tokio::test]
async fn connections_without_a_call_end_after_half_a_minute() {
    let exporter = Exporter::start(256);
    let start = Instant::now();
    let mut stranger = TcpStream::connect(&exporter.tcp).unwrap();
    stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stranger.write_all(&support::http2::frame(4, 0, 0, &[])).unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        stranger.set_read_timeout(Some(DEADLINE)).unwrap();
        stranger.read_to_end(&mut Vec::new()).map(drop)
    });
    let options = ConnectOptions::new(exporter.tcp.parse().unwrap()).insecure().passphrase("right");
    let client = connect(&options).await.unwrap();
    drop(reading.await.unwrap());
    let took = start.elapsed();
    assert!(took > Duration::from_secs(25) && took < Duration::from_secs(45), "{took:?}");
    client.device().call("power", "on", vec![]).await.unwrap();
    let start = Instant::now();
    while !exporter.log().contains("no call was admitted within 30 s") {
        assert!(start.elapsed() < DEADLINE, "{}", exporter.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The beginning of a message: its prefix, and so many of its bytes.
fn unfinished(length: u32, sent: usize) -> bytes::Bytes {
    let mut bytes = vec![0x0a; sent + 5];
    bytes[0] = 0;
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_take_no_more_than_the_budget() {
    let exporter = Exporter::start(256);
    let before = exporter.resident();
    let options = ConnectOptions::new(jumpstarter_client::Address::Unix(exporter.socket()));
    let client = connect(&options).await.unwrap();
    let uuid = uuid_of_echo(&exporter).await;
    let socket = tokio::net::UnixStream::connect(exporter.socket()).await.unwrap();
    let (requests, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request =
        serde_json::json!({"kind": "driver", "uuid": uuid, "method": "connect"}).to_string();
    let mut streams = Vec::new();
    for _ in 0..80 {
        let head = http::Request::post("http://exporter/jumpstarter.v1.RouterService/Stream")
            .header("content-type", "application/grpc")
            .header("request", &request)
            .body(())
            .unwrap();
        let mut requests = requests.clone().ready().await.unwrap();
        let (answer, mut sending) = requests.send_request(head, false).unwrap();
        let body = unfinished(16 << 20, (16 << 20) - 100);
        streams.push(tokio::spawn(async move {
            let mut outgoing = body;
            let answer = answer.await;
            while !outgoing.is_empty() {
                sending.reserve_capacity(outgoing.len());
                let room = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { return };
                let piece = outgoing.split_to(room.min(outgoing.len()));
                if sending.send_data(piece, false).is_err() {
                    return;
                }
            }
            std::future::pending::<()>().await;
            drop(answer);
        }));
    }
    let (mut most, mut rounds, start) = (0, 0, Instant::now());
    // On a busy machine it takes longer until as much has come.
    while rounds < 40 || (most <= 30 << 20 && start.elapsed() < DEADLINE) {
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.device().call("power", "on", vec![]).await.unwrap();
        most = most.max(exporter.resident().saturating_sub(before));
    }
    // Half of the budget for messages, half for what was not read, and what is in between.
    assert!(most < 200 << 20, "{} MiB", most >> 20);
    assert!(most > 30 << 20, "{} MiB: nothing was sent", most >> 20);
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn uuid_of_echo(exporter: &Exporter) -> String {
    let client = support::connect(&exporter.socket()).await;
    client.uuid("echo")
}

#[tokio::test]
async fn refused_passphrases_are_logged_in_the_words_that_operators_know_and_never_themselves() {
    const LINE: &str = "authentication failed: invalid or missing passphrase for method /jumpstarter.v1.ExporterService/GetReport";
    let exporter = Exporter::start(256);
    let without = ConnectOptions::new(exporter.tcp.parse().unwrap()).insecure();
    for (count, options) in [(1, without.clone()), (2, without.passphrase("almost-right"))] {
        connect(&options).await.unwrap_err();
        // The log has a separate thread.
        let start = Instant::now();
        let log = loop {
            let log = exporter.log();
            if log.matches(LINE).count() >= count {
                break log;
            }
            assert!(start.elapsed() < DEADLINE, "{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let lines: Vec<_> = log.lines().filter(|line| line.contains(LINE)).collect();
        assert!(
            lines.len() == count && lines.iter().all(|line| line.contains("127.0.0.1")),
            "{log}"
        );
        assert!(!log.contains("almost-right"), "{log}");
    }
    // A method's name is the client's own text: it is one line, and short.
    let mut raw = TcpStream::connect(&exporter.tcp).unwrap();
    let block = support::http2::block(&format!("/{}", "x".repeat(110)), &[]);
    raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    raw.write_all(&support::http2::frame(4, 0, 0, &[])).unwrap();
    raw.write_all(&support::http2::frame(1, 5, 1, &block)).unwrap();
    let start = Instant::now();
    while !exporter.log().contains("for method /xxx") {
        assert!(start.elapsed() < DEADLINE, "{}", exporter.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
