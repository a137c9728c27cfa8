//! `cargo xtask lab`: what takes too long for the tests of a lab, each row alone or all of them.
use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::interop::{self, Grpcio};
use crate::process::Run;
use crate::program;
use crate::progress::Step;
use crate::setup::{self, Policy};
use crate::workspace;

const PAIRS_LIMIT: Duration = Duration::from_secs(3600);

/// Arguments of `cargo xtask lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask lab                                        every row
  cargo xtask lab soak -- --leases 200 --processes 2     one row, with its own arguments
  cargo xtask lab outages -- --time 12s")]
pub(crate) struct Arguments {
    /// The rows; all of them by default
    #[arg(value_enum, value_name = "ROW")]
    rows: Vec<Row>,
    #[command(flatten)]
    policy: Policy,
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
        let name = match row {
            Row::Pairs => {
                pairs(arguments.policy).await?;
                continue;
            }
            Row::Outages => "outages",
            Row::Soak => "soak",
            Row::Distance => "distance",
        };
        let words = std::iter::once(OsString::from(name)).chain(arguments.words.iter().cloned());
        program::run("lab", words.collect()).await.with_context(|| format!("the row {name}"))?;
    }
    Ok(())
}

/// The tests of all pairs: those of ours alone, and those with a peer in Python for each of its
/// gRPC libraries.
async fn pairs(policy: Policy) -> Result<()> {
    setup::ensure_cargo_tool("nextest", policy).await?;
    let step = Step::announce("building jmp");
    Run::cargo().args(["build", "--workspace", "--bin", "jmp", "--bin", "j"]).show().await?;
    step.done("");
    let jmp = workspace::target().await?.join("debug/jmp");
    let suite = async |filter: &str, environment: Option<std::path::PathBuf>| {
        let mut run = Run::cargo().args(["nextest", "run", "--workspace", "-E", filter]);
        run = run.env("JMP", &jmp).env("PYTHONDONTWRITEBYTECODE", "1");
        if let Some(environment) = environment {
            run = run.env("JUMPSTARTER_PYTHON_ENVIRONMENT", environment);
        }
        run.deadline(PAIRS_LIMIT).show().await
    };
    let ours = "binary(joined) or (package(jumpstarter-cli) and binary(lab))";
    suite(ours, None).await.context("ours with ours")?;
    for grpcio in [Grpcio::Newest, Grpcio::Oldest] {
        interop::environment(grpcio).await?;
        let environment = interop::environment_folder(grpcio);
        let step = Step::announce(format!("pairs with {}", environment.display()));
        suite("binary(/^python_lab/)", Some(environment)).await.context("a pair with Python")?;
        step.done("");
    }
    Ok(())
}
