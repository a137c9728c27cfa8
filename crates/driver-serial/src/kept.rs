//! Ports that go on logging after their driver was closed: between the leases of an exporter.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::SerialPort;
use crate::config::SerialConfig;

/// The ports that log while no driver has them.
static KEPT: Mutex<Vec<SerialPort>> = Mutex::new(Vec::new());

fn kept() -> MutexGuard<'static, Vec<SerialPort>> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the device of a closed port open, and its log.
pub(crate) fn keep(port: SerialPort) {
    kept().push(port);
}

/// The port of a configuration that was kept; one of the same device with another configuration is
/// closed, since a device is opened once.
pub(crate) fn take(config: &SerialConfig) -> Option<SerialPort> {
    let found: Vec<_> = kept().extract_if(.., |port| port.address() == &config.url).collect();
    let mut same = None;
    for port in found {
        match port.has(config) {
            true => same = Some(port),
            false => port.end(),
        }
    }
    same
}
