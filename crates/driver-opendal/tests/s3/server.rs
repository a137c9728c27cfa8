//! A server of buckets that others wrote, s3s with its folders: it computes each signature. It
//! fails on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Its only user.
pub(crate) const USER: &str = "AKIALAB";
/// That user's secret key.
pub(crate) const SECRET: &str = "a secret/key+of the lab";

/// What happens to a request in place of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is refused with this status.
    Status(u16),
    /// Its connection breaks before the answer.
    NoAnswer,
    /// Its connection breaks within the body of the answer.
    HalfAnswer,
}

type Failure = std::io::Error;
type Answer = Response<UnsyncBoxBody<Bytes, Failure>>;

/// What the test and the connections know.
#[derive(Default)]
struct Shared {
    faults: Mutex<VecDeque<Fault>>,
    /// The methods and targets of all requests.
    asked: Mutex<Vec<String>>,
}

/// A server with the bucket `lab`; it ends with this value.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    endpoint: String,
    _connections: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lab")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(USER, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let (service, shared) = (service.clone(), seen.clone());
                let answer = service_fn(move |request| {
                    let (service, shared) = (service.clone(), shared.clone());
                    async move { shared.answer(&service, request).await }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(connection), answer);
                open.spawn(async move { drop(connection.await) });
            }
        });
        Self { folder, shared, endpoint, _connections: connections }
    }

    /// The settings of an `opendal` for its bucket.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "bucket": "lab",
            "root": "boards/a",
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": USER,
            "secret_access_key": SECRET,
        })
    }

    /// What happens to the next requests, in their order.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// The requests since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// Where a file of the bucket is on the disk.
    pub(crate) fn stored(&self, path: &str) -> std::path::PathBuf {
        self.folder.path().join("lab/boards/a").join(path)
    }
}

impl Shared {
    async fn answer(
        &self,
        service: &S3Service,
        request: Request<Incoming>,
    ) -> Result<Answer, Failure> {
        let line = format!("{} {}", request.method(), request.uri());
        self.asked.lock().unwrap().push(line);
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::Status(status)) => {
                let mut answer =
                    Response::new(Full::new(Bytes::new()).map_err(|e| match e {}).boxed_unsync());
                *answer.status_mut() = StatusCode::from_u16(status).map_err(Failure::other)?;
                return Ok(answer);
            }
            Some(Fault::NoAnswer) => return Err(broken()),
            _ => {}
        }
        let answer = service.call(request.map(s3s::Body::from)).await.map_err(Failure::other)?;
        Ok(answer.map(|body| {
            let body = body.map_err(Failure::other);
            if !matches!(fault, Some(Fault::HalfAnswer)) {
                return body.boxed_unsync();
            }
            let broken = stream::iter([Err(broken())]);
            StreamBody::new(BodyStream::new(body).take(1).chain(broken)).boxed_unsync()
        }))
    }
}

fn broken() -> Failure {
    Failure::other("the connection breaks")
}
