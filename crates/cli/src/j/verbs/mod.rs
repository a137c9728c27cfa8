//! The verbs of drivers, by interface.

use jumpstarter_driver_core::{Node, PROTOCOL_LABEL};

use super::verb::Verb;

mod file_storage;
mod flasher;
mod folder_server;
mod gpio;
mod machine;
mod network;
mod power;
mod qemu;
mod screen;
mod serial;
mod ssh;
mod storage;
mod uboot;
mod video;

/// The verbs of an interface, by its name. Empty if the interface has no verbs.
pub(crate) fn of(interface: &str) -> &'static [Verb] {
    match interface {
        "power" | "virtual-power" => power::VERBS,
        "flasher" => flasher::VERBS,
        "network" => network::VERBS,
        "serial" => serial::VERBS,
        "storage" => file_storage::VERBS,
        "http_server" | "tftp_server" => folder_server::VERBS,
        "storage_mux" => storage::VERBS,
        "machine" => machine::VERBS,
        "ssh" => ssh::VERBS,
        "vnc" => screen::VERBS,
        "video" => video::VERBS,
        "uboot" => uboot::VERBS,
        "qemu" => qemu::VERBS,
        "gpio-pin" => gpio::PIN,
        "gpio-edges" => gpio::EDGES,
        _ => &[],
    }
}

/// The verbs of drivers that are recognised by their client class.
pub(crate) fn of_client(client: &str) -> &'static [Verb] {
    match client {
        power::VIRTUAL_CLIENT => power::VIRTUAL_VERBS,
        client if gpio::CLIENTS.contains(&client) => gpio::READ,
        _ => &[],
    }
}

/// The verbs of a network endpoint whose label names its protocol.
pub(crate) fn of_protocol(node: &Node) -> &'static [Verb] {
    let mut labels = node.labels().iter();
    match labels.find(|(name, _)| name == PROTOCOL_LABEL).map(|(_, value)| value.as_str()) {
        Some("vnc") => screen::VERBS,
        _ => &[],
    }
}

/// The verb that is meant where none is said, by the interface's name.
pub(crate) fn default_of(interface: &str) -> Option<&'static Verb> {
    match interface {
        "ssh" => ssh::VERBS.first(),
        _ => None,
    }
}

/// Methods that the verbs of their interface already cover.
pub(crate) fn covered(interface: &str) -> &'static [&'static str] {
    match interface {
        "network" | "serial" => &["connect"],
        "machine" => &["wait_for"],
        "power-cycle" => &["cycle"],
        "shell" => &["get_methods", "call_method"],
        "video" => &["connect"],
        "vnc" => &["get_default_encrypt"],
        "storage" => file_storage::COVERED,
        "ssh" => &["get_default_username", "get_ssh_command", "get_ssh_identity"],
        "qemu" => &["set_disk_size", "set_memory_size"],
        _ => &[],
    }
}
