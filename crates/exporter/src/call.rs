//! Calling a driver: what must hold before, and what may go wrong that is not the driver's own error.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::{FutureExt, StreamExt};
use jumpstarter_driver_core::arguments::Arguments;
use jumpstarter_driver_core::device::Node;
use jumpstarter_driver_core::interface::{MethodKind, Reply};
use jumpstarter_driver_core::{Channel, Error, Result, ValueStream};
use serde_json::Value;
use tracing::Instrument;

use crate::Session;

impl Session {
    /// Calls a method. A driver that panics makes the call fail with `Internal`; a shutdown with `Unavailable`.
    async fn invoke(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> Result<Reply> {
        self.0.metrics.called();
        let outcome = self.attempt(node, method, kind, arguments).await;
        outcome.inspect_err(|error| self.0.metrics.failed(error.kind()))
    }

    async fn attempt(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Arguments,
    ) -> Result<Reply> {
        if self.0.shutdown.is_cancelled() {
            return Err(Self::shutting_down());
        }
        if !self.0.state.allows_calls() {
            let state = self.0.state.get();
            let message = format!("the exporter takes no calls in its state {}", state.status.as_str_name());
            return Err(Error::failed_precondition(message));
        }
        let span = tracing::info_span!("call", driver = node.path(), operation = method);
        let call = AssertUnwindSafe(node.caller().invoke(method, kind, arguments)).catch_unwind();
        tokio::select! {
            reply = call.instrument(span) => reply.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
            () = self.0.shutdown.cancelled() => Err(Self::shutting_down()),
        }
    }

    pub(crate) async fn call(&self, uuid: &str, method: &str, arguments: Vec<Value>) -> Result<Value> {
        let node = self.node(uuid)?;
        let arguments = self.arguments(node, method, arguments)?;
        self.invoke(node, method, MethodKind::Unary, arguments).await?.into_value()
    }

    pub(crate) async fn stream(
        &self,
        uuid: &str,
        method: &str,
        arguments: Vec<Value>,
    ) -> Result<ValueStream<Value>> {
        let node = self.node(uuid)?;
        let arguments = self.arguments(node, method, arguments)?;
        let values = self.invoke(node, method, MethodKind::Stream, arguments).await?.into_stream()?;
        let guarded = AssertUnwindSafe(values)
            .catch_unwind()
            .map(|item| item.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
        let shutdown = self.0.shutdown.clone().cancelled_owned();
        let last = futures_util::stream::once(shutdown.map(|()| Err(Self::shutting_down())));
        // Whichever comes first: the values' end, or the shutdown as the last item.
        let ended = guarded.map(Some).chain(futures_util::stream::iter([None]));
        let merged = futures_util::stream::select(ended, last.map(Some));
        Ok(until_end(merged).boxed())
    }

    pub(crate) async fn connect(&self, uuid: &str, method: &str) -> Result<Channel> {
        let node = self.node(uuid)?;
        self.invoke(node, method, MethodKind::Channel, Arguments::new()).await?.into_channel()
    }
}

/// The items until `None` or an error, the error included.
fn until_end<T: Send + 'static>(
    items: impl futures_core::Stream<Item = Option<Result<T>>> + Send + 'static,
) -> impl futures_core::Stream<Item = Result<T>> + Send + 'static {
    items
        .scan(false, |failed, item| {
            let item = item.filter(|_| !*failed);
            *failed = matches!(item, Some(Err(_)));
            futures_util::future::ready(item)
        })
        .fuse()
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    tracing::error!(panic = %text, "a driver panicked");
    Error::internal(format!("the driver panicked: {text}"))
        .with_hint("this is a bug in the driver; the exporter goes on")
}
