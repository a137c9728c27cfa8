//! `cargo xtask lab`: what takes too long for the tests of a lab, each row alone or all of them.
use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::interop::{self, Grpcio};
use crate::program;

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab                                        every row
  cargo xtask lab soak -- --leases 200 --processes 2     one row, with its own arguments
  cargo xtask lab outages -- --time 12s
  cargo xtask lab pairs -- --exporter python --part flash")]
pub(crate) struct Arguments {
    /// The rows; all of them by default
    #[arg(value_enum, value_name = "ROW")]
    rows: Vec<Row>,
    /// Arguments of the rows
    #[arg(last = true)]
    words: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Row {
    /// The controller is away for 12, 90 and 200 s while a lease is used
    Outages,
    /// 50 exporters, 50 clients, 1,000 leases: nothing stays
    Soak,
    /// A stream through connections that each take 50 ms one way
    Distance,
    /// An exporter and a client, each ours or in Python, with the newest and the oldest grpcio
    Pairs,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let rows = if arguments.rows.is_empty() { Row::value_variants() } else { &arguments.rows };
    for row in rows {
        let (name, more) = match row {
            Row::Outages => ("outages", Vec::new()),
            Row::Soak => ("soak", Vec::new()),
            Row::Distance => ("distance", Vec::new()),
            Row::Pairs => ("pairs", pythons().await?),
        };
        let words = std::iter::once(OsString::from(name)).chain(more);
        let words = words.chain(arguments.words.iter().cloned()).collect();
        program::run("lab", words).await.with_context(|| format!("the row {name}"))?;
    }
    Ok(())
}

/// The environments of Python's peers, one for each gRPC library, as arguments of the row.
async fn pythons() -> Result<Vec<OsString>> {
    let mut words = Vec::new();
    for grpcio in [Grpcio::Newest, Grpcio::Oldest] {
        interop::environment(grpcio).await?;
        words.extend(["--python".into(), interop::environment_folder(grpcio).into()]);
    }
    Ok(words)
}
