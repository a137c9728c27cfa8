//! The benchmark: how fast, beside the tools that one would use instead. `cargo xtask bench` builds and runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_tests::interrupt::Interrupts;
use serde_json::json;

mod data;
mod flash;
mod measure;
mod power_on;
mod table;

use table::Row;

/// Measures on this machine, in turns that alternate, so that what else the machine does meets both sides.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Arguments {
    /// What to measure [default: all]
    #[arg(value_enum, value_name = "WHAT")]
    what: Vec<What>,
    /// How often each is measured; the median counts [default: 15 for power-on, 5 for flash]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: Option<u32>,
    /// Size of the flashed image once decompressed
    #[arg(long, default_value = "1GiB")]
    size: ByteSize,
    /// Where the figures go, from the workspace's root
    #[arg(long, default_value = "target/bench.json")]
    output: PathBuf,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From the start of QEMU until its monitor answers, beside a bare QEMU with the same arguments
    PowerOn,
    /// Writing an image, beside dd, zstd, gzip, xz and openssl
    Flash,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return failed(&Error::from(error).context("listening for Ctrl-C")),
    };
    // Dropping what is under way kills its processes and removes its files.
    let outcome = tokio::select! {
        outcome = run(&arguments) => outcome,
        () = interrupts.next() => return ExitCode::from(130),
    };
    match outcome {
        Ok(rows) if rows.iter().all(Row::passes) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "errors are for people")]
fn failed(error: &Error) -> ExitCode {
    eprintln!("error: {}", error.report());
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the tables are what the program is for")]
async fn run(arguments: &Arguments) -> Result<Vec<Row>> {
    let wanted = |what| arguments.what.is_empty() || arguments.what.contains(&what);
    let mut rows = Vec::new();
    let turns = |default| arguments.turns.unwrap_or(default);
    if wanted(What::PowerOn) {
        let found = power_on::measure(turns(15)).await?;
        println!("{}", table::show(power_on::TITLE, power_on::NOTES, &found));
        rows.extend(found);
    }
    if wanted(What::Flash) {
        let found = flash::measure(turns(5), arguments.size).await?;
        println!("{}", table::show(&flash::title(arguments.size), flash::NOTES, &found));
        rows.extend(found);
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report = json!({"cores": cores, "rows": rows.iter().map(Row::json).collect::<Vec<_>>()});
    std::fs::write(&arguments.output, format!("{report:#}\n"))
        .with_context(|| format!("writing {}", arguments.output.display()))?;
    println!("The figures of every turn: {}", arguments.output.display());
    Ok(rows)
}
