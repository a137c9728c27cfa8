//! `cargo xtask interop`: the real Python client against this exporter, in a separate virtual
//! environment.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::guest::{self, Arch};
use crate::process::{Run, find_program};
use crate::progress::Step;
use crate::setup::{self, Policy};
use crate::workspace;

/// Downloads of Python packages take their time.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);
const SUITE_LIMIT: Duration = Duration::from_secs(3600);

/// Arguments of `cargo xtask interop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Both ways: the Python client on our exporter (tests/interop, by pytest), and our client and `j` on the exporter in Python
(the tests whose names begin with `python_exporter`, by nextest; those that host drivers in Python with `python_hosts`; left out when arguments for pytest are given).")]
pub(crate) struct Arguments {
    /// Which gRPC library the Python client uses (repeatable); the newest by default
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) grpcio: Vec<Grpcio>,
    /// Fail if a test is skipped
    #[arg(long)]
    pub(crate) no_skips: bool,
    #[command(flatten)]
    pub(crate) policy: Policy,
    /// Arguments of pytest, as `-k power`
    #[arg(last = true)]
    pub(crate) pytest: Vec<OsString>,
}

/// The ends of the range of gRPC libraries that the Python packages permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Grpcio {
    /// The newest that there is
    Newest,
    /// The oldest that the packages permit
    Oldest,
}

impl Grpcio {
    fn constraint(self) -> &'static str {
        match self {
            Grpcio::Newest => "grpcio>=1.66",
            Grpcio::Oldest => "grpcio<1.67",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Grpcio::Newest => "newest",
            Grpcio::Oldest => "oldest",
        }
    }
}

/// The tests that need the Python packages. They run here only.
pub(crate) const TESTS: &str = "test(/python_exporter|python_hosts/)";

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    if find_program("python3").is_none() {
        bail!("python3 is not installed; the suite is the Python client's");
    }
    setup::ensure_qemu(&[Arch::X86_64], arguments.policy).await?;
    setup::offer_peers(arguments.policy).await?;
    let guest = guest::ensure(Arch::X86_64).await?;
    let step = Step::announce("building jmp");
    // Of the whole workspace, so that what the tests were built from is used again.
    Run::cargo().args(["build", "--workspace", "--bin", "jmp", "--bin", "j"]).show().await?;
    step.done("");
    let root = workspace::root();
    let mut variables: BTreeMap<OsString, OsString> = BTreeMap::new();
    variables.insert("JMP".into(), workspace::target().await?.join("debug/jmp").into());
    variables.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    variables.insert(Arch::X86_64.variable().into(), guest.into());
    if arguments.no_skips {
        variables.insert("INTEROP_NO_SKIPS".into(), "1".into());
    }
    let libraries =
        if arguments.grpcio.is_empty() { &[Grpcio::Newest][..] } else { &arguments.grpcio };
    for grpcio in libraries {
        let python = environment(*grpcio).await?;
        Run::new(python)
            // As for our own tests: what passes only the second time is reported, and refuses
            // nothing.
            .args(["-m", "pytest", "-q", "-rsR", "--reruns", "1", "-p", "no:cacheprovider"])
            .args(&arguments.pytest)
            .folder(root.join("tests/interop"))
            .envs(&variables)
            .deadline(SUITE_LIMIT)
            .show()
            .await
            .with_context(|| format!("the suite with the {} grpcio", grpcio.folder()))?;
    }
    if arguments.pytest.is_empty() {
        variables.insert(
            "JUMPSTARTER_PYTHON_ENVIRONMENT".into(),
            environment_folder(libraries[0]).into(),
        );
        setup::ensure_cargo_tool("nextest", arguments.policy).await?;
        Run::cargo()
            .args(["nextest", "run", "--workspace", "-E", TESTS])
            .envs(&variables)
            .deadline(SUITE_LIMIT)
            .show()
            .await
            .context("our client on the exporter in Python")?;
    }
    Ok(())
}

/// Where the virtual environment of a library is.
pub(crate) fn environment_folder(grpcio: Grpcio) -> PathBuf {
    workspace::root().join("target/interop").join(grpcio.folder())
}

/// Where an environment is, and the list of packages that it has or will have.
struct Environment {
    folder: PathBuf,
    requirements: PathBuf,
    wanted: String,
}

impl Environment {
    fn of(grpcio: Grpcio) -> Result<Self> {
        let requirements = workspace::root().join("tests/interop/requirements.txt");
        let wanted = std::fs::read_to_string(&requirements)
            .context("reading the list of Python packages")?;
        let wanted = format!("{wanted}{}\n", grpcio.constraint());
        Ok(Self { folder: environment_folder(grpcio), requirements, wanted })
    }

    /// What was installed, once it was.
    fn stamp(&self) -> PathBuf {
        self.folder.join("requirements.txt")
    }

    fn is_complete(&self) -> bool {
        std::fs::read_to_string(self.stamp()).is_ok_and(|have| have == self.wanted)
    }
}

/// Whether [`environment`] has nothing to install.
pub(crate) fn is_installed(grpcio: Grpcio) -> bool {
    Environment::of(grpcio).is_ok_and(|environment| environment.is_complete())
}

/// The interpreter of a virtual environment with the packages, made once for each list of them.
pub(crate) async fn environment(grpcio: Grpcio) -> Result<PathBuf> {
    let environment = Environment::of(grpcio)?;
    let (folder, stamp) = (&environment.folder, environment.stamp());
    let python = folder.join("bin/python");
    if environment.is_complete() {
        return Ok(python);
    }
    let step = Step::announce("installing the Python packages");
    let venv =
        Run::new("python3").args(["-m", "venv", "--clear"]).arg(folder).deadline(INSTALL_LIMIT);
    venv.show().await.context("making a virtual environment")?;
    let install = Run::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]);
    let install = install.arg(&environment.requirements);
    install.arg(grpcio.constraint()).deadline(INSTALL_LIMIT).show().await?;
    std::fs::write(&stamp, &environment.wanted)
        .with_context(|| format!("writing {}", stamp.display()))?;
    step.done("");
    Ok(python)
}
