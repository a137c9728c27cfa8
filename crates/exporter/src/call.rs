//! Calling a driver: what must hold before, and what may go wrong that is not the driver's own
//! error.

use std::any::Any;
use std::future::ready;
use std::panic::AssertUnwindSafe;

use futures_util::stream::poll_fn;
use futures_util::{FutureExt, StreamExt};
use jumpstarter_driver_core::{
    Arguments, Channel, Error, MethodKind, Node, Reply, Result, ValueStream,
};
use jumpstarter_protocol::{Value as Wire, decode_arguments, encode_value};
use serde_json::Value;

use crate::Session;
use crate::operation::Operation;

impl Session {
    /// A call of the driver with that id, which may not exist.
    fn operation(&self, uuid: &str, method: &str) -> Operation {
        Operation::start(self, self.node(uuid).ok(), method)
    }

    /// Reports a call that never reached a driver.
    pub(crate) fn refused(&self, method: &str, error: &Error) {
        Operation::start(self, None, method).failed(error);
    }

    /// Runs what a client asked of drivers: a panic is `Internal`, a shutdown `Unavailable`.
    async fn guarded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let call = AssertUnwindSafe(call).catch_unwind();
        tokio::select! {
            outcome = call => outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))),
            () = self.0.shutdown.cancelled() => Err(Self::shutting_down()),
        }
    }

    /// The arguments of a call that is allowed. The resources that they name are taken over only
    /// then, and only by a method that exists: what is refused can be called again.
    fn admit(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Wire>,
    ) -> Result<Arguments> {
        if self.0.shutdown.is_cancelled() {
            return Err(Self::shutting_down());
        }
        let descriptor = node.interfaces().iter().find_map(|interface| interface.method(method));
        match descriptor {
            Some(descriptor) if descriptor.kind != kind => Ok(Arguments::new()),
            // The driver's answer says which methods there are.
            None if node.interfaces_known() => Ok(Arguments::new()),
            descriptor => self.arguments(node, method, descriptor, decode(arguments)?),
        }
    }

    async fn invoke(
        &self,
        node: &Node,
        method: &str,
        kind: MethodKind,
        arguments: Vec<Wire>,
    ) -> Result<Reply> {
        let arguments = self.admit(node, method, kind, arguments)?;
        self.guarded(node.caller().invoke(method, kind, arguments)).await
    }

    /// Calls a method.
    pub(crate) async fn call(
        &self,
        uuid: &str,
        method: &str,
        arguments: Vec<Wire>,
    ) -> Result<Option<Wire>> {
        let call = async {
            let node = self.node(uuid)?;
            let value =
                self.invoke(node, method, MethodKind::Unary, arguments).await?.into_value()?;
            encode(&value)
        };
        self.operation(uuid, method).run(call).await
    }

    /// Calls a method that answers with a stream of values.
    pub(crate) async fn stream(
        &self,
        uuid: &str,
        method: &str,
        arguments: Vec<Wire>,
    ) -> Result<ValueStream<Option<Wire>>> {
        let call = async {
            let node = self.node(uuid)?;
            self.invoke(node, method, MethodKind::Stream, arguments).await?.into_stream()
        };
        let (mut operation, mut values) = self.operation(uuid, method).begin(call).await?;
        let span = operation.span();
        let values = poll_fn(move |cx| span.in_scope(|| values.poll_next_unpin(cx)));
        let guarded = AssertUnwindSafe(values)
            .catch_unwind()
            .map(|item| item.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))))
            .map(|item| item.and_then(|value| encode(&value)));
        let shutdown = self.0.shutdown.clone().cancelled_owned();
        let last = futures_util::stream::once(shutdown.map(|()| Err(Self::shutting_down())));
        // Whichever comes first: the values' end, or the shutdown as the last item.
        let ended = guarded.map(Some).chain(futures_util::stream::iter([None]));
        let merged = futures_util::stream::select(ended, last.map(Some));
        // Dropped before its end, it reports that its client left.
        let reported = until_end(merged).map(Some).chain(futures_util::stream::iter([None]));
        let reported = reported.filter_map(move |item| {
            match &item {
                Some(Err(error)) => operation.failed(error),
                None => operation.completed(),
                Some(Ok(_)) => {}
            }
            ready(item)
        });
        Ok(reported.boxed())
    }

    /// Opens a channel.
    pub(crate) async fn connect(&self, uuid: &str, method: &str) -> Result<Channel> {
        let call = async {
            let node = self.node(uuid)?;
            self.invoke(node, method, MethodKind::Channel, Vec::new()).await?.into_channel()
        };
        self.operation(uuid, method).run(call).await
    }

    /// Resets every driver, as a client's call.
    pub(crate) async fn reset_called(&self) -> Result<()> {
        Operation::start(self, None, "reset").run(self.reset()).await
    }

    /// Resets every driver, before anybody may call one.
    ///
    /// # Errors
    /// A driver's own, `Internal` for one that panics, `Unavailable` after
    /// [`shut_down`](Self::shut_down).
    pub async fn reset(&self) -> Result<()> {
        self.guarded(self.device().reset()).await
    }
}

fn decode(arguments: Vec<Wire>) -> Result<Vec<Value>> {
    decode_arguments(arguments)
        .map_err(|error| Error::invalid_argument("the arguments cannot be read").with_source(error))
}

fn encode(value: &Value) -> Result<Option<Wire>> {
    encode_value(value)
        .map(Some)
        .map_err(|error| Error::internal("the answer cannot be sent").with_source(error))
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

pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned());
    tracing::error!(panic = %text, "a driver panicked");
    Error::internal(format!("the driver panicked: {text}"))
        .with_hint("this is a bug in the driver; the exporter goes on")
}
