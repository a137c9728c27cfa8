//! The benchmark: how fast, beside the tools that one would use instead. `cargo xtask bench` builds
//! and runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_tests::interrupt::Interrupts;
use serde_json::json;

mod against;
mod client;
mod data;
mod effort;
mod exporter;
mod flash;
mod forward;
mod hosted;
mod lab;
mod library;
mod measure;
mod power_on;
mod python;
mod served;
mod table;
mod unit;

use effort::Effort;
use python::Python;
use table::Row;

/// Measures on this machine, in turns that alternate, so that what else the machine does meets both
/// sides.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Arguments {
    /// What to measure [default: all]
    #[arg(value_enum, value_name = "WHAT")]
    what: Vec<What>,
    /// How often each is measured; the median counts [default: 15 for power-on, 11 for `j`, 5 for
    /// the others]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: Option<u32>,
    /// Size of the flashed image once decompressed [default: 1 GiB]
    #[arg(long)]
    size: Option<ByteSize>,
    /// Only see that everything works: one turn each, of 64 MiB
    #[arg(long)]
    quick: bool,
    /// Measure this build beside another `jmp`, and nothing else unless it is named
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
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
    /// The exporter, beside the one in Python
    Exporter,
    /// The client library and `j`, beside the Python ones
    Client,
    /// Port forwards, beside socat
    Network,
    /// Drivers in Python that our exporter hosts, beside the exporter in Python
    Python,
    /// A device of a lab, through a controller and its router, beside the exporter and the client
    /// in Python
    Lab,
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
    eprintln!("error: {}", jumpstarter_text::block(&error.report()));
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the tables are what the program is for")]
async fn run(arguments: &Arguments) -> Result<Vec<Row>> {
    let all = arguments.what.is_empty() && arguments.against.is_none();
    let wanted = |what| all || arguments.what.contains(&what);
    let usual = ByteSize::mebibytes(if arguments.quick { 64 } else { 1024 });
    let (turns, quick) = (arguments.turns, arguments.quick);
    let effort = Effort { turns, size: arguments.size.unwrap_or(usual), quick };
    let python = Python::find();
    let mut rows = Vec::new();
    let mut show = |title: &str, notes: &[&str], found: Vec<Row>| {
        let machine = measure::machine();
        let notes: Vec<&str> = notes.iter().copied().chain([machine.as_str()]).collect();
        println!("{}", table::show(title, &notes, &found));
        rows.extend(found);
    };
    if let Some(other) = &arguments.against {
        show(against::TITLE, against::NOTES, against::measure(effort, other).await?);
    }
    if wanted(What::PowerOn) {
        show(power_on::TITLE, power_on::NOTES, power_on::measure(effort.turns(15)).await?);
    }
    if wanted(What::Flash) {
        let found = flash::measure(effort.turns(5), effort.size).await?;
        show(&flash::title(effort.size), flash::NOTES, found);
    }
    if wanted(What::Exporter) {
        show(exporter::TITLE, exporter::NOTES, exporter::measure(effort, python.as_ref()).await?);
    }
    if wanted(What::Client) {
        show(client::TITLE, client::NOTES, client::measure(effort, python.as_ref()).await?);
    }
    if wanted(What::Network) {
        show(forward::TITLE, forward::NOTES, forward::measure(effort).await?);
    }
    if wanted(What::Python) {
        show(hosted::TITLE, hosted::NOTES, hosted::measure(effort, python.as_ref()).await?);
    }
    if wanted(What::Lab) {
        show(lab::TITLE, lab::NOTES, lab::measure(effort, python.as_ref()).await?);
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report = json!({"cores": cores, "rows": rows.iter().map(Row::json).collect::<Vec<_>>()});
    std::fs::write(&arguments.output, format!("{report:#}\n"))
        .with_context(|| format!("writing {}", arguments.output.display()))?;
    println!("The figures of every turn: {}", arguments.output.display());
    Ok(rows)
}
