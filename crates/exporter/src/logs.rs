//! The log for clients: records of drivers, hooks and the exporter go to every listening client.

mod hub;
mod layer;
mod record;

pub use hub::{LogHub, Subscription};
pub use layer::LogLayer;
pub(crate) use record::{CALLS, VISITS};
pub use record::{LogRecord, LogSelection, LogSource, LogTopic};
