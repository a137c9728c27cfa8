//! Inputs.

use std::sync::{Arc, Mutex, PoisonError};

use gpiocdev::Request;
use gpiocdev::line::EdgeKind;
use jumpstarter_driver_core::prelude::*;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::chip::{self, Wiring};
use crate::edges::{Counter, Edges};
use crate::interface::{GpioEdge, GpioEdges, GpioPin, PinState};
use crate::line::Held;

/// A line that clients read, and whose edges they wait for.
#[derive(Debug)]
pub struct GpioInput {
    line: Held,
    edges: Edges,
    reader: Mutex<Option<JoinHandle<()>>>,
}

impl GpioInput {
    pub(crate) async fn open(wiring: Wiring, path: &str) -> Result<Self> {
        let (name, request) = chip::request(wiring, path).await?;
        let (counter, edges) = Edges::new();
        let doing = format!("reading the edges of {name}");
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; a request never replaces its descriptor"
        )]
        let ready = AsyncFd::new(request.clone()).map_err(Error::from);
        let ready = ready.with_context(|| doing.clone())?;
        let reader = tokio::spawn(async move {
            if let Err(error) = read(&ready, &counter).await {
                tracing::error!("{doing}: {error}");
                counter.fail(error.context(doing));
            }
        });
        let reader = Mutex::new(Some(reader));
        Ok(Self { line: Held::new(name, request), edges, reader })
    }

    /// Waits until the line has a state, or had it for a moment.
    async fn wait_for(&self, state: PinState, timeout: Option<Span>) -> Result<()> {
        let before = self.edges.now();
        if self.read_pin().await? == state {
            return Ok(());
        }
        let edge = match state {
            PinState::Active => GpioEdge::Rising,
            PinState::Inactive => GpioEdge::Falling,
        };
        let waited = self.edges.wait(edge, before, timeout).await;
        waited.with_context(|| format!("waiting until {} is {state}", self.line.name()))
    }

    fn take_reader(&self) -> Option<JoinHandle<()>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Counts the edges until reading fails.
async fn read(ready: &AsyncFd<Arc<Request>>, counter: &Counter) -> Result<()> {
    loop {
        let mut guard = ready.readable().await?;
        let request = ready.get_ref();
        // It blocks where there is none.
        while request.has_edge_event().map_err(chip::failed)? {
            let event = request.read_edge_event().map_err(chip::failed)?;
            counter.add(match event.kind {
                EdgeKind::Rising => GpioEdge::Rising,
                EdgeKind::Falling => GpioEdge::Falling,
            });
        }
        guard.clear_ready();
    }
}

impl Drop for GpioInput {
    fn drop(&mut self) {
        if let Some(reader) = self.take_reader() {
            reader.abort();
        }
    }
}

#[async_trait]
impl Driver for GpioInput {
    interfaces!(GpioEdges, GpioPin);

    async fn reset(&self) -> Result<()> {
        self.edges.forget();
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let reader = self.take_reader();
        if let Some(reader) = reader {
            reader.abort();
            // It was cancelled, or had ended.
            reader.await.ok();
        }
        self.line.release().await;
        Ok(())
    }
}

#[async_trait]
impl GpioPin for GpioInput {
    async fn read_pin(&self) -> Result<PinState> {
        Ok(PinState::new(self.line.read().await?))
    }
}

#[async_trait]
impl GpioEdges for GpioInput {
    async fn wait_for_active(&self, timeout: Option<Span>) -> Result<()> {
        self.wait_for(PinState::Active, timeout).await
    }

    async fn wait_for_edge(&self, edge_type: GpioEdge, timeout: Option<Span>) -> Result<()> {
        let waited = self.edges.wait(edge_type, self.edges.seen(), timeout).await;
        waited.with_context(|| format!("waiting for an edge of {}", self.line.name()))
    }

    async fn wait_for_inactive(&self, timeout: Option<Span>) -> Result<()> {
        self.wait_for(PinState::Inactive, timeout).await
    }
}
