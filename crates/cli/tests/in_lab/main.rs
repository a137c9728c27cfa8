//! `jmp` and `j` as clients of a lab: a controller, an exporter that joined it, and commands.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../support/inside.rs"]
mod inside;
#[path = "../support/lab.rs"]
mod lab;
#[path = "../support/terminal.rs"]
mod terminal;

mod bench;
mod choice;
mod devices;
mod faults;
mod shell;
mod tables;
mod upstream;
mod watch;
