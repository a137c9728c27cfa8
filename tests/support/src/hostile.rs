//! An exporter that answers what a test wants it to, however wrong: the wire by hand, for what a
//! real one never says.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response};
use jumpstarter_driver_core::Error;
use jumpstarter_protocol::labels::{CLIENT, INTERFACES, NAME};
use jumpstarter_protocol::v1::{DriverInstanceReport, GetReportResponse};
use jumpstarter_protocol::write_status;
use prost::Message;
use tokio::net::UnixListener;

/// What is answered to a call.
pub enum Answer {
    /// These bodies of messages, and this outcome.
    Messages(Vec<Bytes>, Result<(), Error>),
    /// These, and never an end.
    Open(Vec<Bytes>),
    /// Nothing, ever.
    Never,
}

impl Answer {
    /// One message.
    pub fn one(message: &impl Message) -> Self {
        Self::Messages(vec![message.encode_to_vec().into()], Ok(()))
    }

    /// An error.
    pub fn error(error: Error) -> Self {
        Self::Messages(Vec::new(), Err(error))
    }
}

/// A running one. Dropping it ends it.
pub struct Hostile {
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    /// Answers calls of a method, the last part of its path, at a Unix socket.
    pub fn serve(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::Builder::new().prefix("js").tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, answer.clone()));
            }
        });
        Self { folder, task }
    }

    /// Answers a report, and other calls with these.
    pub fn device(
        report: GetReportResponse,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::serve(
            move |method| if method == "GetReport" { Answer::one(&report) } else { answer(method) },
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }
}

async fn connection(
    stream: tokio::net::UnixStream,
    answer: Arc<impl Fn(&str) -> Answer + Send + Sync + 'static>,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_send_buffer_size(64 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let answer = answer(&method);
        tokio::spawn(async move {
            let (messages, status) = match answer {
                Answer::Never => return std::future::pending().await,
                Answer::Open(messages) => (messages, None),
                Answer::Messages(messages, status) => (messages, Some(status)),
            };
            let head =
                Response::builder().header("content-type", "application/grpc").body(()).unwrap();
            // The caller may be gone at any time.
            let Ok(mut body) = respond.send_response(head, false) else { return };
            for message in messages {
                let mut framed = BytesMut::with_capacity(5 + message.len());
                framed.put_u8(0);
                framed.put_u32(message.len() as u32);
                framed.put(message);
                if body.send_data(framed.freeze(), false).is_err() {
                    return;
                }
            }
            let Some(status) = status else { return std::future::pending().await };
            let mut trailers = HeaderMap::new();
            write_status(&mut trailers, status.as_ref().copied());
            drop(body.send_trailers(trailers));
        });
    }
}

/// A report of these drivers.
pub fn report(reports: Vec<DriverInstanceReport>) -> GetReportResponse {
    GetReportResponse { reports, ..GetReportResponse::default() }
}

/// A driver with a number for its uuid; the root has no parent.
pub fn driver(
    id: usize,
    parent: Option<usize>,
    name: &str,
    interfaces: &str,
) -> DriverInstanceReport {
    let labels = [
        (NAME.to_owned(), name.to_owned()),
        (INTERFACES.to_owned(), interfaces.to_owned()),
        (CLIENT.to_owned(), String::new()),
    ];
    DriverInstanceReport {
        uuid: id.to_string(),
        parent_uuid: parent.map(|parent| parent.to_string()),
        labels: HashMap::from(labels),
        ..DriverInstanceReport::default()
    }
}
