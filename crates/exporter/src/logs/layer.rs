//! The `tracing` layer that makes records of events of drivers, hooks and the exporter.

use std::collections::BTreeMap;
use std::fmt;

use jumpstarter_text::truncated;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::hub::LogHub;
use super::record::{CALLS, LogRecord, LogSource, LogTopic, VISITS};

/// The longest message or field: clients reject records of some megabytes, and would lose the log.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// A further destination of every record.
type Output = Box<dyn Fn(&LogRecord) + Send + Sync>;

/// The layer of `tracing` that publishes what is logged to a hub.
pub struct LogLayer {
    hub: LogHub,
    output: Option<Output>,
}

impl fmt::Debug for LogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl LogLayer {
    /// Publishes to `hub`.
    pub fn new(hub: LogHub) -> Self {
        Self { hub, output: None }
    }

    /// Passes every record to `output` as well, including those about clients that come and go,
    /// which clients do not see.
    #[must_use]
    pub fn with_output(mut self, output: impl Fn(&LogRecord) + Send + Sync + 'static) -> Self {
        self.output = Some(Box::new(output));
        self
    }
}

/// The fields of an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    named: BTreeMap<String, String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = truncated(value, MAX_TEXT_BYTES).into_owned(),
            name => {
                self.named.insert(name.to_owned(), truncated(value, MAX_TEXT_BYTES).into_owned());
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// The call that a span belongs to.
struct Call {
    driver: Option<String>,
    driver_type: Option<String>,
    operation: Option<String>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut field = |name| fields.named.remove(name);
        let call = Call {
            driver: field("driver"),
            driver_type: field("driver_type"),
            operation: field("operation"),
        };
        if let Some(span) = context.span(id).filter(|_| call.operation.is_some()) {
            span.extensions_mut().insert(call);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let own = metadata.target().starts_with("jumpstarter_exporter");
        let source = LogSource::from_target(metadata.target());
        let mut record = LogRecord::new(*metadata.level(), source, fields.message);
        record.fields = fields.named;
        record.topic = match metadata.target() {
            CALLS => LogTopic::Call,
            VISITS => LogTopic::Visit,
            _ => LogTopic::Other,
        };
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans {
            if let Some(call) = span.extensions().get::<Call>() {
                record.driver.clone_from(&call.driver);
                record.driver_type.clone_from(&call.driver_type);
                record.operation.clone_from(&call.operation);
                if !own {
                    record.source = LogSource::Driver;
                }
                break;
            }
        }
        if let Some(output) = &self.output {
            let lease = self.hub.lease_fields();
            let added = lease.into_iter().filter(|(name, value)| {
                let is_new = !record.fields.contains_key(*name) && !value.is_empty();
                if is_new {
                    record.fields.insert((*name).to_owned(), value.clone());
                }
                is_new
            });
            // Clients know their own lease.
            let added: Vec<_> = added.collect();
            output(&record);
            for (name, _) in added {
                record.fields.remove(name);
            }
        }
        if record.topic != LogTopic::Visit {
            self.hub.publish(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_protocol::v1::LogSource as WireSource;
    use tracing_subscriber::layer::SubscriberExt;

    #[tokio::test]
    async fn endless_texts_are_cut() {
        let hub = LogHub::default();
        let mut subscription = hub.subscribe();
        let layer = LogLayer::new(hub);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let text = "ü".repeat(1_500_000);
            let _entered = tracing::info_span!("call", driver = text, operation = text).entered();
            tracing::warn!(target: "acme", text, "{text}");
        });
        let record = subscription.next().await;
        assert!(record.message.starts_with("ü") && record.message.ends_with("ü…"));
        let wire = prost::Message::encoded_len(&record.to_wire("id"));
        assert!((MAX_TEXT_BYTES..8 * MAX_TEXT_BYTES).contains(&wire), "{wire} bytes");
    }

    #[tokio::test]
    async fn records_say_which_call_they_are_of() {
        let hub = LogHub::default();
        let mut subscription = hub.subscribe();
        let layer = LogLayer::new(hub);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (driver, driver_type) = ("rack.relay", "power");
            let _entered =
                tracing::info_span!("call", driver, driver_type, operation = "on").entered();
            tracing::warn!(target: "acme", volts = 3, "low");
        });
        let wire = subscription.next().await.to_wire("id");
        assert_eq!((wire.severity.as_str(), wire.source()), ("WARNING", WireSource::Driver));
        assert_eq!((wire.driver_type(), wire.operation()), ("power", "on"));
        assert_eq!(wire.structured_fields["volts"], "3");
        assert_eq!(wire.structured_fields["driver"], "rack.relay");
        assert_eq!(
            wire.message, "low volts=3",
            "clients show the message alone: the path is not in it"
        );
        assert!(wire.timestamp.unwrap().seconds > 0);
    }
}
