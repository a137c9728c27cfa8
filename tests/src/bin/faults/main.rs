//! The fault campaign: random faults while an exporter flashes, boots, runs, stops and dumps.
//! `cargo xtask faults` prepares and runs it.
//!
//! In each round one action runs on a fresh exporter and one fault strikes at a random moment. Then
//! the promises are checked: no process outlives its owner, no success is false, no image is lost,
//! nothing hangs, and the device works again.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use jumpstarter_driver_core::prelude::*;

mod action;
mod fault;
mod memory_disk;
mod round;
mod station;
mod tally;

use action::Action;
use fault::Fault;
use round::Round;
use tally::Tally;

/// Breaks things at random while a device is used, and checks what must hold all the same.
#[derive(Debug, Parser)]
#[command(
    name = "faults",
    max_term_width = 110,
    after_help = "\
A round that breaks a promise is printed with its seed: `--seed SEED --rounds 1` repeats it.

Exit code: 0 when every promise held, else 1. The figures are also in target/faults.json."
)]
struct Arguments {
    /// How long the campaign runs
    #[arg(long, value_name = "TIME", default_value = "10m")]
    time: Span,
    /// Ends after this number of rounds, too
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
    /// The seed of the first round; each further one adds one [default: by the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only these faults (repeatable)
    #[arg(long, value_enum, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Only these actions (repeatable)
    #[arg(long, value_enum, value_name = "ACTION")]
    action: Vec<Action>,
    /// Prints a line for each round
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    // The programs under test are this one, called `faults jmp …`, so that there is one thing to
    // build.
    if words.next().is_some_and(|word| word == "jmp") {
        let words = std::iter::once(OsString::from("jmp")).chain(words);
        let environment = jumpstarter_cli::Environment::of_process();
        return ExitCode::from(jumpstarter_cli::run(words, &environment));
    }
    match campaign(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {}", jumpstarter_text::block(&error.report()));
            ExitCode::FAILURE
        }
    }
}

/// Runs the rounds; whether every promise held.
fn campaign(arguments: &Arguments) -> Result<bool> {
    // What loses its owner becomes our child, and is found.
    let adopted = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    adopted.map_err(io::Error::from).context("becoming a subreaper")?;
    let mut faults = Fault::possible(&arguments.fault)?;
    let actions = Action::chosen(&arguments.action);
    let mut seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let began = Instant::now();
    let mut tally = Tally::default();
    while began.elapsed() < arguments.time.as_duration()
        && arguments.rounds.is_none_or(|most| tally.rounds() < most)
    {
        let mut chance = fastrand::Rng::with_seed(seed);
        let action = actions[chance.usize(..actions.len())];
        faults.sort_unstable();
        let fault = faults[chance.usize(..faults.len())];
        let start = Instant::now();
        let broken = Round::new(chance, action, fault)?.run()?;
        if arguments.verbose || !broken.is_empty() {
            println!(
                "{} seed {seed}: {action} and {fault}, {:.1?}",
                verdict(&broken),
                start.elapsed()
            );
        }
        for promise in &broken {
            println!("  {}", jumpstarter_text::line(&promise.to_string()));
        }
        tally.add(action, fault, broken, start.elapsed());
        seed += 1;
    }
    print!("{tally}");
    tally.save(began.elapsed())?;
    Ok(tally.is_clean())
}

fn verdict(broken: &[tally::Broken]) -> &'static str {
    if broken.is_empty() { "✓" } else { "✗" }
}
