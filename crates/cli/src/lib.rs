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
//! Exit codes: 0 when all is well, 1 when a file has faults or the command failed, 2 for a wrong
//! command line.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_serial as _;

use arguments::Format;
use j::fault::Fault;

mod arguments;
mod check;
mod config;
mod controller;
mod drivers;
mod forward;
mod j;
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

/// All is well.
const SUCCESS: u8 = 0;
/// A file has faults, or the command failed.
const FAILURE: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;

/// Runs `jmp` with the arguments of this process.
pub fn main() -> ExitCode {
    jumpstarter_supervise::survive_file_size_limit();
    print::panics();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if called_as_j(&arguments) {
        return ExitCode::from(j::run(arguments));
    }
    // Colours of the help only; the commands print none.
    // Not locked: a command that serves logs from other threads.
    let code = run(arguments, &mut io::stdout(), &mut io::stderr());
    ExitCode::from(code)
}

/// Runs `j` with the arguments of this process: one device at a shell. `jmp j` is the same, and so
/// is a `jmp` that is called by the name `j`.
pub fn j() -> ExitCode {
    jumpstarter_supervise::survive_file_size_limit();
    print::panics();
    ExitCode::from(j::run(std::env::args_os().collect()))
}

fn called_as_j(arguments: &[OsString]) -> bool {
    let program = arguments.first().map(Path::new).and_then(Path::file_stem);
    program.is_some_and(|name| name == "j")
}

/// Runs `jmp` with these arguments, the first of which is the program's name, and answers the exit
/// code.
///
/// A reader that closes its end (`jmp schema | head`) ends the command quietly.
pub fn run(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let (out, err) = (&mut print::Safe(out), &mut print::Safe(err));
    let mut format = Format::Text;
    let outcome = match arguments::parse(arguments) {
        Ok(arguments) => {
            format = arguments.format();
            arguments.run(out, err)
        }
        Err(usage) if arguments::of_upstream(&usage).is_some() => {
            Err(arguments::of_upstream(&usage).map_or_else(|| usage.into(), anyhow::Error::from))
        }
        Err(usage) => {
            let text = print::usage_text(&usage, &usage.render().to_string());
            let written = if usage.use_stderr() {
                err.write_all(text.as_bytes())
            } else {
                out.write_all(text.as_bytes())
            };
            written
                .map(|()| u8::try_from(usage.exit_code()).unwrap_or(FAILURE))
                .map_err(anyhow::Error::from)
        }
    };
    let outcome = outcome.and_then(|code| out.flush().map(|()| code).map_err(anyhow::Error::from));
    outcome.unwrap_or_else(|error| {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            return SUCCESS;
        }
        let (code, error) = match error.downcast_ref::<Fault>() {
            Some(Fault::Usage(error)) => (USAGE, Ok(error)),
            Some(Fault::Unreachable(error)) => (FAILURE, Ok(error)),
            None => (FAILURE, error.downcast_ref::<jumpstarter_driver_core::Error>().ok_or(&error)),
        };
        let text = j::fault::told(error, format);
        // Nobody is left to be told when this fails too.
        writeln!(err, "{text}").map_or(code, |()| code)
    })
}
