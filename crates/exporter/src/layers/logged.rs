//! Logs each call: its start, its result and its duration. Records of the driver during the call
//! belong to it.

use std::task::Poll;
use std::time::Instant;

use futures_core::Stream;
use futures_util::StreamExt;
use jumpstarter_driver_core::Node;
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_text::truncated;
use tracing::{Instrument, Span};

use super::Layer;
use crate::logs::CALLS;
use crate::session::Session;

/// The most of a method's name that is logged: its client chooses it.
const MAX_NAME_BYTES: usize = 128;

/// A call under way. Its success is logged when it is dropped; without a result it was cancelled.
///
/// The texts and the fields `result` and `error_type` are those of the exporter in Python.
pub(crate) struct Logged {
    session: Session,
    span: Span,
    started: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Success,
    /// The failure was logged.
    Failure,
}

impl Logged {
    /// Logs the start of a call, with the driver that the client named, if it exists.
    pub(super) fn new(session: &Session, node: Option<&Node>, method: &str) -> Self {
        let driver = node.map_or("", Node::path);
        let driver_type = node.map(|node| session.0.directory.category(node));
        let operation = &*truncated(method, MAX_NAME_BYTES);
        // At the highest level, so that a driver's warnings carry the span at every log level.
        let span = tracing::error_span!("call", driver, driver_type, operation);
        span.in_scope(|| tracing::info!(target: CALLS, "Operation started"));
        let (session, started) = (session.clone(), Instant::now());
        Self { session, span, started, outcome: Outcome::Open }
    }

    fn failed(&mut self, error: &Error) {
        self.outcome = Outcome::Failure;
        if self.session.0.shutdown.is_cancelled() {
            return;
        }
        let kind = error.kind();
        let (duration, error_type) = (self.duration(), error_type(kind));
        self.span.in_scope(|| {
            let (result, report) = ("failure", error.report());
            // A client may probe whether a driver supports a method: `j tree` asks endpoints for
            // their addresses.
            if kind == ErrorKind::Unimplemented {
                tracing::info!(target: CALLS, result, error_type, ?kind, duration, "Operation failed: {report}");
            } else {
                tracing::warn!(target: CALLS, result, error_type, ?kind, duration, "Operation failed: {report}");
            }
        });
    }

    fn duration(&self) -> String {
        format!("{:?}", self.started.elapsed())
    }
}

impl Layer for Logged {
    async fn around<T: Send>(&mut self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let outcome = call.instrument(self.span.clone()).await;
        match &outcome {
            Ok(_) => self.outcome = Outcome::Success,
            Err(error) => self.failed(error),
        }
        outcome
    }

    fn along<T: Send + 'static>(
        mut self,
        mut items: impl Stream<Item = Result<T>> + Send + Unpin + 'static,
    ) -> impl Stream<Item = Result<T>> + Send + Unpin + 'static {
        self.outcome = Outcome::Open;
        futures_util::stream::poll_fn(move |cx| {
            let item = self.span.in_scope(|| items.poll_next_unpin(cx));
            match &item {
                Poll::Ready(Some(Err(error))) => self.failed(error),
                Poll::Ready(None) if self.outcome == Outcome::Open => {
                    self.outcome = Outcome::Success;
                }
                _ => {}
            }
            item
        })
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let duration = self.duration();
        self.span.in_scope(|| match self.outcome {
            Outcome::Open => {
                tracing::info!(target: CALLS, result = "cancelled", duration, "Operation cancelled");
            }
            Outcome::Success => {
                tracing::info!(target: CALLS, result = "success", duration, "Operation completed");
            }
            Outcome::Failure => {}
        });
    }
}

/// The kind of an error, in the words of the exporter in Python.
fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unimplemented => "not_implemented",
        ErrorKind::InvalidArgument => "validation_error",
        ErrorKind::DeadlineExceeded => "timeout",
        ErrorKind::Unavailable => "connection_error",
        ErrorKind::Internal => "device_error",
        _ => "internal_error",
    }
}
