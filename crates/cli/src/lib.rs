//! The `jmp` and `j` commands as a library, so that a binary with further drivers is three lines:
//!
//! ```no_run
//! # mod acme_relay {}
//! use acme_relay as _; // a crate that is not named in code is not linked
//!
//! fn main() -> std::process::ExitCode {
//!     jumpstarter_cli::main()
//! }
//! ```
//!
//! Exit codes: 0 for success, 1 when a file has faults or the command failed, 2 for a wrong command
//! line.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use jumpstarter_driver_flasher as _;
use jumpstarter_driver_gpiod as _;
use jumpstarter_driver_http as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_opendal as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_python as _;
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_serial as _;
use jumpstarter_driver_shell as _;
use jumpstarter_driver_ssh as _;
use jumpstarter_driver_tftp as _;
use jumpstarter_driver_uboot as _;
use jumpstarter_driver_video as _;
use jumpstarter_driver_vnc as _;

pub use environment::Environment;

mod arguments;
mod auth;
mod check;
mod config;
mod controller;
mod doctor;
mod drivers;
mod environment;
mod fault;
mod format;
mod forward;
mod hosted;
mod j;
mod lab;
mod login;
mod new;
mod open;
mod outline;
mod packaging;
mod print;
mod remote;
mod run;
mod runtime;
mod schema;
mod serving;
mod shell;
mod table;
mod target;
mod terminal;
mod version;

/// Runs `jmp` with the arguments of this process, or `j` if that is the program's name.
pub fn main() -> ExitCode {
    // A program of another name may have other drivers, whose verbs the `j` beside it may lack.
    if std::env::current_exe().is_ok_and(|program| program.file_name() != Some("jmp".as_ref())) {
        jumpstarter_daemon::be_j();
    }
    of_process(std::env::args_os().collect())
}

/// Runs `j`, the client of one device, with the arguments of this process. `jmp j` is the same, and
/// so is a `jmp` that is called by the name `j`.
pub fn j() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    of_process(std::iter::once("j".into()).chain(arguments).collect())
}

fn of_process(arguments: Vec<OsString>) -> ExitCode {
    jumpstarter_supervise::survive_file_size_limit();
    print::panics();
    ExitCode::from(run(arguments, &Environment::of_process()))
}

/// Runs a command line and returns its exit code. The first argument is the program's name: `j`
/// runs `j`, any other name runs `jmp`.
///
/// Text goes to the streams of `environment`. Bytes (images, consoles, `j stream`) use the standard
/// streams of this process. A reader that closes its end (`jmp schema | head`) ends the command
/// quietly.
///
/// Not for async code: commands create their own runtime.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString>>,
    environment: &Environment,
) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let program = arguments.first().map(Path::new).and_then(Path::file_stem);
    match program.is_some_and(|name| name == "j") {
        true => j::run(&arguments, None, environment),
        false => arguments::execute(&arguments, environment),
    }
}
