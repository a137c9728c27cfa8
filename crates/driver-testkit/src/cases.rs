//! The cases, one file a group, and the one list of them.

mod echo;
mod flasher;
mod generic;
mod loopback;
mod network;
mod power;
mod serial;
mod shell;
mod storage;
mod storage_mux;
mod uboot;
mod video;
mod virtual_power;
mod vnc;

use crate::case::Case;

/// The interfaces of driver-core, whose own cases drop their streams and channels.
pub(crate) const OF_CORE: &[&str] =
    &["power", "network", "serial", "flasher", "shell", "storage", "storage_mux"];

/// The cases of a group: `generic`, an interface's name, or an option's (`echo`, `loopback`).
pub fn of(group: &str) -> &'static [Case] {
    match group {
        "generic" => crate::__cases!(table generic),
        "power" => crate::__cases!(table power),
        "network" => crate::__cases!(table network),
        "echo" => crate::__cases!(table echo),
        "serial" => crate::__cases!(table serial),
        "loopback" => crate::__cases!(table loopback),
        "flasher" => crate::__cases!(table flasher),
        "shell" => crate::__cases!(table shell),
        "storage" => crate::__cases!(table storage),
        "storage_mux" => crate::__cases!(table storage_mux),
        "virtual_power" => crate::__cases!(table virtual_power),
        "video" => crate::__cases!(table video),
        "vnc" => crate::__cases!(table vnc),
        "uboot" => crate::__cases!(table uboot),
        _ => &[],
    }
}

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        "generic",
        "power",
        "network",
        "echo",
        "serial",
        "loopback",
        "flasher",
        "shell",
        "storage",
        "storage_mux",
        "virtual_power",
        "video",
        "vnc",
        "uboot",
    ]
    .into_iter()
    .flat_map(of)
}
