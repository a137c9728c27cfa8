//! Distributes the log's records to listening clients; a later client first gets the last records.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tracing::Level;

use super::record::{LogRecord, LogSelection, LogSource, LogTopic};

/// The most records that one client may be behind.
const QUEUE: usize = 1024;
/// The records that are kept for later clients, as in the exporter in Python.
const BACKLOG: usize = 256;

/// Distributes each record to every subscriber. Clones share the hub.
#[derive(Clone, Debug, Default)]
pub struct LogHub(Arc<Hub>);

#[derive(Debug, Default)]
struct Hub {
    listeners: Mutex<Listeners>,
    /// The fields that the operator's records have: the lease and its client.
    lease: Mutex<Vec<(&'static str, String)>>,
}

#[derive(Debug, Default)]
struct Listeners {
    queues: Vec<Weak<Queue>>,
    /// The last records of this lease, the oldest first.
    backlog: VecDeque<Arc<LogRecord>>,
}

#[derive(Debug, Default)]
struct Queue {
    selection: LogSelection,
    state: Mutex<Pending>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    records: VecDeque<Arc<LogRecord>>,
    lost: u64,
}

impl LogHub {
    /// Subscribes to the last records of this lease, and to every new one.
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_to(LogSelection::All)
    }

    /// As [`subscribe`](Self::subscribe), to some of the records: the others wake up nobody.
    pub fn subscribe_to(&self, selection: LogSelection) -> Subscription {
        let mut listeners = self.listeners();
        let backlog = listeners.backlog.iter();
        let records = backlog.filter(|record| selection.has(record)).cloned().collect();
        let queue = Arc::new(Queue {
            selection,
            state: Mutex::new(Pending { records, lost: 0 }),
            news: Notify::default(),
        });
        listeners.queues.retain(|queue| queue.strong_count() > 0);
        listeners.queues.push(Arc::downgrade(&queue));
        Subscription(queue)
    }

    /// Forgets earlier records: clients of the next lease do not see them.
    pub fn begin_lease(&self) {
        self.listeners().backlog.clear();
    }

    /// Sets the lease and the client that each of the operator's records names from now on, or that
    /// there is none.
    pub fn set_lease(&self, lease: Option<(&str, &str)>) {
        let fields = lease.map(|(lease, client)| {
            vec![("lease", lease.to_owned()), ("client", client.to_owned())]
        });
        *self.0.lease.lock().unwrap_or_else(PoisonError::into_inner) = fields.unwrap_or_default();
    }

    /// The fields of the operator's records.
    pub(super) fn lease_fields(&self) -> Vec<(&'static str, String)> {
        self.0.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Distributes a record. Never waits: a slow listener loses its oldest records.
    pub fn publish(&self, record: LogRecord) {
        let mut listeners = self.listeners();
        let record = Arc::new(record);
        if record.topic != LogTopic::Progress {
            if listeners.backlog.len() >= BACKLOG {
                listeners.backlog.pop_front();
            }
            listeners.backlog.push_back(record.clone());
        }
        let queues = listeners.queues.iter().filter_map(Weak::upgrade);
        for queue in queues.filter(|queue| queue.selection.has(&record)) {
            let mut pending = queue.state.lock().unwrap_or_else(PoisonError::into_inner);
            if pending.records.len() >= QUEUE {
                pending.records.pop_front();
                pending.lost += 1;
            }
            pending.records.push_back(record.clone());
            drop(pending);
            queue.news.notify_one();
        }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records for one listener; dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription(Arc<Queue>);

impl Subscription {
    /// Returns the next record. Cancelling loses nothing. After lost records, the first one says
    /// how many.
    pub async fn next(&mut self) -> Arc<LogRecord> {
        loop {
            {
                let mut pending = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
                if pending.lost > 0 {
                    let message = format!(
                        "{} log records were lost: this client reads too slowly",
                        pending.lost
                    );
                    pending.lost = 0;
                    return Arc::new(LogRecord::new(Level::WARN, LogSource::System, message));
                }
                if let Some(record) = pending.records.pop_front() {
                    return record;
                }
            }
            self.0.news.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: impl Into<String>) -> LogRecord {
        LogRecord::new(Level::INFO, LogSource::System, text)
    }

    #[tokio::test]
    async fn a_slow_client_loses_its_oldest_and_is_told() {
        let hub = LogHub::default();
        let (mut slow, mut quick) = (hub.subscribe(), hub.subscribe());
        for number in 0..QUEUE + 10 {
            hub.publish(record(number.to_string()));
            assert_eq!(quick.next().await.message, number.to_string());
        }
        assert_eq!(
            slow.next().await.message,
            "10 log records were lost: this client reads too slowly"
        );
        assert_eq!(slow.next().await.message, "10");
    }

    #[tokio::test]
    async fn who_listens_to_hooks_gets_nothing_else() {
        let hub = LogHub::default();
        let publish = |source, text: &str| {
            hub.publish(LogRecord::new(Level::INFO, source, text.to_owned()));
        };
        publish(LogSource::BeforeLeaseHook, "first");
        publish(LogSource::Driver, "a call");
        let mut hooks = hub.subscribe_to(LogSelection::Hooks);
        for _ in 0..QUEUE {
            publish(LogSource::System, "much else");
        }
        publish(LogSource::AfterLeaseHook, "last");
        assert_eq!(hooks.next().await.message, "first");
        assert_eq!(hooks.next().await.message, "last");
    }

    #[tokio::test]
    async fn a_late_client_gets_the_last_records_of_this_lease_only() {
        let hub = LogHub::default();
        hub.publish(record("another user's"));
        hub.begin_lease();
        for number in 0..BACKLOG + 10 {
            hub.publish(record(number.to_string()));
        }
        let mut late = hub.subscribe();
        hub.publish(record("now"));
        for number in 10..BACKLOG + 10 {
            assert_eq!(late.next().await.message, number.to_string());
        }
        assert_eq!(late.next().await.message, "now");
        hub.begin_lease();
        let mut next = hub.subscribe();
        hub.publish(record("next"));
        assert_eq!(next.next().await.message, "next");
    }
}
