//! RouterService: joins two calls with the same stream id, and copies messages between them.
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use crate::auth::bearer;
use crate::controller_service::with_first_message;
use crate::proto::v1::router_service_server::RouterService;
use crate::proto::v1::{StreamRequest, StreamResponse};
use crate::state::Core;

/// The largest message, with its framing.
const LARGEST: usize = 4 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) core: Arc<Core>,
    pub(crate) streams: Arc<Streams>,
}

/// The calls that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    waiting: Mutex<HashMap<String, Side>>,
    joined: AtomicUsize,
}

impl Streams {
    /// How many calls wait for another one, and how many pairs are joined.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.waiting().len(), self.joined.load(Ordering::Relaxed))
    }

    /// The calls that wait, without those that their callers have cancelled.
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Side>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, side| !side.send.is_closed());
        waiting
    }

    /// Leaves a side to wait, unless one with that id waits already: then it is returned too.
    fn meet(&self, id: String, side: Side) -> Option<(Side, Side)> {
        let mut waiting = self.waiting();
        match waiting.remove(&id) {
            Some(first) => Some((first, side)),
            None => {
                waiting.insert(id, side);
                None
            }
        }
    }
}

/// One call: what comes from it, and where its answers go.
#[derive(Debug)]
struct Side {
    receive: Streaming<StreamRequest>,
    send: mpsc::Sender<Result<StreamResponse, Status>>,
}

#[async_trait]
impl RouterService for Service {
    type StreamStream = BoxStream<StreamResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let token = bearer(request.metadata()).map_err(|error| {
            let code = match error.code() {
                Code::Unauthenticated => "Unauthenticated",
                _ => "InvalidArgument",
            };
            Status::unauthenticated(format!(
                "missing or invalid authorization: rpc error: code = {code} desc = {}",
                error.message()
            ))
        })?;
        let id = {
            let state = self.core.read();
            state.keys.stream_of(token, state.clock.seconds())
        };
        let id = id.ok_or_else(|| Status::unauthenticated("invalid jwt token"))?;
        let (send, answers) = mpsc::channel(4);
        let side = Side { receive: request.into_inner(), send };
        if let Some((first, second)) = self.streams.meet(id, side) {
            tokio::spawn(join(first, second, self.streams.clone()));
        }
        with_first_message(ReceiverStream::new(answers)).await
    }
}

/// Copies both ways until both directions have ended, or one side cannot be reached any more. The
/// second side ends with the error then; the first one ends well.
async fn join(mut first: Side, mut second: Side, streams: Arc<Streams>) {
    streams.joined.fetch_add(1, Ordering::Relaxed);
    let earliest = Mutex::new(None);
    let note = |end: Result<(), Status>| {
        if let Err(error) = end {
            earliest.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    tokio::join!(
        async { note(copy(&mut first.receive, &first.send, &second.send).await) },
        async { note(copy(&mut second.receive, &second.send, &first.send).await) },
    );
    streams.joined.fetch_sub(1, Ordering::Relaxed);
    let error = earliest.into_inner().unwrap_or_else(PoisonError::into_inner);
    // The caller of a call that had ended one direction cancelled it.
    let error = error.or_else(|| first.send.is_closed().then(cancelled));
    if let Some(error) = error {
        // Its caller may be away as well.
        drop(second.send.send(Err(error)).await);
    }
}

/// Copies from one side to the other. An error of the copied side is its own call's end, too.
async fn copy(
    from: &mut Streaming<StreamRequest>,
    own: &mpsc::Sender<Result<StreamResponse, Status>>,
    to: &mpsc::Sender<Result<StreamResponse, Status>>,
) -> Result<(), Status> {
    loop {
        let StreamRequest { payload, frame_type } = match from.message().await {
            Ok(None) => return Ok(()),
            Ok(Some(message)) if message.encoded_len() > LARGEST => {
                let error = Status::resource_exhausted(format!(
                    "grpc: received message larger than max ({} vs. {LARGEST})",
                    message.encoded_len()
                ));
                drop(own.send(Err(error.clone())).await);
                return Err(error);
            }
            Ok(Some(message)) => message,
            Err(error) if is_reset(&error) => return Err(cancelled()),
            Err(_) => return Err(Status::unavailable("transport is closing")),
        };
        let answer = StreamResponse { payload, frame_type };
        to.send(Ok(answer)).await.map_err(|_| cancelled())?;
    }
}

/// Whether the caller cancelled its call; otherwise the connection broke.
fn is_reset(error: &Status) -> bool {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |error| error.source())
        .filter_map(|error| error.downcast_ref::<h2::Error>())
        .any(h2::Error::is_reset)
}

fn cancelled() -> Status {
    Status::cancelled("context canceled")
}
