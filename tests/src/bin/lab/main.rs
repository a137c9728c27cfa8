//! What takes too long for the tests of a lab: outages of minutes, many exporters and clients, and
//! long distances. `cargo xtask lab` runs it.
//!
//! The controller and the router are those of the tests, in this process; so are the clients.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jumpstarter_driver_core::prelude::*;

mod distance;
mod outages;
mod pairs;
mod soak;
mod station;

/// Runs rows of a lab, and says what was seen.
#[derive(Debug, Parser)]
#[command(name = "lab", after_help = "Exit code: 0 when every promise held, else 1.")]
struct Arguments {
    #[command(subcommand)]
    row: Row,
}

#[derive(Debug, clap::Subcommand)]
enum Row {
    /// The controller is away while a lease is used
    Outages {
        /// How long it is away (repeatable)
        #[arg(long, value_name = "TIME", default_values = ["12s", "90s", "200s"])]
        time: Vec<Span>,
    },
    /// Many exporters and clients, and a thousand leases: nothing stays
    Soak(soak::Arguments),
    /// A stream through connections that each take 50 ms one way
    Distance,
    /// An exporter and a client, each ours or in Python: the same suite for all
    Pairs(pairs::Arguments),
}

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    // The exporters in processes are this program, called `lab jmp …`; those of pairs, and their
    // clients, are this program under other names.
    if words.get(1).is_some_and(|word| word == "jmp") {
        words.remove(0);
    }
    let name = words.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if name == "jmp" || name == "j" {
        let environment = jumpstarter_cli::Environment::of_process();
        return ExitCode::from(jumpstarter_cli::run(words, &environment));
    }
    let row = match name == "streams" {
        true => None,
        false => Some(Arguments::parse().row),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    jumpstarter_supervise::raise_open_files();
    let outcome = runtime.block_on(async {
        let Some(row) = row else { return jumpstarter_tests::pairs::streams().await };
        match row {
            Row::Outages { time } => {
                let times: Vec<Duration> = time.iter().map(|time| time.as_duration()).collect();
                outages::run(&times).await
            }
            Row::Soak(arguments) => soak::run(&arguments).await,
            Row::Distance => distance::run().await,
            Row::Pairs(arguments) => pairs::run(arguments).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", jumpstarter_text::block(&error.report()));
            ExitCode::FAILURE
        }
    }
}

/// Fails with a broken promise.
fn promise(holds: bool, what: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::internal(what.into()).context("a promise is broken")) }
}
