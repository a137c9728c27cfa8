//! What is said to drivers, by interface.

use super::verb::Verb;

mod flasher;
mod machine;
mod network;
mod power;
mod qemu;
mod serial;
mod storage;

/// The verbs of an interface, by its name; none for an interface that has no verbs of its own.
pub(crate) fn of(interface: &str) -> &'static [Verb] {
    match interface {
        "power" => power::VERBS,
        "flasher" => flasher::VERBS,
        "network" => network::VERBS,
        "serial" => serial::VERBS,
        "storage_mux" => storage::VERBS,
        "machine" => machine::VERBS,
        "qemu" => qemu::VERBS,
        _ => &[],
    }
}

/// The verbs of drivers that only their client class tells.
pub(crate) fn of_client(client: &str) -> &'static [Verb] {
    match client {
        power::VIRTUAL_CLIENT => power::VIRTUAL_VERBS,
        _ => &[],
    }
}

/// Methods that need no verb: the verbs of their interface do what they do.
pub(crate) fn covered(interface: &str) -> &'static [&'static str] {
    match interface {
        "network" | "serial" => &["connect"],
        "machine" => &["wait_for"],
        "qemu" => &["set_disk_size", "set_memory_size"],
        _ => &[],
    }
}
