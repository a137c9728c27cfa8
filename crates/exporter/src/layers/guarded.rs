//! Isolates the exporter from drivers: a panic becomes `Internal`, and a shutdown ends the call
//! with `Unavailable`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use futures_core::Stream;
use futures_util::{FutureExt, StreamExt};
use jumpstarter_driver_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::Layer;
use crate::session::Session;

pub(crate) struct Guarded {
    shutdown: CancellationToken,
}

impl Guarded {
    pub(crate) fn new(session: &Session) -> Self {
        Self { shutdown: session.0.shutdown.clone() }
    }
}

impl Layer for Guarded {
    async fn around<T: Send>(&mut self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        tokio::select! {
            biased;
            outcome = AssertUnwindSafe(call).catch_unwind() => {
                outcome.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
            }
            () = self.shutdown.cancelled() => Err(shutting_down()),
        }
    }

    fn along<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static {
        // `None` after the last item.
        let mut open = Some((items, Box::pin(self.shutdown.cancelled_owned())));
        futures_util::stream::poll_fn(move |cx| {
            let Some((items, shutdown)) = &mut open else { return Poll::Ready(None) };
            let item = if shutdown.poll_unpin(cx).is_ready() {
                Poll::Ready(Some(Err(shutting_down())))
            } else {
                catch_unwind(AssertUnwindSafe(|| items.poll_next_unpin(cx)))
                    .unwrap_or_else(|panic| Poll::Ready(Some(Err(panicked(panic.as_ref())))))
            };
            if matches!(item, Poll::Ready(None | Some(Err(_)))) {
                open = None;
            }
            item
        })
    }
}

pub(crate) fn shutting_down() -> Error {
    Error::unavailable("the exporter is shutting down")
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
