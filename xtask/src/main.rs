//! Project tasks: `cargo xtask <task>`. One file a task; this one only chooses.
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod api;
mod bench;
mod book;
mod ci;
mod demo;
mod dist;
mod doctor;
mod faults;
mod guest;
mod image;
mod in_guest;
mod interop;
mod lab;
mod outside;
mod process;
mod program;
mod progress;
mod setup;
mod test;
mod tidy;
mod workspace;

/// Project tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Drive a virtual machine: flash, boot, log in, fetch a page, pause, shut down; installs what
    /// is missing
    Demo(demo::Arguments),
    /// Say what this host can do, what is missing, and what to do about it
    Doctor(doctor::Arguments),
    /// Install what demos and tests need and is missing: QEMU, firmware, cargo-nextest
    Setup(setup::Arguments),
    /// Build a guest (cached), and print the path of its disk image
    Guest(guest::Arguments),
    /// Run every test, with real virtual machines, installing what is missing
    Test(test::Arguments),
    /// Run the real Python client against the exporter
    Interop(interop::Arguments),
    /// Run the tests that need another system or kernel than the host's, with guests that have it
    InGuest(in_guest::Arguments),
    /// Check the source against the house rules that no lint knows
    Tidy(tidy::Arguments),
    /// List the public API of each library in its `api.txt`, or check the listings
    Api(api::Arguments),
    /// Build the book of docs/ with mdBook
    Book(book::Arguments),
    /// Build and test drivers outside of this workspace, against the packaged crates
    Outside(outside::Arguments),
    /// Everything that has to pass: formatting, lints, docs, licences, tidy, tests
    Ci(ci::Arguments),
    /// Build what a release offers: a static program, a Debian package, an archive, digests
    Dist(dist::Arguments),
    /// Pack an OCI image of an exporter, for a pod
    Image(image::Arguments),
    /// Break things at random while a device is used: kills, freezes, a full disk, a hanging file
    /// system
    Faults(faults::Arguments),
    /// Try what takes long in a lab: outages of minutes, a thousand leases, distance, every pair
    /// with the Python peers
    Lab(lab::Arguments),
    /// Measure beside the tools that one would use instead
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome =
        runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(arguments.task)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<process::Interrupted>() => {
            progress::note("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            progress::note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(task: Task) -> Result<()> {
    process::listen_for_interrupts()?;
    match task {
        Task::Demo(arguments) => demo::run(arguments).await,
        Task::Doctor(arguments) => doctor::run(arguments).await,
        Task::Api(arguments) => api::run(arguments).await,
        Task::Book(arguments) => book::run(arguments).await,
        Task::Bench(arguments) => bench::run(arguments).await,
        Task::Dist(arguments) => dist::run(arguments).await,
        Task::Image(arguments) => image::run(arguments).await,
        Task::Faults(arguments) => faults::run(arguments).await,
        Task::Lab(arguments) => lab::run(arguments).await,
        Task::Setup(arguments) => setup::run(arguments).await,
        Task::Guest(arguments) => guest::run(arguments).await,
        Task::InGuest(arguments) => in_guest::run(arguments).await,
        Task::Test(arguments) => test::run(arguments).await,
        Task::Interop(arguments) => interop::run(arguments).await,
        Task::Outside(arguments) => outside::run(arguments).await,
        Task::Tidy(arguments) => tidy::run(arguments).await,
        Task::Ci(arguments) => ci::run(arguments).await,
    }
}
