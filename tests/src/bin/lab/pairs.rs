//! The suite of a lab, for each pair of an exporter and a client.

use std::path::PathBuf;
use std::time::Instant;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_tests::pairs::{Pair, Part, Peer, Programs, Station};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A virtual environment with the exporter and the client in Python (repeatable): the pairs
    /// with one of them are tried with each
    #[arg(long, value_name = "FOLDER")]
    python: Vec<PathBuf>,
    /// Only pairs with this exporter
    #[arg(long, value_enum, value_name = "PEER")]
    exporter: Option<Peer>,
    /// Only pairs with this client
    #[arg(long, value_enum, value_name = "PEER")]
    client: Option<Peer>,
    /// Only these parts (repeatable)
    #[arg(long, value_enum, value_name = "PART")]
    part: Vec<Part>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let parts = if arguments.part.is_empty() { &Part::ALL[..] } else { &arguments.part };
    let program = std::env::current_exe()?;
    let mut failed = 0;
    let mut tried = 0;
    let environments = arguments.python.iter().cloned().map(Some);
    for python in std::iter::once(None).chain(environments) {
        let pairs = match &python {
            None => &[Pair::OURS][..],
            Some(folder) => {
                println!("with {}:", folder.display());
                &Pair::WITH_PYTHON
            }
        };
        let programs = Programs::new(&program, python)?;
        for pair in pairs {
            let is_wanted = |peer, wanted: Option<Peer>| wanted.is_none_or(|wanted| wanted == peer);
            if !is_wanted(pair.exporter, arguments.exporter)
                || !is_wanted(pair.client, arguments.client)
            {
                continue;
            }
            let mut station = Station::start(&programs, *pair).await?;
            println!("{pair}");
            for part in parts {
                let began = Instant::now();
                let outcome = part.run(&station).await;
                tried += 1;
                print!("  {part:?} ({:.1} s) ", began.elapsed().as_secs_f64());
                match outcome {
                    Ok(seen) => println!("ok: {seen}"),
                    Err(error) => {
                        failed += 1;
                        println!("FAILED: {}", jumpstarter_text::block(&error.report()));
                        // Nothing of it is in the way of the next one.
                        drop(station);
                        station = Station::start(&programs, *pair).await?;
                    }
                }
            }
        }
    }
    println!("{tried} parts, {failed} failed");
    match failed {
        0 => Ok(()),
        _ => Err(Error::internal("a part of the suite failed")),
    }
}
