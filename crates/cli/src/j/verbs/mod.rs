//! What is said to drivers, by interface.

use anyhow::Result;
use clap::ArgMatches;
use futures_util::future::BoxFuture;

use super::context::Context;

mod flasher;
mod machine;
mod network;
mod power;
mod qemu;
mod serial;
mod storage;

/// Something that is said to a driver: `on`, `flash`, `forward-tcp`.
#[derive(Debug)]
pub(crate) struct Verb {
    /// Its name; where a method of the interface has the same name, that one's documentation is
    /// the help.
    pub(crate) name: &'static str,
    /// Adds what it takes and examples, which say `{path}` for what is said before the verb (`j
    /// qemu power`).
    pub(crate) command: fn(clap::Command) -> clap::Command,
    /// Does it and answers the exit code. Ctrl-C drops the future, unless it awaits
    /// [`Context::interrupted`].
    pub(crate) run: for<'a> fn(&'a Context, &'a ArgMatches) -> BoxFuture<'a, Result<u8>>,
}

impl Verb {
    /// Its command, without the documentation of a method.
    pub(crate) fn plain_command(&self) -> clap::Command {
        (self.command)(clap::Command::new(self.name))
    }
}

/// The verbs of an interface, by its name; none for an interface that has no verbs of its own.
pub(crate) fn of(interface: &str) -> &'static [Verb] {
    match interface {
        "power" => power::VERBS,
        "flasher" => flasher::VERBS,
        "network" => network::VERBS,
        "serial" => serial::VERBS,
        "machine" => machine::VERBS,
        "qemu" => qemu::VERBS,
        _ => &[],
    }
}

/// The verbs of drivers that only their client class tells.
pub(crate) fn of_client(client: &str) -> &'static [Verb] {
    match client {
        power::VIRTUAL_CLIENT => power::VIRTUAL_VERBS,
        client if storage::CLIENTS.contains(&client) => storage::VERBS,
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
