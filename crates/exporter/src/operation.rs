//! One call of a client, as the log and the metrics report it: that it started, how it ended and
//! after how long.

use std::time::Instant;

use jumpstarter_driver_core::{Error, ErrorKind, Node, Result};
use jumpstarter_text::truncated;
use tracing::{Instrument, Span};

use crate::Session;
use crate::logs::CALLS;

/// Of a method's name, which its client chooses.
const MAX_NAME_BYTES: usize = 128;

/// A call under way. It is reported as cancelled when it is dropped before its end.
///
/// The texts and the fields `result` and `error_type` are those of the exporter in Python.
pub(crate) struct Operation {
    session: Session,
    span: Span,
    started: Instant,
    ended: bool,
}

impl Operation {
    /// A call of a method; the driver is the one that the client named, if there is such a one.
    pub(crate) fn start(session: &Session, node: Option<&Node>, method: &str) -> Self {
        session.0.counters.called();
        let (driver, driver_type) =
            (node.map_or("", Node::path), node.map(|node| session.category_of(node)));
        let operation = &*truncated(method, MAX_NAME_BYTES);
        // Of the severest level, so that a driver's warnings have it whatever is logged.
        let span = tracing::error_span!("call", driver, driver_type, operation);
        span.in_scope(|| tracing::info!(target: CALLS, "Operation started"));
        Self { session: session.clone(), span, started: Instant::now(), ended: false }
    }

    /// Waits for the call of which more comes later, unless it failed.
    pub(crate) async fn begin<T>(
        mut self,
        call: impl Future<Output = Result<T>>,
    ) -> Result<(Self, T)> {
        match call.instrument(self.span.clone()).await {
            Ok(begun) => Ok((self, begun)),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Waits for the call and reports how it ended.
    pub(crate) async fn run<T>(mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = call.instrument(self.span.clone()).await;
        match &outcome {
            Ok(_) => self.completed(),
            Err(error) => self.failed(error),
        }
        outcome
    }

    /// What a driver logs in this span is of this call.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Reports a success, unless a failure was reported.
    pub(crate) fn completed(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let duration = self.duration();
        self.span.in_scope(
            || tracing::info!(target: CALLS, result = "success", duration, "Operation completed"),
        );
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.ended = true;
        let kind = error.kind();
        self.session.0.counters.failed(kind);
        if self.session.0.shutdown.is_cancelled() {
            return;
        }
        let (duration, error_type) = (self.duration(), error_type(kind));
        self.span.in_scope(|| {
            let (result, report) = ("failure", error.report());
            // A client may ask whether a driver can do something: `j tree` asks endpoints for their addresses.
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

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.ended {
            let duration = self.duration();
            self.span.in_scope(
                || tracing::info!(target: CALLS, result = "cancelled", duration, "Operation cancelled"),
            );
        }
    }
}

/// The categories of drivers by their interfaces, as the exporter in Python has them.
const CATEGORIES: [(&str, &str); 4] =
    [("power", "power"), ("flasher", "storage"), ("serial", "serial"), ("network", "network")];

/// The category of a driver.
pub(crate) fn category(node: &Node, has_children: bool) -> &'static str {
    let has = |name: &str| node.interfaces().iter().any(|interface| interface.name == name);
    let by_interface =
        CATEGORIES.iter().find(|(interface, _)| has(interface)).map(|(_, category)| *category);
    by_interface.unwrap_or(if has_children { "composite" } else { "other" })
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
