//! `jumpstarter-exec`: starts programs for an exporter in another container of its pod.
//!
//! `serve` listens on a socket on a volume that both containers share; each connection runs one
//! program, and the program's life is bound to it. The exporter connects by itself
//! (`launcher_socket` of the driver `qemu`); `exec` and `shutdown` do so from a command line.

mod exec;
mod log;
mod options;
mod program;
mod serve;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use jumpstarter_supervise::Launcher;

use options::{Request, USAGE};

/// How long `shutdown` waits for the answer.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned());
    let request = match Request::parse(arguments.collect()) {
        Ok(request) => request,
        Err(problem) => {
            complain(&format!("{problem}\n\n{USAGE}"));
            return ExitCode::FAILURE;
        }
    };
    let (name, code) = match request {
        Request::Version => {
            let version = format!("jumpstarter-exec {}\n", env!("CARGO_PKG_VERSION"));
            return written(std::io::stdout().write_all(version.as_bytes()));
        }
        Request::Help => return written(std::io::stdout().write_all(USAGE.as_bytes())),
        Request::Serve(options) => ("serve", serve::run(options).map(|()| 0)),
        Request::Exec { socket, argv } => ("exec", exec::run(Launcher::new(socket), argv)),
        Request::Shutdown { socket } => {
            let asked = Launcher::new(socket).shut_down(SHUTDOWN_WITHIN);
            ("shutdown", asked.map_err(std::io::Error::other))
        }
    };
    match code {
        // As a shell reports it: the lowest eight bits.
        Ok(code) => std::process::exit(code),
        Err(error) => {
            complain(&format!("{name}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn written(result: std::io::Result<()>) -> ExitCode {
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes to standard error; an error has no other place to go to.
fn complain(text: &str) {
    let text = jumpstarter_text::block(text);
    drop(std::io::stderr().write_all(format!("jumpstarter-exec: {text}").as_bytes()));
}
