//! The two servers: TLS, HTTP/2, and which service a call belongs to.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::{Code, Status};

use crate::proto::client_v1::client_service_server::ClientServiceServer;
use crate::proto::health_v1::health_server::HealthServer;
use crate::proto::v1::controller_service_server::ControllerServiceServer;
use crate::proto::v1::router_service_server::RouterServiceServer;
use crate::state::Core;
use crate::switches::Answer;
use crate::{client_service, controller_service, health, router_service};

/// The most bytes of one read from a socket, as Go's gRPC.
const READ: usize = 32 << 10;

/// How a server's answers look to hyper.
type Answered = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The services of one server.
#[derive(Debug, Clone)]
pub(crate) enum Services {
    Controller {
        core: Arc<Core>,
        controller: ControllerServiceServer<controller_service::Service>,
        client: ClientServiceServer<client_service::Service>,
        health: HealthServer<health::Service>,
    },
    Router {
        core: Arc<Core>,
        router: RouterServiceServer<router_service::Service>,
    },
}

impl Services {
    pub(crate) fn of_controller(core: &Arc<Core>) -> Self {
        Services::Controller {
            core: core.clone(),
            controller: ControllerServiceServer::new(controller_service::Service(core.clone())),
            client: ClientServiceServer::new(client_service::Service(core.clone())),
            health: HealthServer::new(health::Service),
        }
    }

    pub(crate) fn of_router(core: &Arc<Core>, streams: &Arc<router_service::Streams>) -> Self {
        let service = router_service::Service { core: core.clone(), streams: streams.clone() };
        // The service has its own limit, with the error of Go.
        let router = RouterServiceServer::new(service)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Services::Router { core: core.clone(), router }
    }

    /// Hands a call to its service.
    fn route(&self, request: Request<Incoming>) -> Answered {
        let path = request.uri().path();
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match (self.clone(), service) {
            (Services::Controller { mut controller, .. }, "jumpstarter.v1.ControllerService") => {
                controller.call(request)
            }
            (Services::Controller { mut client, .. }, "jumpstarter.client.v1.ClientService") => {
                client.call(request)
            }
            (Services::Controller { mut health, .. }, "grpc.health.v1.Health") => {
                health.call(request)
            }
            (Services::Router { mut router, .. }, "jumpstarter.v1.RouterService") => {
                router.call(request)
            }
            _ => {
                let status = Status::unimplemented(format!("unknown service {service}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn call(&self, request: Request<Incoming>) -> Answered {
        let (Services::Controller { core, .. } | Services::Router { core, .. }) = self;
        let path = request.uri().path();
        let call = path.rsplit('.').next().unwrap_or(path).to_owned();
        let answer = core.change(|state| state.switches.note(&call, request.headers()));
        let refused = |code: Code, message: String| Ok(Status::new(code, message).into_http());
        match answer {
            None => self.route(request),
            Some(Answer::Refuse(code, message)) => Box::pin(async move { refused(code, message) }),
            Some(Answer::Lose(code, message)) => {
                let performed = self.route(request);
                Box::pin(async move {
                    drop(performed.await);
                    refused(code, message)
                })
            }
            Some(Answer::Delay(delay)) => {
                let services = self.clone();
                Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    services.route(request).await
                })
            }
            Some(Answer::Silence) => Box::pin(std::future::pending()),
        }
    }
}

/// What a listener is asked to do; it answers when it has.
#[derive(Debug)]
pub(crate) enum Order {
    /// Closes the listener and every connection.
    Down(oneshot::Sender<()>),
    /// Listens again.
    Up(oneshot::Sender<()>),
    /// Closes every connection, and goes on listening.
    Drop(oneshot::Sender<()>),
}

/// Accepts connections until the sender of orders is dropped.
pub(crate) async fn listen(
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    services: Services,
    frozen: watch::Receiver<bool>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut open = Some(listener);
    let mut connections = CancellationToken::new();
    loop {
        let accepted = async {
            match &open {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            accepted = accepted => {
                if let Ok((stream, _)) = accepted {
                    // Small messages are sent at once, as Go does; without it they are late only.
                    drop(stream.set_nodelay(true));
                    let (tls, services) = (tls.clone(), services.clone());
                    let (closed, frozen) = (connections.clone(), frozen.clone());
                    tokio::spawn(async move {
                        // TLS alone reads 4 KiB at a time.
                        let stream = BufReader::with_capacity(READ, stream);
                        let handshake = unless_frozen(tls.accept(stream), frozen.clone());
                        if let Some(Ok(stream)) = closed.run_until_cancelled(handshake).await {
                            serve(stream, services, frozen, closed).await;
                        }
                    });
                }
                continue;
            }
            order = orders.recv() => match order {
                None => {
                    connections.cancel();
                    return;
                }
                Some(Order::Down(done)) => {
                    open = None;
                    done
                }
                Some(Order::Up(done)) => {
                    open = Some(bind_again(address).await);
                    done
                }
                Some(Order::Drop(done)) => done,
            },
        };
        connections.cancel();
        connections = CancellationToken::new();
        // The test may have stopped waiting.
        done.send(()).ok();
    }
}

/// Binds an address that this process has bound before. A connection of another program may have
/// the port for a moment.
async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Serves one connection until it ends or is cancelled.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    services: Services,
    frozen: watch::Receiver<bool>,
    closed: CancellationToken,
) {
    let mut http = http2::Builder::new(Executor(closed.clone()));
    // As Go's servers: windows that grow, and no frames above the default.
    http.adaptive_window(true).max_concurrent_streams(None);
    if let Services::Controller { .. } = services {
        // What is on its way of a stream that nobody reads is little, so queues fill.
        http.max_send_buf_size(16 * 1024);
    }
    let connection = http.serve_connection(TokioIo::new(stream), services);
    // A connection that breaks is the caller's matter.
    drop(closed.run_until_cancelled(unless_frozen(connection, frozen)).await);
}

/// Runs what reads and writes a connection, except while the server is frozen.
async fn unless_frozen<F: Future>(work: F, mut frozen: watch::Receiver<bool>) -> F::Output {
    let mut work = std::pin::pin!(work);
    loop {
        if frozen.wait_for(|is_frozen| !is_frozen).await.is_err() {
            return work.await;
        }
        tokio::select! {
            done = &mut work => return done,
            Ok(_) = frozen.wait_for(|is_frozen| *is_frozen) => {}
        }
    }
}

/// Runs the calls of a connection, until it is cancelled.
#[derive(Debug, Clone)]
struct Executor(CancellationToken);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
{
    fn execute(&self, call: F) {
        let closed = self.0.clone();
        tokio::spawn(async move { closed.run_until_cancelled(call).await.map(drop) });
    }
}
