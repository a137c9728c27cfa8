//! What clients do wrong, and what goes wrong under them: a clear status, and an exporter that goes
//! on.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, ErrorKind};
use jumpstarter_driver_testkit::{eventually, eventually_some};
use jumpstarter_protocol::v1::{
    DriverCallRequest, ExporterStatus, ResetRequest, StreamingDriverCallRequest,
};
use jumpstarter_test_support::{Served, end, error_of, frame, serve_device, serve_file};
use serde_json::json;
use tokio::sync::Notify;
use tonic::{Code, Status};

use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;

const FILE: &str = "
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
";

/// The code of a status, and the kind of the error that our client makes of it.
fn kind(status: &Status) -> (Code, ErrorKind) {
    (status.code(), error_of(status).kind())
}

/// A driver whose errors have the kinds that clients in Python take for something else.
struct Unlucky;

impl Driver for Unlucky {
    interfaces!(Power, Network);
}

#[async_trait]
impl Power for Unlucky {
    async fn on(&self) -> Result<()> {
        Err(Error::not_found("no such outlet"))
    }
    async fn off(&self) -> Result<()> {
        Err(Error::failed_precondition("the outlet is locked").with_hint("unlock it"))
    }
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        let reading = Err(Error::not_found("no such sensor"));
        Ok(Box::pin(futures_util::stream::iter([reading])))
    }
}

#[async_trait]
impl Network for Unlucky {
    async fn connect(&self) -> Result<Channel> {
        Err(Error::failed_precondition("the network is down"))
    }
}

#[tokio::test]
async fn a_drivers_errors_are_no_refusals_to_clients_in_python_and_keep_their_kinds_for_ours() {
    let served = serve_device(Device::of_driver(Unlucky)).await;
    let mut client = served.client().await;
    let status = client.call("", "on", &[]).await.unwrap_err();
    assert_eq!(kind(&status), (Code::Unknown, ErrorKind::NotFound), "{status:?}");
    let status = client.call("", "off", &[]).await.unwrap_err();
    assert_eq!(kind(&status), (Code::Unknown, ErrorKind::FailedPrecondition), "{status:?}");
    let request =
        StreamingDriverCallRequest { uuid: client.uuid(""), method: "read".into(), args: vec![] };
    let mut values = client.exporter.streaming_driver_call(request).await.unwrap().into_inner();
    let status = values.message().await.unwrap_err();
    assert_eq!(kind(&status), (Code::Unknown, ErrorKind::NotFound), "{status:?}");
    let status = client.connect("").await.receive().await.unwrap_err();
    assert_eq!(kind(&status), (Code::Unknown, ErrorKind::FailedPrecondition), "{status:?}");

    let status = client.call("", "explode", &[]).await.unwrap_err();
    assert_eq!(kind(&status), (Code::NotFound, ErrorKind::NotFound), "{status:?}");

    let address = served.folder.path().join("socket");
    let options =
        jumpstarter_client::ConnectOptions::new(jumpstarter_client::Address::Unix(address));
    let exporter = jumpstarter_client::connect(&options).await.unwrap();
    let error = exporter.device().call("", "off", vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.report().ends_with("hint: unlock it"), "{error:?}");
    let error = exporter.device().call("", "on", vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    drop((client, exporter, values));
    served.shut_down().await;
}

#[tokio::test]
async fn malformed_requests_get_a_clear_status() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let unknown = DriverCallRequest { uuid: "nobody".into(), method: "on".into(), args: vec![] };
    let status = client.exporter.driver_call(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert!(status.message().contains("`nobody`"), "{status:?}");

    for (method, arguments, code) in [
        ("explode", vec![], Code::NotFound),
        ("read", vec![], Code::Unimplemented),
        ("on", vec![json!(1), json!({"a": [2]})], Code::InvalidArgument),
    ] {
        let status = client.call("power", method, &arguments).await.unwrap_err();
        assert_eq!(status.code(), code, "{method}: {status:?}");
    }
    for image in [
        json!("file"),
        json!(7),
        json!({"kind": "other"}),
        json!({"kind": "client_stream", "uuid": 1}),
        json!(null),
    ] {
        let status =
            client.call("flasher", "flash", std::slice::from_ref(&image)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{image}: {status:?}");
    }
    for request in [
        "",
        "{",
        "[]",
        r#"{"kind":"driver"}"#,
        r#"{"kind":"resource","uuid":"x","x_jmp_content_encoding":"rot13"}"#,
    ] {
        let status = client.open(request).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{request}: {status:?}");
    }
    let mut stream =
        client.open(r#"{"kind":"driver","uuid":"x","method":"connect"}"#).await.unwrap();
    assert_eq!(stream.receive().await.unwrap_err().code(), Code::NotFound);

    let huge = jumpstarter_protocol::encode_value(&json!("x".repeat(100 << 20))).unwrap();
    let request =
        DriverCallRequest { uuid: client.uuid("power"), method: "on".into(), args: vec![huge] };
    let status = client.exporter.driver_call(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");

    let mut next = served.client().await;
    next.call("power", "on", &[]).await.unwrap();
    next.exporter.reset(ResetRequest {}).await.unwrap();
    drop((client, next));
    served.shut_down().await;
}

#[tokio::test]
async fn a_resource_is_used_once_by_its_driver_while_its_stream_is_open() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let mut stream = client.resource("flasher", None).await;
    let resource = stream.resource.clone().unwrap();
    stream.sender.send(frame("firmware")).await.unwrap();
    stream.sender.send(end()).await.unwrap();
    client.call("flasher", "flash", std::slice::from_ref(&resource)).await.unwrap();
    assert_eq!(stream.receive().await.unwrap(), None, "the stream ends when the driver is done");
    let status = client.call("flasher", "flash", &[resource]).await.unwrap_err();
    assert_eq!(kind(&status), (Code::Unknown, ErrorKind::NotFound), "{status:?}");

    let unused = client.resource("flasher", None).await;
    let resource = unused.resource.clone().unwrap();
    drop(unused);
    eventually_some("the resource ends with its stream", async || {
        let call = client.call("flasher", "flash", std::slice::from_ref(&resource));
        let status = call.await.unwrap_err();
        (kind(&status).1 == ErrorKind::NotFound).then_some(())
    })
    .await;

    // A call that is refused before it reaches its driver leaves the resource for the next one.
    let mut stream = client.resource("flasher", None).await;
    let resource = stream.resource.clone().unwrap();
    stream.sender.send(frame("firmware")).await.unwrap();
    stream.sender.send(end()).await.unwrap();
    let status =
        client.call("flasher", "explode", std::slice::from_ref(&resource)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    served.session.state().set(ExporterStatus::BeforeLeaseHookFailed, "");
    let status =
        client.call("flasher", "flash", std::slice::from_ref(&resource)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    served.session.state().set(ExporterStatus::LeaseReady, "");
    client.call("flasher", "flash", std::slice::from_ref(&resource)).await.unwrap();
    assert_eq!(stream.receive().await.unwrap(), None);

    let foreign = client.resource("power", None).await;
    let status =
        client.call("flasher", "flash", &[foreign.resource.clone().unwrap()]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    drop((client, foreign, stream));
    served.shut_down().await;
}

#[tokio::test]
async fn resources_that_no_call_names_are_few_and_do_not_last() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let mut unused = Vec::new();
    let request = json!({"kind": "resource", "uuid": client.uuid("flasher")}).to_string();
    // On a busy machine the first ones end before the last ones are open.
    let status = loop {
        match client.open(&request).await {
            Ok(stream) => unused.push(stream),
            Err(status) => break status,
        }
        assert!(unused.len() < 320, "none is one too many");
    };
    assert!(unused.len() >= 32, "{}", unused.len());
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let mut other = served.client().await;
    drop(other.resource("flasher", None).await);
    for mut stream in unused {
        assert_eq!(stream.receive().await.unwrap_err().code(), Code::DeadlineExceeded);
    }
    drop(client.open(&request).await.unwrap());
    drop((client, other));
    served.shut_down().await;
}

#[tokio::test]
async fn broken_sources_are_errors_and_the_old_image_stays() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let mut stream = client.resource("flasher", None).await;
    stream.sender.send(frame("the old image")).await.unwrap();
    stream.sender.send(end()).await.unwrap();
    client.call("flasher", "flash", &[stream.resource.take().unwrap()]).await.unwrap();

    // Cut without an end mark; silent for too long; not what its encoding says.
    for (encoding, closes, code) in [
        (None, true, Code::DataLoss),
        (None, false, Code::DeadlineExceeded),
        (Some("xz"), true, Code::DataLoss),
    ] {
        let mut stream = client.resource("flasher", encoding).await;
        stream.sender.send(frame("half of a new ima")).await.unwrap();
        let resource = stream.resource.take().unwrap();
        let (sender, receiver) = (stream.sender, stream.receiver);
        let sender = if closes {
            drop(sender);
            None
        } else {
            Some(sender)
        };
        let status = client.call("flasher", "flash", &[resource]).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        drop((sender, receiver));
    }

    let mut stream = client.resource("flasher", None).await;
    let resource = stream.resource.take().unwrap();
    client.call("flasher", "dump", &[resource]).await.unwrap();
    assert_eq!(stream.receive().await.unwrap().as_deref(), Some(&b"the old image"[..]));
    drop((client, stream));
    served.shut_down().await;
}

/// A driver with every kind of panic.
struct Panics;

impl Driver for Panics {
    interfaces!(Power, Network);
}

#[async_trait]
impl Power for Panics {
    async fn on(&self) -> Result<()> {
        panic!("smoke")
    }
    async fn off(&self) -> Result<()> {
        Ok(())
    }
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        Ok(Box::pin(futures_util::stream::poll_fn(|_| panic!("sparks"))))
    }
}

#[async_trait]
impl Network for Panics {
    async fn connect(&self) -> Result<Channel> {
        panic!("fire")
    }
}

#[tokio::test]
async fn a_panicking_driver_fails_its_call_only() {
    let served = serve_device(Device::of_driver(Panics)).await;
    let mut client = served.client().await;
    for _ in 0..2 {
        let status = client.call("", "on", &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("the driver panicked: smoke"), "{status:?}");
        let request = StreamingDriverCallRequest {
            uuid: client.uuid(""),
            method: "read".into(),
            args: vec![],
        };
        let mut values = client.exporter.streaming_driver_call(request).await.unwrap().into_inner();
        assert_eq!(values.message().await.unwrap_err().code(), Code::Internal);
        let status = client.connect("").await.receive().await.unwrap_err();
        assert_eq!(
            (status.code(), status.message().contains("fire")),
            (Code::Internal, true),
            "{status:?}"
        );
    }
    drop(client);
    served.shut_down().await;
}

/// A driver whose connections panic: in reading, or in writing.
struct PanickingConnection {
    in_reading: bool,
}

impl Driver for PanickingConnection {
    interfaces!(Network);
}

#[async_trait]
impl Network for PanickingConnection {
    async fn connect(&self) -> Result<Channel> {
        let in_reading = self.in_reading;
        let reading = futures_util::stream::poll_fn(move |_| match in_reading {
            true => panic!("a short circuit"),
            false => std::task::Poll::Pending,
        });
        let writing = futures_util::sink::unfold((), |(), _: bytes::Bytes| async {
            panic!("a short circuit")
        });
        Ok(Channel::from_parts(jumpstarter_driver_core::Framing::Bytes, reading, writing))
    }
}

#[tokio::test]
async fn a_panicking_connection_fails_its_stream_only() {
    for in_reading in [true, false] {
        let served = serve_device(Device::of_driver(PanickingConnection { in_reading })).await;
        let mut client = served.client().await;
        for _ in 0..2 {
            let mut stream = client.connect("").await;
            // It may have failed already.
            drop(stream.sender.send(frame("x")).await);
            let status = stream.receive().await.unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{status:?}");
            assert!(
                status.message().contains("the driver panicked: a short circuit"),
                "{status:?}"
            );
        }
        drop(client);
        served.shut_down().await;
    }
}

/// A driver that panics when it is reset.
struct PanickingReset;

#[async_trait]
impl Driver for PanickingReset {
    async fn reset(&self) -> Result<()> {
        panic!("stuck")
    }
}

#[tokio::test]
async fn a_panicking_reset_is_an_error() {
    let served = serve_device(Device::of_driver(PanickingReset)).await;
    let mut client = served.client().await;
    for _ in 0..2 {
        let status = client.exporter.reset(ResetRequest {}).await.unwrap_err();
        assert_eq!(
            (status.code(), status.message().contains("stuck")),
            (Code::Internal, true),
            "{status:?}"
        );
    }
    drop(client);
    served.shut_down().await;
}

/// Notifies of each call of `off`, which never ends.
#[derive(Debug, Default)]
struct Hanging(Arc<Notify>);

impl Driver for Hanging {
    interfaces!(Power);
}

#[async_trait]
impl Power for Hanging {
    async fn on(&self) -> Result<()> {
        Ok(())
    }
    async fn off(&self) -> Result<()> {
        self.0.notify_one();
        std::future::pending().await
    }
    async fn read(&self) -> Result<ValueStream<PowerReading>> {
        Err(Error::unimplemented("there is no meter"))
    }
}

#[tokio::test]
async fn a_shutdown_ends_what_runs_with_a_clear_status() {
    let hanging = Hanging::default();
    let reached = hanging.0.clone();
    let served = serve_device(Device::of_driver(hanging)).await;
    let mut client = served.client().await;
    let mut logs = client.exporter.log_stream(()).await.unwrap().into_inner();
    let session = served.session.clone();
    let call = async {
        let status = client.call("", "off", &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(status.message(), "the exporter is shutting down");
    };
    let shut_down = async {
        reached.notified().await;
        session.shut_down();
    };
    tokio::join!(call, shut_down);
    assert!(logs.message().await.unwrap().is_none());
    drop((client, logs));
    served.shut_down().await;
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn killed_in_the_middle(served: &Served, round: usize) {
    let mut client = served.client().await;
    let mut echo = client.connect("echo").await;
    echo.sender.send(frame(vec![7; 100_000])).await.unwrap();
    assert!(echo.receive().await.unwrap().is_some());
    let mut image = client.resource("flasher", [None, Some("zstd")][round % 2]).await;
    let resource = image.resource.take().unwrap();
    image.sender.send(frame(vec![0; 100_000])).await.unwrap();
    // The call runs, and waits for more of the image, when its client disappears.
    let arguments = [resource];
    let call = client.call("flasher", "flash", &arguments);
    drop(tokio::time::timeout(Duration::from_millis(20), call).await);
}

#[tokio::test]
async fn clients_that_disappear_leave_nothing() {
    let served = serve_file(FILE).await;
    killed_in_the_middle(&served, 0).await;
    let before = descriptors();
    for round in 0..100 {
        killed_in_the_middle(&served, round).await;
    }
    eventually("as few descriptors as before", || descriptors() <= before).await;
    let mut client = served.client().await;
    client.call("power", "on", &[]).await.unwrap();
    drop(client);
    served.shut_down().await;
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer() {
    let served = serve_file(FILE).await;
    let mut client = served.client().await;
    let mut echo = client.connect("echo").await;
    // Nobody reads what comes back: what fits between here and there is bounded.
    let mut sent = 0u64;
    let chunk = bytes::Bytes::from(vec![1; 65536]);
    while tokio::time::timeout(Duration::from_secs(2), echo.sender.send(frame(chunk.clone())))
        .await
        .is_ok()
    {
        sent += chunk.len() as u64;
        assert!(sent < 64 << 20, "{sent} bytes went nowhere");
    }
    let sender = echo.sender.clone();
    let finish = tokio::spawn(async move { sender.send(end()).await });
    let mut received = 0u64;
    while let Some(payload) = echo.receive().await.unwrap() {
        received += payload.len() as u64;
    }
    assert_eq!(received, sent, "half-close: everything that was sent comes back before the end");
    finish.await.unwrap().unwrap();
    drop((client, echo));
    served.shut_down().await;
}
