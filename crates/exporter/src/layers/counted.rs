//! Counts calls and their failures.

use std::sync::Arc;

use futures_core::Stream;
use futures_util::TryStreamExt;
use jumpstarter_driver_core::Result;

use super::Layer;
use crate::counters::Counters;

pub(crate) struct Counted(Arc<Counters>);

impl Counted {
    /// Counts a call that begins.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        counters.called();
        Self(counters)
    }
}

impl Layer for Counted {
    async fn around<T: Send>(&mut self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        call.await.inspect_err(|error| self.0.failed(error.kind()))
    }

    fn along<T: Send + 'static>(
        self,
        items: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static {
        items.inspect_err(move |error| self.0.failed(error.kind()))
    }
}
