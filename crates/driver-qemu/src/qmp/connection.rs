//! The task that owns the connection.

use std::collections::HashMap;
use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::lines::Lines;
use super::message::{Message, QmpEvent};

/// The most unwritten bytes; above it no further request is accepted.
const UNWRITTEN_LIMIT: usize = 1 << 20;
/// The most missing answers; above it no further request is accepted.
const UNANSWERED_LIMIT: usize = 1024;

/// A command, and the receiver of its answer.
pub(super) struct Request {
    pub(super) name: String,
    pub(super) arguments: Value,
    pub(super) answer: oneshot::Sender<Result<Value>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments may carry secrets (`set_password`).
        f.debug_struct("Request").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A command whose answer is missing.
struct Unanswered {
    name: String,
    answer: oneshot::Sender<Result<Value>>,
}

pub(super) struct Connection<R, W> {
    lines: Lines<R>,
    writer: W,
    requests: mpsc::Receiver<Request>,
    events: broadcast::Sender<QmpEvent>,
    unanswered: HashMap<u64, Unanswered>,
    unwritten: Vec<u8>,
    next_id: u64,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    pub(super) fn new(
        lines: Lines<R>,
        writer: W,
        requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<QmpEvent>,
    ) -> Self {
        Self {
            lines,
            writer,
            requests,
            events,
            unanswered: HashMap::new(),
            unwritten: Vec::new(),
            next_id: 1,
        }
    }

    /// Runs until the connection ends or the last handle is dropped; then publishes the reason.
    pub(super) async fn run(mut self, closing: watch::Sender<Option<Arc<str>>>) {
        let reason = self.exchange().await;
        tracing::debug!(reason, "QMP has ended");
        // The reason is published first; then `self`, with the waiting callers, is dropped.
        closing.send_replace(Some(reason.into()));
    }

    async fn exchange(&mut self) -> String {
        loop {
            let may_take =
                self.unwritten.len() < UNWRITTEN_LIMIT && self.unanswered.len() < UNANSWERED_LIMIT;
            // Each branch loses nothing when another one is faster.
            tokio::select! {
                line = self.lines.next() => match line.and_then(|line| Message::parse(&line)) {
                    Ok(message) => self.receive(message),
                    Err(reason) => return reason,
                },
                written = self.writer.write(&self.unwritten), if !self.unwritten.is_empty() => match written {
                    Ok(0) => return "QEMU takes no more commands".to_owned(),
                    Ok(count) => drop(self.unwritten.drain(..count)),
                    // QEMU's last messages, such as the reason for its end, must still be read.
                    Err(_) => self.unwritten.clear(),
                },
                request = self.requests.recv(), if may_take => match request {
                    Some(request) => self.take(request),
                    None => return "nobody uses the connection any more".to_owned(),
                },
            }
        }
    }

    fn take(&mut self, Request { name, arguments, answer }: Request) {
        if answer.is_closed() {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        tracing::trace!(id, name, "QMP command");
        let message = json!({"execute": name, "arguments": arguments, "id": id});
        self.unwritten.extend_from_slice(message.to_string().as_bytes());
        self.unwritten.push(b'\n');
        self.unanswered.insert(id, Unanswered { name, answer });
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Event(event) => {
                tracing::debug!(name = event.name, data = %event.data, "QMP event");
                // An event without a listener is fine.
                self.events.send(event).ok();
            }
            Message::Answer(id, result) => match id.and_then(|id| self.unanswered.remove(&id)) {
                Some(Unanswered { name, answer }) => {
                    // The caller may have given up.
                    answer.send(result.map_err(|failure| failure.into_error(&name))).ok();
                }
                None => tracing::warn!(?id, "QMP answer to nothing that was asked"),
            },
            Message::Other => tracing::warn!("QMP message of an unknown kind"),
        }
    }
}
