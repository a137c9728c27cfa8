//! The demo: from an exporter file to a running virtual machine and back. `cargo xtask demo`
//! prepares and runs it.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_tests::interrupt::Interrupts;

mod guest;
mod report;
mod steps;

use guest::Guest;
use report::{Format, Report};
use steps::Demo;

/// The exit code of a shell's child that was interrupted.
const INTERRUPTED: u8 = 130;

/// How long closing may take; what is left then ends with this process.
const CLOSING: Duration = Duration::from_secs(30);

/// Drives a virtual machine through a day of its life, and says how long each step took.
#[derive(Debug, Parser)]
#[command(name = "demo", max_term_width = 110)]
struct Arguments {
    /// The exporter file; its machine is called `qemu`
    #[arg(long, value_name = "PATH", default_value = "examples/qemu.yaml")]
    config: PathBuf,
    /// What boots
    #[arg(long, value_enum, default_value_t = Guest::Pico)]
    guest: Guest,
    /// The image to flash; pico has a built-in one
    #[arg(long, value_name = "PATH", required_if_eq_any([("guest", "tiny"), ("guest", "other")]))]
    image: Option<PathBuf>,
    /// How to print what happened; json is one object at the end, on standard output
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let report = Report::new(arguments.output, std::io::stderr().is_terminal());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return report.failed(&format!("starting: {error}"), None),
    };
    let code = runtime.block_on(run(arguments, report));
    // A reader of some file may be stuck in the kernel: it is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(5));
    code
}

async fn run(arguments: Arguments, report: Report) -> ExitCode {
    let mut demo = Demo::new(report);
    let mut interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return demo.report.failed(&format!("listening for Ctrl-C: {error}"), None),
    };
    let outcome = tokio::select! {
        biased;
        () = interrupts.next() => None,
        outcome = demo.run(&arguments.config, arguments.guest, arguments.image.as_deref()) => Some(outcome),
    };
    if matches!(outcome, Some(Ok(()))) {
        return demo.report.succeeded();
    }
    if outcome.is_none() {
        demo.report.interrupted();
    }
    // The same on Ctrl-C and on failure: the machine is closed, and nothing of it stays.
    let closed = tokio::select! {
        closed = tokio::time::timeout(CLOSING, demo.close()) => {
            closed.unwrap_or_else(|_| Err(Error::deadline_exceeded(format!("not closed within {CLOSING:?}"))))
        }
        () = interrupts.next() => Err(Error::internal("interrupted again while closing")),
    };
    let last_lines = demo.last_lines();
    let close_error = closed.err().map(|error| error.report());
    match outcome {
        Some(Err(error)) => demo.report.failed(&error.report(), last_lines.as_deref()),
        _ => {
            demo.report.closed_after_interrupt(close_error.as_deref());
            ExitCode::from(INTERRUPTED)
        }
    }
}
