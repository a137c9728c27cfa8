//! What the server makes of calls that no ordinary client sends, and of a client's deadlines.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_protocol::encode;
use jumpstarter_protocol::v1::DriverCallRequest;
use jumpstarter_test_support::http2::{
    Connection, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, field, frame,
};
use jumpstarter_test_support::{DEADLINE, Served, serve_device, serve_file};
use tokio::net::UnixStream;
use tokio::sync::watch;

use jumpstarter_driver_power as _;

const GRPC: &str = "application/grpc";
const GET_REPORT: &str = "/jumpstarter.v1.ExporterService/GetReport";
const POWER: &str = "export: {power: {type: jumpstarter_driver_power.driver.MockPower}}";

/// A connection of HTTP/2 alone.
struct Raw(h2::client::SendRequest<Bytes>);

impl Raw {
    async fn connect(served: &Served) -> Self {
        let socket = UnixStream::connect(served.folder.path().join("socket")).await.unwrap();
        let (requests, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Self(requests)
    }

    /// Sends a request with that body, and waits for all of the answer: its head, its length, its
    /// trailers.
    async fn ask(&mut self, request: Request<()>, body: &[u8]) -> (Response<()>, usize, HeaderMap) {
        let asking = async {
            let (answer, mut sending) = self.0.send_request(request, false).unwrap();
            // A call that is refused may have ended by now.
            drop(sending.send_data(Bytes::copy_from_slice(body), true));
            let (head, mut body) = answer.await.unwrap().into_parts();
            let mut length = 0;
            while let Some(data) = body.data().await {
                length += data.unwrap().len();
            }
            let trailers = body.trailers().await.unwrap().unwrap_or_default();
            (Response::from_parts(head, ()), length, trailers)
        };
        tokio::time::timeout(DEADLINE, asking).await.unwrap()
    }

    /// The status of a call without an answer.
    async fn refusal(&mut self, path: &str, body: &[u8]) -> (u32, String) {
        let (head, length, _) = self.ask(request(path, GRPC), body).await;
        assert_eq!((head.status(), length), (StatusCode::OK, 0), "{path}");
        status(head.headers())
    }
}

fn request(path: &str, kind: &str) -> Request<()> {
    Request::post(format!("http://exporter{path}")).header("content-type", kind).body(()).unwrap()
}

fn status(headers: &HeaderMap) -> (u32, String) {
    let text =
        |name| headers.get(name).map_or("", |value: &http::HeaderValue| value.to_str().unwrap());
    (text("grpc-status").parse().unwrap(), text("grpc-message").replace("%20", " "))
}

#[tokio::test]
async fn what_is_no_call_of_this_protocol_is_refused_and_the_connection_goes_on() {
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    let served = serve_file(POWER).await;
    let mut raw = Raw::connect(&served).await;
    for path in [
        "/",
        "/jumpstarter.v1.ExporterService/Explode",
        "/jumpstarter.v1.ControllerService/Register",
    ] {
        let expected = format!("this exporter has no method {path}");
        assert_eq!(raw.refusal(path, &[0; 5]).await, (UNIMPLEMENTED, expected));
    }
    let cases: [(&[u8], u32, &str); 5] = [
        (&[1, 0, 0, 0, 0], INTERNAL, "a message is compressed without a named encoding"),
        (&[], INTERNAL, "the request has no message"),
        (&[0; 10], INTERNAL, "the request has several messages"),
        (&[0, 0, 0], INTERNAL, "a message was cut off"),
        (&[0, 0, 0, 0, 1, 0x0f], INTERNAL, "a message cannot be read"),
    ];
    for (body, code, expected) in cases {
        let (found, message) = raw.refusal(GET_REPORT, body).await;
        assert!(found == code && message.starts_with(expected), "{body:?}: {found} {message}");
    }
    let get = Request::get(format!("http://exporter{GET_REPORT}"))
        .header("content-type", GRPC)
        .body(())
        .unwrap();
    for wrong in [get, request(GET_REPORT, "text/html")] {
        let (head, length, _) = raw.ask(wrong, &[0; 5]).await;
        assert_eq!((head.status(), length), (StatusCode::UNSUPPORTED_MEDIA_TYPE, 0));
    }
    let (head, length, trailers) =
        raw.ask(request(GET_REPORT, "application/grpc+proto"), &[0; 5]).await;
    assert!(
        head.status() == StatusCode::OK && head.headers()["content-type"] == GRPC && length > 100
    );
    assert_eq!(status(&trailers).0, 0, "the connection goes on");
    served.shut_down().await;
}

#[tokio::test]
async fn compressed_messages_are_understood_within_the_same_bounds() {
    const RESOURCE_EXHAUSTED: u32 = 8;
    const UNIMPLEMENTED: u32 = 12;
    const INTERNAL: u32 = 13;
    let served = serve_file(POWER).await;
    let client = served.client().await;
    let mut raw = Raw::connect(&served).await;
    let path = "/jumpstarter.v1.ExporterService/DriverCall";
    let compressed = |encoding: &str, method: String| {
        let call = DriverCallRequest { uuid: client.uuid("power"), method, args: Vec::new() };
        let message = encode(&call).unwrap().slice(5..);
        let level = flate2::Compression::default();
        let mut out = Vec::new();
        let read = match encoding {
            "gzip" => flate2::bufread::GzEncoder::new(&*message, level).read_to_end(&mut out),
            _ => flate2::bufread::ZlibEncoder::new(&*message, level).read_to_end(&mut out),
        };
        let length = u32::try_from(read.unwrap()).unwrap();
        [&[1][..], &length.to_be_bytes(), &out].concat()
    };
    let ask = |encoding: &str| {
        let mut request = request(path, GRPC);
        request.headers_mut().insert("grpc-encoding", encoding.parse().unwrap());
        request
    };
    for encoding in ["gzip", "deflate"] {
        let (_, _, trailers) = raw.ask(ask(encoding), &compressed(encoding, "on".to_owned())).await;
        assert_eq!(status(&trailers).0, 0, "{encoding}");
        // Four megabytes and a little that travel as a few kilobytes.
        let bomb = compressed(encoding, "x".repeat(4 << 20));
        let mut cut = compressed(encoding, "on".to_owned());
        let shorter = cut.len() - 10;
        cut.truncate(shorter);
        cut[4] -= 10;
        for (body, code) in [(bomb, RESOURCE_EXHAUSTED), (cut, INTERNAL)] {
            let (head, _, _) = raw.ask(ask(encoding), &body).await;
            assert_eq!(status(head.headers()).0, code, "{encoding}");
        }
    }
    let (head, _, _) = raw.ask(ask("snappy"), &[0; 5]).await;
    assert_eq!(status(head.headers()).0, UNIMPLEMENTED);
    assert_eq!(head.headers()["grpc-accept-encoding"], "identity,deflate,gzip");
    drop((client, raw));
    served.shut_down().await;
}

/// Its `on` lasts until it is given up.
struct Slow(Arc<watch::Sender<i32>>);

struct Running(Arc<watch::Sender<i32>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

impl Driver for Slow {
    interfaces!(Power);
}

#[async_trait]
impl Power for Slow {
    async fn on(&self) -> Result<()> {
        self.0.send_modify(|running| *running += 1);
        let _running = Running(self.0.clone());
        std::future::pending().await
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_call_ends_at_its_clients_deadline_or_with_its_clients_connection() {
    const DEADLINE_EXCEEDED: u32 = 4;
    let running = Arc::new(watch::channel(0).0);
    let served = serve_device(Device::of_driver(Slow(running.clone()))).await;
    let client = served.client().await;
    let call = DriverCallRequest { uuid: client.uuid(""), method: "on".into(), args: Vec::new() };
    let body = encode(&call).unwrap();
    let path = "/jumpstarter.v1.ExporterService/DriverCall";
    let mut raw = Raw::connect(&served).await;
    let mut hurried = request(path, GRPC);
    hurried.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let (head, _, _) = raw.ask(hurried, &body).await;
    assert_eq!(status(head.headers()).0, DEADLINE_EXCEEDED);
    let mut watch = running.subscribe();
    let none = async |watch: &mut watch::Receiver<i32>| {
        let waiting = watch.wait_for(|running| *running == 0);
        drop(tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap());
    };
    none(&mut watch).await;

    let unlimited =
        tokio::time::timeout(Duration::from_secs(60), raw.ask(request(path, GRPC), &body));
    tokio::select! {
        _ = unlimited => panic!("nobody ends it"),
        begun = watch.wait_for(|running| *running == 1) => drop(begun.unwrap()),
    }
    drop(raw);
    none(&mut watch).await;
    drop(client);
    served.shut_down().await;
}

#[tokio::test]
async fn an_idle_client_does_not_hold_up_the_end() {
    let served = serve_file(POWER).await;
    let mut raw = Raw::connect(&served).await;
    raw.ask(request(GET_REPORT, GRPC), &[0; 5]).await;
    served.shut_down().await;
    assert!(
        std::future::poll_fn(|cx| raw.0.poll_ready(cx)).await.is_err(),
        "the connection has ended"
    );
}

/// What a library would send one by one, at once.
#[tokio::test]
async fn many_calls_that_are_given_up_at_once_end_no_other() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let served = serve_file(POWER).await;
    let mut connection = Connection::open(&served).await;
    let block = block(GET_REPORT, &field(":authority", "exporter"));
    let mut sent = Vec::new();
    for stream in (1..1001).step_by(2) {
        sent.extend(frame(HEADERS, END_HEADERS, stream, &block));
        sent.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    sent.extend(frame(HEADERS, END_HEADERS, 1001, &block));
    sent.extend(frame(DATA, END_STREAM, 1001, &[0; 5]));
    connection.send(&sent).await;
    connection.next_of(HEADERS, 1001).await;
    drop(connection);
    served.shut_down().await;
}

/// Their clients have more on its way, and go on with other calls.
#[tokio::test]
async fn calls_that_are_refused_while_more_comes_end_no_other_however_many() {
    let served = serve_file(POWER).await;
    let mut connection = Connection::open(&served).await;
    let authority = field(":authority", "exporter");
    let refused = block("/nowhere", &authority);
    let mut stream = 1;
    for _ in 0..3000 {
        connection.send(&frame(HEADERS, END_HEADERS, stream, &refused)).await;
        connection.next_of(HEADERS, stream).await;
        connection.send(&frame(DATA, 0, stream, &[0; 5])).await;
        stream += 2;
    }
    let report = block(GET_REPORT, &authority);
    connection.send(&frame(HEADERS, END_HEADERS, stream, &report)).await;
    connection.send(&frame(DATA, END_STREAM, stream, &[0; 5])).await;
    connection.next_of(HEADERS, stream).await;
    drop(connection);
    served.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn half_of_a_request_and_half_of_its_headers_are_not_waited_for_for_ever() {
    let served = serve_file(POWER).await;
    let report = block(GET_REPORT, &field(":authority", "exporter"));
    let mut connection = Connection::open(&served).await;
    connection.send(&frame(HEADERS, END_HEADERS, 1, &report)).await;
    connection.send(&frame(DATA, 0, 1, &[0, 0, 0])).await;
    let start = tokio::time::Instant::now();
    let answer = connection.next_of(HEADERS, 1).await;
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(start.elapsed() >= Duration::from_secs(29), "{:?}: {text}", start.elapsed());
    // It has made a call: it may be idle, but not in the middle of headers.
    tokio::time::sleep(Duration::from_secs(300)).await;
    connection.send(&frame(HEADERS, END_HEADERS, 3, &report)).await;
    connection.send(&frame(DATA, END_STREAM, 3, &[0; 5])).await;
    connection.next_of(HEADERS, 3).await;
    connection.send(&frame(HEADERS, 0, 5, &report[..7])).await;
    let start = tokio::time::Instant::now();
    connection.flood(&[], 0).await;
    assert!(
        start.elapsed() >= Duration::from_secs(29) && start.elapsed() < Duration::from_secs(35)
    );
    served.shut_down().await;
}
