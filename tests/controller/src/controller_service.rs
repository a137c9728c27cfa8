//! ControllerService: what exporters call, `Dial`, and the older calls of clients.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::auth::{Caller, Kind, authenticate};
use crate::lease::{Lease, Times};
use crate::proto::client_v1;
use crate::proto::v1::controller_service_server::ControllerService;
use crate::proto::v1::{
    DialRequest, DialResponse, ExporterStatus, GetLeaseRequest, GetLeaseResponse,
    GetServiceEndpointsRequest, GetServiceEndpointsResponse, ListLeasesRequest, ListLeasesResponse,
    ListenRequest, ListenResponse, RegisterRequest, RegisterResponse, ReleaseLeaseRequest,
    ReleaseLeaseResponse, ReportStatusRequest, ReportStatusResponse, RequestLeaseRequest,
    RequestLeaseResponse, StatusRequest, StatusResponse, UnregisterRequest, UnregisterResponse,
};
use crate::selector::Selector;
use crate::state::{Core, Key, State, Update};
use crate::switches::Report;
use crate::token::uuid;

/// What exporters may set among their labels.
const OWN_LABELS: &str = "jumpstarter.dev/";
/// How many dials wait for an exporter that reads its Listen stream too slowly.
const QUEUE: usize = 8;
/// How often an open Status stream is a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long Dial waits for an exporter that is still `Available`.
const READY: Duration = Duration::from_secs(30);
/// When Dial looks again: then every three seconds.
const LOOKS: [u64; 3] = [500, 1000, 2000];

#[derive(Debug, Clone)]
pub(crate) struct Service(pub(crate) Arc<Core>);

impl Service {
    fn caller<T>(&self, request: &Request<T>, kind: Kind) -> Result<Caller, Status> {
        authenticate(&self.0.read(), request.metadata(), &[kind])
    }
}

#[async_trait]
impl ControllerService for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let caller = self.caller(&request, Kind::Exporter)?;
        let RegisterRequest { labels, reports } = request.into_inner();
        let uuid = self.0.change(|state| {
            state.change_exporter(&caller.key(), |exporter| {
                exporter.labels.retain(|key, _| !key.starts_with(OWN_LABELS));
                let own = labels.into_iter().filter(|(key, _)| key.starts_with(OWN_LABELS));
                exporter.labels.extend(own);
                exporter.devices = reports.len();
            });
            state.exporter(&caller.namespace, &caller.name).map(|e| e.uid.clone())
        })?;
        Ok(Response::new(RegisterResponse { uuid }))
    }

    async fn unregister(
        &self,
        request: Request<UnregisterRequest>,
    ) -> Result<Response<UnregisterResponse>, Status> {
        let caller = self.caller(&request, Kind::Exporter)?;
        let mut reason = request.into_inner().reason;
        if reason.is_empty() {
            "Exporter unregistered".clone_into(&mut reason);
        }
        self.0.change(|state| {
            state.change_exporter(&caller.key(), |exporter| {
                exporter.devices = 0;
                exporter.status = ExporterStatus::Offline;
                exporter.message = reason;
                exporter.online = false;
            });
        });
        Ok(Response::new(UnregisterResponse {}))
    }

    async fn report_status(
        &self,
        request: Request<ReportStatusRequest>,
    ) -> Result<Response<ReportStatusResponse>, Status> {
        let caller = self.caller(&request, Kind::Exporter)?;
        let request = request.into_inner();
        let status = request.status();
        let release = request.release_lease.unwrap_or_default();
        let message = request.message.unwrap_or_default();
        self.0.change(|state| {
            let now = state.clock.seconds();
            state.switches.reports.push(Report {
                exporter: caller.name.clone(),
                status,
                message: message.clone(),
                release,
            });
            state.change_exporter(&caller.key(), |exporter| {
                exporter.status = status;
                exporter.message = message;
                exporter.last_seen = now;
                exporter.online =
                    !matches!(status, ExporterStatus::Offline | ExporterStatus::Unspecified);
            });
            if release {
                state.release_of(&caller);
            }
        });
        Ok(Response::new(ReportStatusResponse {}))
    }

    type ListenStream = BoxStream<ListenResponse>;

    async fn listen(
        &self,
        request: Request<ListenRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let caller = self.caller(&request, Kind::Exporter)?;
        let name = request.into_inner().lease_name;
        if name.is_empty() {
            return Err(Status::unknown("empty lease name"));
        }
        let receive = self.0.change(|state| {
            let lease = state.lease(&caller.namespace, &name)?;
            if lease.exporter.as_ref() != Some(&caller.name) {
                return Err(Status::unknown("permission denied"));
            }
            let (send, receive) = mpsc::channel(QUEUE);
            state.listeners.retain(|_, listener| !listener.is_closed());
            // An older stream delivers what it has, and ends.
            state.listeners.insert((caller.namespace.clone(), name.clone()), send);
            Ok(receive)
        })?;
        with_first_message(ReceiverStream::new(receive).map(Ok)).await
    }

    type StatusStream = BoxStream<StatusResponse>;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<Self::StatusStream>, Status> {
        let caller = self.caller(&request, Kind::Exporter)?;
        let (receive, stream) = self.0.change(|state| state.watch(&caller.key()));
        tokio::spawn(heartbeat(self.0.clone(), caller.key(), stream));
        with_first_message(UnboundedReceiverStream::new(receive)).await
    }

    async fn dial(&self, request: Request<DialRequest>) -> Result<Response<DialResponse>, Status> {
        let caller = self.caller(&request, Kind::Client)?;
        let name = request.into_inner().lease_name;
        let until = Instant::now() + READY;
        let mut looks = LOOKS.into_iter().map(Duration::from_millis);
        loop {
            if may_dial(&self.0.read(), &caller, &name)? {
                break;
            }
            let look = looks.next().unwrap_or(Duration::from_secs(3));
            if Instant::now() + look > until {
                return Err(Status::failed_precondition(
                    "exporter is not ready (status: Available)",
                ));
            }
            sleep(look).await;
        }
        self.0
            .change(|state| {
                let Some(router_endpoint) = state.router.clone() else {
                    return Err(Status::unknown("no router available"));
                };
                let now = state.clock.seconds();
                let router_token = state.keys.sign_for_router(&uuid(4, now), now);
                let answer = ListenResponse {
                    router_endpoint: router_endpoint.clone(),
                    router_token: router_token.clone(),
                };
                let listener = state.listeners.get(&(caller.namespace.clone(), name.clone()));
                let refusal = match listener.map(|listener| listener.try_send(answer)) {
                    Some(Ok(())) => return Ok(DialResponse { router_endpoint, router_token }),
                    Some(Err(mpsc::error::TrySendError::Full(_))) => {
                        let what = format!("listen queue of lease {name} is full");
                        Status::resource_exhausted(what)
                    }
                    None | Some(Err(mpsc::error::TrySendError::Closed(_))) => {
                        Status::unavailable(format!("exporter is not listening on lease {name}"))
                    }
                };
                Err(refusal)
            })
            .map(Response::new)
    }

    async fn get_lease(
        &self,
        request: Request<GetLeaseRequest>,
    ) -> Result<Response<GetLeaseResponse>, Status> {
        let caller = self.caller(&request, Kind::Client)?;
        let state = self.0.read();
        let lease = state.lease(&caller.namespace, &request.get_ref().name)?;
        if lease.client != caller.name {
            return Err(Status::unknown("GetLease permission denied"));
        }
        let exporter = lease.exporter.as_ref();
        let exporter = exporter.and_then(|name| state.exporter(&caller.namespace, name).ok());
        Ok(Response::new(lease.to_old_message(exporter)))
    }

    async fn request_lease(
        &self,
        request: Request<RequestLeaseRequest>,
    ) -> Result<Response<RequestLeaseResponse>, Status> {
        let caller = self.caller(&request, Kind::Client)?;
        let request = request.into_inner();
        let asked = client_v1::Lease { duration: request.duration, ..Default::default() };
        let times = Times::of(&asked)?;
        let selector = Selector::from_message(&request.selector.unwrap_or_default());
        let selector = selector.map_err(Status::unknown)?;
        let name = self.0.change(|state| {
            let name = uuid(7, state.clock.seconds());
            let key = (caller.namespace, name.clone());
            let lease = Lease::new(&key, caller.name, selector, times);
            state.leases.insert(key, lease);
            name
        });
        Ok(Response::new(RequestLeaseResponse { name }))
    }

    async fn release_lease(
        &self,
        request: Request<ReleaseLeaseRequest>,
    ) -> Result<Response<ReleaseLeaseResponse>, Status> {
        let kinds = [Kind::Client, Kind::Exporter];
        let caller = authenticate(&self.0.read(), request.metadata(), &kinds)?;
        let name = request.into_inner().name;
        self.0.change(|state| {
            let lease = state.lease_mut(&caller.namespace, &name);
            if caller.kind == Kind::Client {
                let lease = lease?;
                if lease.client != caller.name {
                    return Err(Status::unknown("ReleaseLease permission denied"));
                }
                lease.release = true;
                return Ok(());
            }
            let lease = lease.map_err(|_| Status::not_found(format!("lease {name} not found")))?;
            if lease.exporter.as_ref() != Some(&caller.name) {
                let what = format!("lease {name} is not held by exporter {}", caller.name);
                return Err(Status::failed_precondition(what));
            }
            lease.release = true;
            Ok(())
        })?;
        Ok(Response::new(ReleaseLeaseResponse {}))
    }

    async fn list_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        let caller = self.caller(&request, Kind::Client)?;
        let state = self.0.read();
        let own = state.leases.values().filter(|lease| {
            !lease.ended && lease.namespace == caller.namespace && lease.client == caller.name
        });
        let names = own.map(|lease| lease.name.clone()).collect();
        Ok(Response::new(ListLeasesResponse { names }))
    }

    async fn get_service_endpoints(
        &self,
        request: Request<GetServiceEndpointsRequest>,
    ) -> Result<Response<GetServiceEndpointsResponse>, Status> {
        self.caller(&request, Kind::Exporter)?;
        let telemetry_endpoints = self.0.read().options.telemetry.clone();
        Ok(Response::new(GetServiceEndpointsResponse { telemetry_endpoints }))
    }
}

/// Whether the exporter of a lease can be dialled now. An exporter that is still `Available` may
/// be ready soon; everything else that speaks against it is an error.
fn may_dial(state: &State, caller: &Caller, name: &str) -> Result<bool, Status> {
    let lease = state.lease(&caller.namespace, name)?;
    if lease.client != caller.name {
        return Err(Status::unknown("permission denied"));
    }
    let Some(exporter) = &lease.exporter else {
        return Err(Status::unknown("lease not active"));
    };
    let refused = |what: &str| Err(Status::failed_precondition(what));
    match state.exporter(&caller.namespace, exporter)?.status {
        ExporterStatus::Available => Ok(false),
        ExporterStatus::Offline => refused("exporter is offline"),
        ExporterStatus::BeforeLeaseHookFailed => refused("exporter beforeLease hook failed"),
        ExporterStatus::AfterLeaseHookFailed => refused("exporter afterLease hook failed"),
        _ => Ok(true),
    }
}

/// Shows signs of life of an exporter for as long as its Status stream is open.
async fn heartbeat(core: Arc<Core>, exporter: Key, stream: mpsc::WeakUnboundedSender<Update>) {
    loop {
        sleep(HEARTBEAT).await;
        match stream.upgrade() {
            Some(stream) if !stream.is_closed() => core.change(|state| state.see(&exporter)),
            _ => return,
        }
    }
}

/// Answers when the first message is there, as the controller does: until then, the caller sees no
/// headers either.
pub(crate) async fn with_first_message<T: Send + 'static>(
    mut stream: impl Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
) -> Result<Response<BoxStream<T>>, Status> {
    let rest: BoxStream<T> = match stream.next().await {
        None => Box::pin(tokio_stream::empty()),
        Some(first) => Box::pin(tokio_stream::once(Ok(first?)).chain(stream)),
    };
    Ok(Response::new(rest))
}
