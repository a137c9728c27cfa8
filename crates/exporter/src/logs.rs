//! The log that clients see: records of drivers, hooks and the exporter go to every client that
//! listens.

mod hub;
mod layer;
mod record;

pub use hub::{LogHub, Subscription};
pub use layer::LogLayer;
pub(crate) use record::{CALLS, VISITS};
pub use record::{LogRecord, LogSource, LogTopic};
