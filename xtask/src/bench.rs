//! `cargo xtask bench`: how fast, beside the tools that one would use instead.
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::guest::Arch;
use crate::interop::{self, Grpcio};
use crate::process::{Run, find_program};
use crate::program;
use crate::progress::{Step, note};
use crate::setup::{self, Policy};
use crate::workspace;

/// What can be measured.
const ALL: [&str; 7] = ["power-on", "flash", "exporter", "client", "network", "python", "lab"];

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without Python its columns are left out, without socat its rows; either is said.

Exit code: 0 when every target is met, else 1. The figures are also in target/bench.json.")]
pub(crate) struct Arguments {
    /// What to measure: power-on, flash, exporter, client, network, python, lab [default:
    /// all]
    #[arg(value_name = "WHAT", value_parser = ALL)]
    what: Vec<String>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N")]
    turns: Option<u32>,
    /// Size of the flashed image once decompressed [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    size: Option<String>,
    /// Only see that everything works: one turn each, of 64 MiB
    #[arg(long)]
    quick: bool,
    /// Measure this build beside another `jmp`, such as that of the last release; nothing else
    /// unless it is named
    #[arg(long, value_name = "BINARY")]
    against: Option<PathBuf>,
    #[command(flatten)]
    policy: Policy,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let all = arguments.what.is_empty() && arguments.against.is_none();
    let wanted = |what: &str| all || arguments.what.iter().any(|one| one == what);
    let against = arguments.against.as_ref().map(std::fs::canonicalize).transpose();
    let against = against.context("finding the other `jmp`")?;
    if wanted("power-on") {
        setup::ensure_qemu(&[Arch::X86_64], arguments.policy).await?;
    }
    if wanted("network")
        && let Err(error) = setup::ensure_socat(arguments.policy).await
    {
        crate::process::check_interrupt()?;
        note(format_args!("without socat, port forwards are compared with nothing: {error:#}"));
    }
    let python = match ["exporter", "client", "python", "lab"].into_iter().any(wanted) {
        true => python(arguments.policy).await?,
        false => None,
    };
    build().await?;
    let mut words: Vec<OsString> = arguments.what.iter().map(OsString::from).collect();
    if let Some(size) = arguments.size {
        words.extend(["--size".into(), size.into()]);
    }
    if let Some(turns) = arguments.turns {
        words.extend(["--turns".into(), turns.to_string().into()]);
    }
    if let Some(other) = against {
        words.extend(["--against".into(), other.into()]);
    }
    if arguments.quick {
        words.push("--quick".into());
    }
    let root = workspace::root();
    let bench = Run::new(root.join("target/release/bench")).args(words).folder(&root);
    let bench = match python {
        Some(folder) => bench.env("JUMPSTARTER_PYTHON_ENVIRONMENT", folder),
        None => bench,
    };
    program::finish("bench", bench).await
}

/// Everything that is measured, in one go: the same dependencies with the same features are built
/// once.
async fn build() -> Result<()> {
    let step = Step::announce("building what is measured");
    let packages = ["tests", "cli", "exporter", "driver-flasher"];
    let packages =
        packages.iter().flat_map(|name| ["--package".to_owned(), format!("jumpstarter-{name}")]);
    let programs = ["--bin", "bench", "--bin", "jmp", "--bin", "j"];
    let examples = ["--example", "load", "--example", "flash_bench"];
    let build =
        Run::cargo().args(["build", "--release"]).args(packages).args(programs).args(examples);
    build.show().await?;
    step.done("");
    Ok(())
}

/// The environment with the exporter and the client in Python, if there can be one.
async fn python(policy: Policy) -> Result<Option<PathBuf>> {
    let found = match find_program("python3") {
        None => Err(anyhow::anyhow!("python3 is not installed")),
        Some(_) if policy.no_install && !interop::is_installed(Grpcio::Newest) => Err(
            anyhow::anyhow!("its packages are not installed; `cargo xtask interop` installs them"),
        ),
        Some(_) => interop::environment(Grpcio::Newest).await,
    };
    match found {
        Ok(python) => match python.ancestors().nth(2) {
            Some(folder) => Ok(Some(folder.to_owned())),
            None => bail!("{} is in no environment", python.display()),
        },
        Err(error) => {
            crate::process::check_interrupt()?;
            note(format_args!("what is in Python is left out: {error:#}"));
            Ok(None)
        }
    }
}
