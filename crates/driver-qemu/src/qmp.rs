//! The connection to a running QEMU, over QMP (source: QEMU's `docs/interop/qmp-spec.txt`).
//!
//! One task owns the connection for the machine's life. Callers send it requests and wait for their
//! answers. A cancelled caller leaves nothing half done: its command is sent completely, its answer
//! is read and dropped, and its number is never used again. Messages are read as JSON values, so
//! additions of a newer QEMU (events, fields) do no harm; only a typed answer must fit its type.

mod connection;
mod lines;
mod message;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

pub use message::QmpEvent;

use connection::{Connection, Request};
use lines::Lines;

/// How many events a slow reader may be behind before it loses the oldest.
const EVENT_BACKLOG: usize = 1024;
/// How many requests may wait to be sent before callers wait as well.
const REQUEST_BACKLOG: usize = 64;

/// A handle to the connection; clones are handles to the same one. It is closed when the last is
/// dropped.
#[derive(Debug, Clone)]
pub struct Qmp {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: mpsc::Sender<Request>,
    events: broadcast::WeakSender<QmpEvent>,
    /// For the first subscriber: it has every event since the greeting.
    first: Mutex<Option<broadcast::Receiver<QmpEvent>>>,
    closed: watch::Receiver<Option<Arc<str>>>,
    version: Value,
}

impl Qmp {
    /// Reads the greeting on a fresh connection, and leaves the mode in which QEMU accepts no
    /// commands.
    ///
    /// # Errors
    /// `DeadlineExceeded`; `Unavailable` if the connection ends; `DataLoss` if the other side is
    /// not QEMU.
    pub async fn start(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        deadline: Duration,
    ) -> Result<Self> {
        let (reader, writer) = tokio::io::split(stream);
        let mut lines = Lines::new(reader);
        let greet = async {
            let line = lines.next().await.map_err(Error::unavailable)?;
            message::greeting(&line)
        };
        let begun = tokio::time::Instant::now();
        let doing = "connect to QEMU over QMP";
        let version = timeout(deadline, greet).await.map_err(|_| {
            Error::deadline_exceeded(format!(
                "{doing}: no greeting within {}",
                Span::from(deadline)
            ))
        })?;
        let version = version.context(doing)?;

        let (requests, incoming) = mpsc::channel(REQUEST_BACKLOG);
        let (events, first) = broadcast::channel(EVENT_BACKLOG);
        let (closing, closed) = watch::channel(None);
        let weak = events.downgrade();
        tokio::spawn(Connection::new(lines, writer, incoming, events).run(closing));
        let shared =
            Shared { requests, events: weak, first: Mutex::new(Some(first)), closed, version };
        let qmp = Self { shared: Arc::new(shared) };
        let rest = deadline.saturating_sub(begun.elapsed());
        qmp.execute_value("qmp_capabilities", serde_json::json!({}), rest).await.context(doing)?;
        Ok(qmp)
    }

    /// The version in QEMU's greeting, as `{"qemu": {"major": 7, …}, "package": …}`.
    pub fn version(&self) -> &Value {
        &self.shared.version
    }

    /// Executes a command, and waits for its answer. A dropped or overdue call leaves the
    /// connection usable; the command may or may not be executed then.
    ///
    /// # Errors
    /// QEMU's error (`Unimplemented` for a command that it lacks, `NotFound` for a missing device,
    /// else `FailedPrecondition`); `DeadlineExceeded`; `Unavailable` at once if the connection
    /// ends; `DataLoss` for an answer that does not fit its type.
    pub async fn execute<C: qapi::Command>(&self, command: C, deadline: Duration) -> Result<C::Ok> {
        let arguments = serde_json::to_value(&command).map_err(|error| {
            Error::internal(format!("write the QMP command {}", C::NAME)).with_source(error)
        })?;
        // A command that another version of QEMU knows may have no arguments at all.
        let arguments = if arguments.is_null() { serde_json::json!({}) } else { arguments };
        let answer = self.execute_value(C::NAME, arguments, deadline).await?;
        serde_json::from_value(answer).map_err(|error| {
            Error::data_loss(format!("QEMU's answer to {} is not as expected", C::NAME))
                .with_source(error)
                .with_hint("use an older QEMU: this version may be newer than the supported ones")
        })
    }

    /// As [`Qmp::execute`], untyped: for commands and answers that the types do not know.
    ///
    /// # Errors
    /// The errors of [`Qmp::execute`], without `DataLoss`.
    pub async fn execute_value(
        &self,
        name: &str,
        arguments: Value,
        deadline: Duration,
    ) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let request = Request { name: name.to_owned(), arguments, answer };
        let exchange = async {
            let sent = self.shared.requests.send(request).await.is_ok();
            // The task drops the sender of the answer when the connection ends.
            match answered.await {
                Ok(answer) if sent => answer,
                _ => Err(self.closed_error(name).await),
            }
        };
        timeout(deadline, exchange).await.unwrap_or_else(|_| {
            let span = Span::from(deadline);
            Err(Error::deadline_exceeded(format!(
                "QEMU did not answer the QMP command {name} within {span}"
            )))
        })
    }

    /// The events from now on; the first call gets all since the greeting. A reader that is more
    /// than 1024 events behind loses the oldest and gets `Lagged` with their number. Ends with the
    /// connection.
    pub fn events(&self) -> broadcast::Receiver<QmpEvent> {
        let first = self.shared.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first
            .or_else(|| self.shared.events.upgrade().map(|sender| sender.subscribe()))
            .unwrap_or_else(|| {
                // The connection has ended: so has this.
                broadcast::channel(1).1
            })
    }

    /// Waits until the connection has ended, and returns the reason. Cancelling changes nothing.
    pub async fn closed(&self) -> Arc<str> {
        let mut closed = self.shared.closed.clone();
        let reason = closed.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_else(|| "the task that owned it was dropped".into())
    }

    /// The reason for the end of the connection, if it has ended.
    pub fn closed_reason(&self) -> Option<Arc<str>> {
        self.shared.closed.borrow().clone()
    }

    async fn closed_error(&self, name: &str) -> Error {
        let reason = self.closed().await;
        Error::unavailable(format!("QEMU cannot answer the QMP command {name}: {reason}"))
    }
}

#[cfg(test)]
mod tests;
