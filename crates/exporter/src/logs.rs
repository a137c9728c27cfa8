//! The log: records of drivers, hooks and the exporter go to standard error and to every client
//! that listens.

mod format;
mod hub;
mod output;
mod record;

use std::collections::BTreeMap;

use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_text::truncated;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub use format::LogFormat;
pub use hub::{LogHub, Subscription};
use output::Output;
pub use output::flush;
pub(crate) use record::Topic;
pub use record::{Record, Source};

/// Of a message, or of one field: clients accept no records of some megabytes, and would lose the
/// log with one.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// The target of records about clients that come and go.
pub(crate) const VISITS: &str = "jumpstarter_exporter::visits";

/// The layer of `tracing` that feeds a hub and standard error.
#[derive(Debug)]
pub struct LogLayer {
    hub: LogHub,
    output: Output,
    /// Standard error gets a line for each call, not only for those that fail.
    every_call: bool,
}

impl LogLayer {
    /// Feeds `hub`, and writes to standard error in `format`.
    pub fn new(hub: LogHub, format: LogFormat) -> Self {
        Self { hub, output: Output::direct(format), every_call: false }
    }

    fn is_written(&self, record: &Record) -> bool {
        let wanted = self.every_call || record.topic != Topic::Call || record.level < Level::INFO;
        wanted && self.hub.is_shown(record)
    }
}

/// Has everything that this process logs at `level` and above go to standard error and to the hub
/// that is returned.
///
/// # Errors
/// `AlreadyExists` when the process has a log already.
pub fn install(level: Level, format: LogFormat) -> Result<LogHub> {
    use tracing_subscriber::layer::SubscriberExt;
    let hub = LogHub::default();
    // What the libraries below say of each frame would drown the rest.
    let quiet = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "tokio_util"];
    let filter = Targets::new()
        .with_default(level)
        .with_targets(quiet.map(|target| (target, Level::WARN.min(level))));
    let (output, every_call) = (Output::on_thread(format), level >= Level::DEBUG);
    let layer = LogLayer { hub: hub.clone(), output, every_call }.with_filter(filter);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).map_err(
        |error| {
            Error::new(ErrorKind::AlreadyExists, "this process has a log already")
                .with_source(error)
        },
    )?;
    log_panics(format);
    Ok(hub)
}

/// Has panics be lines of the log: what a driver panics with may come from elsewhere.
/// `RUST_BACKTRACE` shows more.
fn log_panics(format: LogFormat) {
    let (output, default) = (Output::direct(format), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("without a message");
        let message = format!("a panic at {place}: {}", truncated(text, MAX_TEXT_BYTES));
        // Not through `tracing`, where it may have happened.
        output.write(&Record::new(Level::ERROR, Source::System, message));
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(panic);
        }
    }));
}

/// What an event or a span says.
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

/// Which call a span is of.
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
        let of_driver = metadata.target().starts_with("jumpstarter_driver_");
        let own = metadata.target().starts_with("jumpstarter_exporter");
        let source = match metadata.target() {
            crate::hooks::BEFORE => Source::BeforeLeaseHook,
            crate::hooks::AFTER => Source::AfterLeaseHook,
            crate::operation::TARGET => Source::Driver,
            _ if of_driver => Source::Driver,
            _ => Source::System,
        };
        let mut record = Record::new(*metadata.level(), source, fields.message);
        record.fields = fields.named;
        record.topic = match metadata.target() {
            crate::operation::TARGET => Topic::Call,
            VISITS => Topic::Visit,
            _ => Topic::Other,
        };
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans {
            if let Some(call) = span.extensions().get::<Call>() {
                record.driver.clone_from(&call.driver);
                record.driver_type.clone_from(&call.driver_type);
                record.operation.clone_from(&call.operation);
                if !own {
                    record.source = Source::Driver;
                }
                break;
            }
        }
        if self.is_written(&record) {
            self.output.write(&record);
        }
        if record.topic != Topic::Visit {
            self.hub.publish(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jumpstarter_protocol::v1::LogSource;
    use tracing_subscriber::layer::SubscriberExt;

    #[tokio::test]
    async fn endless_texts_are_cut() {
        let hub = LogHub::default();
        let mut subscription = hub.subscribe();
        let layer = LogLayer::new(hub, LogFormat::Text);
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
        let layer = LogLayer::new(hub, LogFormat::Text);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let (driver, driver_type) = ("rack.relay", "power");
            let _entered =
                tracing::info_span!("call", driver, driver_type, operation = "on").entered();
            tracing::warn!(target: "acme", volts = 3, "low");
        });
        let wire = subscription.next().await.to_wire("id");
        assert_eq!((wire.severity.as_str(), wire.source()), ("WARNING", LogSource::Driver));
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
