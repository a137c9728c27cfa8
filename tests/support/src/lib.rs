//! What tests of several crates share: a served session and tonic's client for it, HTTP/2 by hand,
//! exporters that answer what none should, and peers of npm's registry.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    reason = "these are helpers of tests"
)]

pub mod hostile;
pub mod http2;
pub mod npm;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, Error};
use jumpstarter_exporter::{Access, Address, Listener, Session, SessionOptions, serve};
use jumpstarter_protocol::v1::exporter_service_client::ExporterServiceClient;
use jumpstarter_protocol::v1::router_service_client::RouterServiceClient;
use jumpstarter_protocol::v1::{
    DriverCallRequest, FrameType, GetReportResponse, StreamRequest, StreamResponse,
};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel as Transport;
use tonic::{Request, Status, Streaming};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// A session on a Unix socket.
pub struct Served {
    pub session: Session,
    pub folder: tempfile::TempDir,
    pub stop: CancellationToken,
    pub server: tokio::task::JoinHandle<Result<()>>,
}

pub async fn serve_file(text: &str) -> Served {
    let config = jumpstarter_config::ExporterConfig::parse(text, "test.yaml").unwrap();
    serve_device(config.open().await.unwrap()).await
}

pub async fn serve_device(device: Device) -> Served {
    serve_guarded(device, Access::default()).await
}

pub async fn serve_guarded(device: Device, access: Access) -> Served {
    let options = SessionOptions::default().stall_limit(Duration::from_secs(2));
    let session = Session::new(device, options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    let listener = Listener::bind(&address).await.unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(session.clone(), listener, access, stop.clone()));
    Served { session, folder, stop, server }
}

impl Served {
    /// Opens a separate connection; dropping the client closes it.
    pub async fn client(&self) -> Client {
        connect(&self.folder.path().join("socket")).await
    }

    pub async fn shut_down(self) {
        self.stop.cancel();
        self.session.shut_down();
        tokio::time::timeout(DEADLINE, self.server).await.unwrap().unwrap().unwrap();
        self.session.device().close().await.unwrap();
    }
}

/// The error that our client makes of a status.
pub fn error_of(status: &Status) -> Error {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    jumpstarter_protocol::read_status(&headers).unwrap().unwrap_err()
}

/// A connection without a call yet.
pub async fn transport(socket: &Path) -> Transport {
    let path = Arc::new(socket.to_owned());
    let endpoint = tonic::transport::Endpoint::from_static("http://exporter");
    let connect = move |_| {
        let path = path.clone();
        async move {
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                UnixStream::connect(&*path).await?,
            ))
        }
    };
    endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap()
}

pub async fn connect(socket: &Path) -> Client {
    let transport = transport(socket).await;
    let mut exporter = ExporterServiceClient::new(transport.clone());
    let report = exporter.get_report(()).await.unwrap().into_inner();
    Client { exporter, router: RouterServiceClient::new(transport), report }
}

pub struct Client {
    pub exporter: ExporterServiceClient<Transport>,
    pub router: RouterServiceClient<Transport>,
    pub report: GetReportResponse,
}

/// The two directions of a byte stream.
pub struct Stream {
    pub sender: tokio::sync::mpsc::Sender<StreamRequest>,
    pub receiver: Streaming<StreamResponse>,
    pub resource: Option<serde_json::Value>,
}

pub fn frame(payload: impl Into<bytes::Bytes>) -> StreamRequest {
    StreamRequest { payload: payload.into(), frame_type: FrameType::Data.into() }
}

pub fn end() -> StreamRequest {
    StreamRequest { payload: bytes::Bytes::new(), frame_type: FrameType::Goaway.into() }
}

impl Client {
    pub fn uuid(&self, name: &str) -> String {
        let named = |report: &&jumpstarter_protocol::v1::DriverInstanceReport| match name {
            "" => report.parent_uuid.is_none(),
            name => report.labels.get("jumpstarter.dev/name").is_some_and(|label| label == name),
        };
        self.report.reports.iter().find(named).unwrap().uuid.clone()
    }

    pub async fn call(
        &mut self,
        name: &str,
        method: &str,
        arguments: &[serde_json::Value],
    ) -> Result<serde_json::Value, Status> {
        let args = arguments
            .iter()
            .map(|value| jumpstarter_protocol::encode_value(value).unwrap())
            .collect();
        let request = DriverCallRequest { uuid: self.uuid(name), method: method.to_owned(), args };
        let call = tokio::time::timeout(DEADLINE, self.exporter.driver_call(request));
        let answer = call.await.expect("the call ends in time")?.into_inner();
        Ok(jumpstarter_protocol::decode_value(answer.result.unwrap()).unwrap())
    }

    pub async fn open(&mut self, request: &str) -> Result<Stream, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let outgoing = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut call = Request::new(outgoing);
        call.metadata_mut().insert("request", request.parse().unwrap());
        let answer = tokio::time::timeout(DEADLINE, self.router.stream(call))
            .await
            .expect("an answer in time")?;
        let resource = answer
            .metadata()
            .get("resource")
            .map(|text| serde_json::from_slice(text.as_bytes()).unwrap());
        Ok(Stream { sender, receiver: answer.into_inner(), resource })
    }

    pub async fn connect(&mut self, name: &str) -> Stream {
        let request =
            serde_json::json!({"kind": "driver", "uuid": self.uuid(name), "method": "connect"});
        self.open(&request.to_string()).await.unwrap()
    }

    pub async fn resource(&mut self, name: &str, encoding: Option<&str>) -> Stream {
        let request = serde_json::json!({
            "kind": "resource", "uuid": self.uuid(name), "x_jmp_content_encoding": encoding,
        });
        self.open(&request.to_string()).await.unwrap()
    }
}

impl Stream {
    /// The next frame, or the end; its own end mark counts as one.
    pub async fn receive(&mut self) -> Result<Option<bytes::Bytes>, Status> {
        let frame = tokio::time::timeout(DEADLINE, self.receiver.message())
            .await
            .expect("a frame in time")?;
        Ok(frame.filter(|frame| frame.frame_type() == FrameType::Data).map(|frame| frame.payload))
    }
}
