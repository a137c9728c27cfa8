//! A load generator: one figure of an exporter, ours or another that speaks the protocol. `cargo
//! xtask bench exporter` runs it.
//!
//! The exporter's file has a `power`, an `echo` and a `flasher`. The address is the path of a Unix
//! socket, or `HOST:PORT` without TLS. What it prints is one number.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a tool for measurements: it prints, or stops"
)]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes;
use jumpstarter_client::{ConnectOptions, connect};
use jumpstarter_protocol::v1::exporter_service_client::ExporterServiceClient;
use jumpstarter_protocol::v1::router_service_client::RouterServiceClient;
use jumpstarter_protocol::v1::{DriverCallRequest, FrameType, StreamRequest, StreamResponse};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Streaming};

const USAGE: &str = "usage: load ADDRESS calls COUNT FLIGHT: calls a second, so many in flight
       load ADDRESS echo BYTES: bytes a second there and back, in frames of 64 KiB
       load ADDRESS flash BYTES [ENCODING FILE]: bytes a second, decoded; BYTES is the decoded size of the file
       load ADDRESS hold echo|console|flash|dump: does it without end, and says `0.0` once it is well under way
       load - decode BYTES ENCODING FILE: bytes a second of the decoder alone, from memory
       load - pass COUNT: how often a second a byte goes to another thread and back, over a Unix socket";
/// Bytes in one message.
const FRAME: usize = 64 * 1024;
/// What may be on its way to this client before it reads.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_HTTP_FRAME: u32 = 256 * 1024;

/// One thread, as a client that waits for its answers has. More would only pass the work around.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect(USAGE);
    let figure = match words.as_slice() {
        [address, "calls", count, flight] => calls(address, number(count), number(flight)).await,
        [address, "echo", bytes] => echo(address, number(bytes)).await,
        [address, "flash", bytes] => flash(address, number(bytes), None).await,
        [address, "flash", bytes, encoding, file] => {
            flash(address, number(bytes), Some((encoding, Path::new(file)))).await
        }
        [address, "hold", what] => hold(address, what).await,
        [_, "pass", count] => pass(number(count)),
        [_, "decode", bytes, encoding, file] => {
            decode(number(bytes), encoding, Path::new(file)).await
        }
        _ => panic!("{USAGE}"),
    };
    println!("{figure:.1}");
}

/// A connection, and the drivers' ids by their names.
struct Exporter {
    channel: Channel,
    uuids: Vec<(String, String)>,
}

impl Exporter {
    async fn connect(address: &str) -> Self {
        let endpoint = match address.starts_with('/') {
            true => Endpoint::from_static("http://exporter"),
            false => Endpoint::from_shared(format!("http://{address}")).unwrap(),
        };
        let endpoint = endpoint
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_HTTP_FRAME);
        let path = PathBuf::from(address);
        let unix = tower::service_fn(move |_| {
            let path = path.clone();
            async move { tokio::net::UnixStream::connect(path).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = match address.starts_with('/') {
            true => endpoint.connect_with_connector(unix).await,
            false => endpoint.connect().await,
        };
        let channel = channel.unwrap();
        let report =
            ExporterServiceClient::new(channel.clone()).get_report(()).await.unwrap().into_inner();
        let named = |mut report: jumpstarter_protocol::v1::DriverInstanceReport| {
            Some((report.labels.remove("jumpstarter.dev/name")?, report.uuid))
        };
        Self { channel, uuids: report.reports.into_iter().filter_map(named).collect() }
    }

    fn uuid(&self, name: &str) -> String {
        self.uuids.iter().find(|(found, _)| found == name).unwrap().1.clone()
    }

    async fn open(
        &self,
        request: serde_json::Value,
    ) -> (mpsc::Sender<StreamRequest>, Response<Streaming<StreamResponse>>) {
        let (sender, receiver) = mpsc::channel(4);
        let mut call = Request::new(ReceiverStream::new(receiver));
        call.metadata_mut().insert("request", request.to_string().parse().unwrap());
        (sender, RouterServiceClient::new(self.channel.clone()).stream(call).await.unwrap())
    }
}

/// Through this project's client, as a test would.
async fn calls(address: &str, count: usize, flight: usize) -> f64 {
    let exporter = connect(&ConnectOptions::to(address).unwrap().insecure()).await.unwrap();
    let one = async || {
        for _ in 0..count / flight {
            exporter.device().call("power", "on", vec![]).await.unwrap();
        }
    };
    let start = Instant::now();
    futures_util::future::join_all((0..flight).map(|_| one())).await;
    count as f64 / start.elapsed().as_secs_f64()
}

/// Sends the bytes in frames, and the end mark.
async fn send(sender: mpsc::Sender<StreamRequest>, frames: impl Iterator<Item = Bytes>) {
    for payload in frames {
        sender.send(StreamRequest { payload, frame_type: FrameType::Data.into() }).await.unwrap();
    }
    let end = StreamRequest { payload: Bytes::new(), frame_type: FrameType::Goaway.into() };
    sender.send(end).await.unwrap();
}

/// That many bytes without a zero: nothing can be omitted.
fn full(bytes: usize) -> impl Iterator<Item = Bytes> {
    let frame = Bytes::from(vec![0xa5; FRAME]);
    std::iter::repeat_n(frame, bytes / FRAME)
}

fn pieces(file: Bytes) -> impl Iterator<Item = Bytes> {
    (0..file.len()).step_by(FRAME).map(move |at| file.slice(at..file.len().min(at + FRAME)))
}

fn rate(bytes: usize, start: Instant) -> f64 {
    bytes as f64 / start.elapsed().as_secs_f64()
}

async fn echo(address: &str, bytes: usize) -> f64 {
    let exporter = Exporter::connect(address).await;
    let request =
        serde_json::json!({"kind": "driver", "uuid": exporter.uuid("echo"), "method": "connect"});
    let (sender, answer) = exporter.open(request).await;
    let mut receiver = answer.into_inner();
    let start = Instant::now();
    let sending = tokio::spawn(send(sender, full(bytes)));
    let mut received = 0;
    while received < bytes / FRAME * FRAME {
        received += receiver.message().await.unwrap().unwrap().payload.len();
    }
    sending.await.unwrap();
    rate(received, start)
}

async fn flash(address: &str, bytes: usize, encoded: Option<(&str, &Path)>) -> f64 {
    let exporter = Exporter::connect(address).await;
    let uuid = exporter.uuid("flasher");
    let encoding = encoded.map(|(encoding, _)| encoding);
    let file = encoded.map(|(_, file)| Bytes::from(std::fs::read(file).unwrap()));
    let request =
        serde_json::json!({"kind": "resource", "uuid": uuid, "x_jmp_content_encoding": encoding});
    let (sender, answer) = exporter.open(request).await;
    let resource =
        serde_json::from_slice(answer.metadata().get("resource").unwrap().as_bytes()).unwrap();
    let start = Instant::now();
    let sending = match file {
        Some(file) => tokio::spawn(send(sender, pieces(file))),
        None => tokio::spawn(send(sender, full(bytes))),
    };
    let args = vec![jumpstarter_protocol::encode_value(&resource).unwrap()];
    let call = DriverCallRequest { uuid, method: "flash".into(), args };
    ExporterServiceClient::new(exporter.channel.clone()).driver_call(call).await.unwrap();
    let figure = rate(bytes, start);
    sending.await.unwrap();
    drop(answer);
    figure
}

/// Is in the middle of it until it is killed.
async fn hold(address: &str, what: &str) -> f64 {
    const UNDER_WAY: usize = 1 << 20;
    let exporter = Exporter::connect(address).await;
    let say = || {
        println!("0.0");
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
    };
    let (driver, request) = match what {
        "echo" | "console" => (what, serde_json::json!({"kind": "driver", "method": "connect"})),
        _ => ("flasher", serde_json::json!({"kind": "resource"})),
    };
    let mut request = request;
    request["uuid"] = exporter.uuid(driver).into();
    let uuid = exporter.uuid(driver);
    let (sender, answer) = exporter.open(request).await;
    let resource = answer
        .metadata()
        .get("resource")
        .map(|text| serde_json::from_slice(text.as_bytes()).unwrap());
    let mut receiver = answer.into_inner();
    let call = |method: &str| {
        let args = vec![jumpstarter_protocol::encode_value(resource.as_ref().unwrap()).unwrap()];
        let request = DriverCallRequest { uuid: uuid.clone(), method: method.into(), args };
        let mut client = ExporterServiceClient::new(exporter.channel.clone());
        async move { client.driver_call(request).await.unwrap() }
    };
    match what {
        "flash" => {
            let sending = async {
                for (number, payload) in full(usize::MAX).enumerate() {
                    if number == UNDER_WAY / FRAME {
                        say();
                        std::future::pending::<()>().await;
                    }
                    let data = StreamRequest { payload, frame_type: FrameType::Data.into() };
                    sender.send(data).await.unwrap();
                }
            };
            tokio::join!(call("flash"), sending);
        }
        "dump" => {
            let receiving = async {
                assert!(receiver.message().await.unwrap().is_some(), "something is dumped");
                say();
                std::future::pending::<()>().await;
            };
            tokio::join!(call("dump"), receiving);
        }
        _ => {
            let _sending = tokio::spawn(send(sender, full(usize::MAX)));
            let mut received = 0;
            loop {
                received += receiver.message().await.unwrap().unwrap().payload.len();
                if received >= UNDER_WAY {
                    say();
                    std::future::pending::<()>().await;
                }
            }
        }
    }
    unreachable!("it is killed")
}

/// What no exporter can be faster than: each way wakes somebody up who sleeps.
fn pass(count: usize) -> f64 {
    let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    let other = std::thread::spawn(move || {
        let mut byte = [0];
        while far.read(&mut byte).unwrap() > 0 {
            far.write_all(&byte).unwrap();
        }
    });
    let (start, mut byte) = (Instant::now(), [0]);
    for _ in 0..count {
        near.write_all(&byte).unwrap();
        near.read_exact(&mut byte).unwrap();
    }
    let figure = count as f64 / start.elapsed().as_secs_f64();
    drop(near);
    other.join().unwrap();
    figure
}

async fn decode(bytes: usize, encoding: &str, file: &Path) -> f64 {
    let file = std::fs::read(file).unwrap();
    let mut decoder: Box<dyn AsyncRead + Unpin> = match encoding {
        "gzip" => Box::new(GzipDecoder::new(file.as_slice())),
        "zstd" => Box::new(ZstdDecoder::new(file.as_slice())),
        _ => panic!("{USAGE}"),
    };
    let mut piece = vec![0; 4 * FRAME];
    let (start, mut decoded) = (Instant::now(), 0);
    loop {
        match decoder.read(&mut piece).await.unwrap() {
            0 => break,
            length => decoded += length,
        }
    }
    assert_eq!(decoded, bytes, "the file is not of that size once decoded");
    rate(decoded, start)
}
