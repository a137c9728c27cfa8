//! Images that the exporter fetches or sends: its log reports their progress to clients.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jumpstarter_driver_core::image::{ImageRequest, Progress};
use jumpstarter_driver_core::{ByteSize, Node};
use jumpstarter_protocol::fields;
use tracing::Level;

use crate::Session;
use crate::logs::{LogHub, LogRecord, LogSource, LogTopic};

/// The time between two records of a transfer.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts the bytes of one transfer for the metrics, and reports them to clients at intervals.
pub(crate) struct Watch<C> {
    hub: LogHub,
    record: LogRecord,
    count: C,
    state: Mutex<State>,
}

struct State {
    counted_bytes: u64,
    told: Instant,
}

impl<C: Fn(usize)> Watch<C> {
    /// Starts a transfer: `doing` is "downloading", for example. `count` receives the bytes of each
    /// piece.
    pub(crate) fn new(
        session: &Session,
        node: &Node,
        method: &str,
        (doing, request): (&str, &ImageRequest),
        count: C,
    ) -> Self {
        let mut record =
            LogRecord::new(Level::INFO, LogSource::Driver, format!("{doing} {request}"));
        record.topic = LogTopic::Progress;
        record.driver = Some(node.path().to_owned());
        record.driver_type = Some(session.0.directory.category(node).to_owned());
        record.operation = Some(method.to_owned());
        record
            .fields
            .insert(fields::TRANSFER_DRIVER.to_owned(), session.0.directory.uuid(node).to_owned());
        record.fields.insert(fields::TRANSFER_URL.to_owned(), request.to_string());
        let state = Mutex::new(State { counted_bytes: 0, told: Instant::now() });
        Self { hub: session.0.options.logs.clone(), record, count, state }
    }

    /// Updates the progress. The last update is done or has all bytes.
    pub(crate) fn tell(&self, progress: Progress, is_done: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let more = progress.transferred_bytes.saturating_sub(state.counted_bytes);
        state.counted_bytes += more;
        let is_due = state.told.elapsed() >= INTERVAL;
        if is_due {
            state.told = Instant::now();
        }
        drop(state);
        (self.count)(usize::try_from(more).unwrap_or(usize::MAX));
        if is_due || is_done {
            self.hub.publish(self.record(progress, is_done));
        }
    }

    fn record(&self, progress: Progress, is_done: bool) -> LogRecord {
        let mut record = self.record.clone();
        record.time = std::time::SystemTime::now();
        let size = |bytes| ByteSize::bytes(bytes).to_string();
        let total =
            progress.total_bytes.map(|total| format!(" of {}", size(total))).unwrap_or_default();
        record.message.push_str(&format!(": {}{total}", size(progress.transferred_bytes)));
        let mut field = |name: &str, value: String| record.fields.insert(name.to_owned(), value);
        field(fields::TRANSFER_BYTES, progress.transferred_bytes.to_string());
        if let Some(total) = progress.total_bytes {
            field(fields::TRANSFER_TOTAL, total.to_string());
        }
        if is_done {
            field(fields::TRANSFER_DONE, true.to_string());
        }
        record
    }
}
