//! What the controller and the router do with nothing of ours at their ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use jumpstarter_client::lab::{Lab, Wanted};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_protocol::rpc::controller::Dial;
use jumpstarter_protocol::v1::router_service_client::RouterServiceClient;
use jumpstarter_protocol::v1::{DialRequest, StreamRequest, StreamResponse};
use jumpstarter_protocol::{ClientTls, TrustedCertificates};
use jumpstarter_test_controller::TestController;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};

use super::LOOK;
use crate::library::on_one_thread;

/// Bytes in one message of an echo.
pub(super) const FRAME: usize = 64 * 1024;
/// As the exporter's and the client's: what may be on its way before it is read.
const WINDOW: u32 = 4 << 20;

/// Seconds from the request until the exporter can be dialled.
pub(super) async fn acquire(lab: &Lab, wanted: &Wanted) -> Result<f64> {
    let request = wanted.to_wire()?;
    let began = Instant::now();
    let mut lease = lab.create_lease(request, "").await?;
    let exporter = loop {
        match lease.exporter.take() {
            Some(exporter) => break exporter,
            None => sleep(LOOK).await,
        }
        lease = lab.lease_named(&lease.name).await?;
    };
    // A dial before the exporter has seen its lease costs half a second.
    while lab.exporter(&exporter, false).await?.status == "AVAILABLE" {
        sleep(LOOK).await;
    }
    let request = DialRequest { lease_name: lease.name.clone() };
    while let Err(error) = lab.controller().call::<Dial>(&request).await {
        if began.elapsed() > super::START {
            return Err(error);
        }
        sleep(LOOK).await;
    }
    let took = began.elapsed().as_secs_f64();
    lab.delete_lease(&lease.name).await?;
    Ok(took)
}

/// One gRPC client of the router.
struct End {
    sender: mpsc::Sender<StreamRequest>,
    received: Streaming<StreamResponse>,
}

impl End {
    async fn send(&self, payload: Bytes) -> Result<()> {
        let message = StreamRequest { payload, ..StreamRequest::default() };
        self.sender.send(message).await.map_err(|_| Error::unavailable("the router went away"))
    }

    async fn receive(&mut self) -> Result<Bytes> {
        match self.received.message().await.map_err(failed)? {
            Some(message) => Ok(message.payload),
            None => Err(Error::unavailable("the router ended the stream")),
        }
    }
}

/// The way to one stream.
#[derive(Clone)]
struct Way {
    address: SocketAddr,
    tls: ClientTls,
    token: String,
}

/// Gives `take` one end of a stream. Each end has a thread, as those of the exporter and the client
/// have; the second end sends back what it gets.
async fn beside_echo<F>(
    controller: &TestController,
    take: impl FnOnce(End) -> F + Send + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<f64>>,
{
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let stream = format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let token = controller.router_token(&stream, |_| ());
    let router = controller.router();
    let trusted = TrustedCertificates::from_pem(router.certificate().as_bytes(), "the router")?;
    let way = Way { address: router.address(), tls: ClientTls::new(trusted, None)?, token };
    let far = way.clone();
    let (over, is_over) = oneshot::channel::<()>();
    let echo = tokio::spawn(on_one_thread(async move || {
        let mut end = open(&far).await?;
        let echoing = async {
            while let Ok(payload) = end.receive().await
                && end.send(payload).await.is_ok()
            {}
        };
        // The router does not pass on that the other end has ended.
        tokio::select! {
            () = echoing => {}
            _ = is_over => {}
        }
        Ok(())
    }));
    let figure = on_one_thread(async move || take(open(&way).await?).await).await;
    drop(over);
    drop(echo.await);
    figure
}

async fn open(way: &Way) -> Result<End> {
    let Way { address, tls, token } = way.clone();
    let connect = move |_| {
        let tls = tls.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect("localhost", socket).await?))
        }
    };
    let channel = Endpoint::from_static("http://router")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .connect_with_connector(tower::service_fn(connect))
        .await
        .map_err(|error| Error::unavailable("reaching the router").with_source(error))?;
    let (sender, requests) = mpsc::channel(4);
    // The router answers a call once it has a message for it.
    drop(sender.send(StreamRequest::default()).await);
    let mut request = Request::new(ReceiverStream::new(requests));
    let bearer = format!("Bearer {token}").parse();
    let bearer = bearer.map_err(|_| Error::internal("a token that is no header"))?;
    request.metadata_mut().insert("authorization", bearer);
    let answer = RouterServiceClient::new(channel).stream(request).await.map_err(failed)?;
    let mut end = End { sender, received: answer.into_inner() };
    end.receive().await?;
    Ok(end)
}

/// Messages a second of one byte, there and back, one at a time.
pub(super) async fn messages(controller: &TestController, count: u64) -> Result<f64> {
    beside_echo(controller, async move |mut end| {
        let start = Instant::now();
        for _ in 0..count {
            end.send(Bytes::from_static(b"x")).await?;
            end.receive().await?;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    })
    .await
}

/// Bytes a second, there and back.
pub(super) async fn echo(controller: &TestController, bytes: u64) -> Result<f64> {
    beside_echo(controller, async move |mut end| {
        let (sender, frame) = (end.sender.clone(), Bytes::from(vec![0xa5; FRAME]));
        let start = Instant::now();
        let sending = tokio::spawn(async move {
            for _ in 0..bytes / FRAME as u64 {
                let payload = frame.clone();
                let message = StreamRequest { payload, ..StreamRequest::default() };
                if sender.send(message).await.is_err() {
                    break;
                }
            }
        });
        let (whole, mut received) = (bytes / FRAME as u64 * FRAME as u64, 0);
        while received < whole {
            received += end.receive().await?.len() as u64;
        }
        drop(sending.await);
        Ok(received as f64 / start.elapsed().as_secs_f64())
    })
    .await
}

fn failed(status: Status) -> Error {
    Error::unavailable("a stream of the router").with_source(status)
}
