//! The concerns of every call, each in a separate file, and their order.
//!
//! A request is [admitted](enter()), and is read within its connection's [budget](budgeted). If it
//! calls a driver, the [`Layer`]s of [`driver_call`] wrap the call.

mod authenticated;
pub(crate) mod budgeted;
mod counted;
mod gated;
mod guarded;
mod logged;

use futures_core::Stream;
use http::request::Parts;
use jumpstarter_driver_core::Node;
use jumpstarter_driver_core::Result;
use jumpstarter_protocol::Method;

pub(crate) use authenticated::Passphrase;
pub(crate) use guarded::{Guarded, panicked, shutting_down};

use crate::peer::Peer;
use crate::session::Session;
use counted::Counted;
use logged::Logged;

/// One concern of a call, wrapped around the rest of it.
pub(crate) trait Layer: Sized + Send {
    /// The call, until it has its answer.
    fn around<T: Send>(
        &mut self,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send;

    /// The items of a streaming answer, until its end or its first failure. They come after
    /// [`around`](Self::around).
    fn along<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static;
}

/// The first wraps the second.
impl<A: Layer, B: Layer> Layer for (A, B) {
    fn around<T: Send>(
        &mut self,
        call: impl Future<Output = Result<T>> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        self.0.around(self.1.around(call))
    }

    fn along<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static {
        self.0.along(self.1.along(items))
    }
}

/// The layers of one call of a driver, whose name may be wrong.
///
/// The guard is the innermost: a panic or a shutdown is a failure of the call, and is logged and
/// counted as the client sees it. The log is around it, so that the driver's records, and its
/// panic, belong to the call. Counting depends on neither.
pub(crate) fn driver_call(
    session: &Session,
    node: Option<&Node>,
    method: &str,
) -> (Counted, (Logged, Guarded)) {
    let counted = Counted::new(session.0.counters.clone());
    (counted, (Logged::new(session, node, method), Guarded::new(session)))
}

/// Admits a request.
///
/// The passphrase comes first: without it a peer does not count as a client and learns nothing of
/// the exporter's state. A peer that waits for a hook counts as a client.
///
/// # Errors
/// `Unauthenticated` without the passphrase, `FailedPrecondition` while a hook runs.
pub(crate) async fn enter(
    session: &Session,
    passphrase: Option<&Passphrase>,
    peer: &Peer,
    head: &Parts,
) -> Result<()> {
    if let Some(passphrase) = passphrase {
        passphrase.admit(head, peer).await?;
    }
    peer.admit(&session.0.connections.clients);
    let path = head.uri.path();
    let method = Method::from_path(path);
    let is_leased = session.0.options.is_leased;
    let passed = session.state().look(|state| gated::pass(method, peer, state, is_leased));
    passed.inspect_err(|error| {
        tracing::debug!(method = path, error = error.report(), "a call was refused");
    })
}
