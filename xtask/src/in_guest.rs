//! `cargo xtask in-guest`: tests that need another system, or another kernel, than the host's.
//!
//! They get, by environment variables: `JUMPSTARTER_GUEST_X86_64`, `JUMPSTARTER_GUEST_AARCH64` and
//! `JUMPSTARTER_GUEST_DEBIAN` (the guests' images), `JUMPSTARTER_STATIC_NETWORK_TESTS` and
//! `JUMPSTARTER_STATIC_GPIO_TESTS` (the tests of driver-network and driver-gpiod, each as a static
//! program, which runs inside the tiny guest of its architecture) and `JMP`.
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::dist::TARGET;
use crate::guest::{self, Arch};
use crate::process::Run;
use crate::progress::Step;
use crate::setup::{self, Policy};
use crate::workspace;

/// The tests that run here only.
pub(crate) const TESTS: &str = "test(/_in_guest($|::)/)";

/// Arguments of `cargo xtask in-guest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The command shell of a console on Debian (a login, a slow port, messages of the kernel in between, a reboot),
the tests of vsock in a kernel that has the loopback, and those of GPIO lines on a machine that has a chip.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    policy: Policy,
    /// Arguments of `cargo nextest run`, as `--no-capture`
    #[arg(last = true)]
    nextest: Vec<OsString>,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    setup::ensure_qemu(&[Arch::X86_64, Arch::Aarch64], arguments.policy).await?;
    setup::ensure_cargo_tool("nextest", arguments.policy).await?;
    setup::ensure_rust_target(static_target(Arch::Aarch64), arguments.policy).await?;
    let tiny = guest::ensure(Arch::X86_64).await?;
    let tiny_arm = guest::ensure(Arch::Aarch64).await?;
    let debian = guest::ensure_debian().await?;
    let step = Step::announce("building jmp");
    Run::cargo().args(["build", "--workspace", "--bin", "jmp", "--bin", "j"]).show().await?;
    step.done("");
    let network = static_tests("jumpstarter-driver-network", "drivers", Arch::X86_64).await?;
    let gpio = static_tests("jumpstarter-driver-gpiod", "chip", Arch::Aarch64).await?;
    Run::cargo()
        .args(["nextest", "run", "--package", "jumpstarter-tests", "-E", TESTS])
        .args(arguments.nextest)
        .env(Arch::X86_64.variable(), tiny)
        .env(Arch::Aarch64.variable(), tiny_arm)
        .env("JUMPSTARTER_GUEST_DEBIAN", debian)
        .env("JUMPSTARTER_STATIC_NETWORK_TESTS", network)
        .env("JUMPSTARTER_STATIC_GPIO_TESTS", gpio)
        .env("JMP", workspace::target().await?.join("debug/jmp"))
        .show()
        .await
}

/// What static programs are built for.
fn static_target(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => TARGET,
        Arch::Aarch64 => "aarch64-unknown-linux-musl",
    }
}

/// Builds the tests of a file as a program that needs no library.
async fn static_tests(package: &str, test: &str, arch: Arch) -> Result<PathBuf> {
    let step =
        Step::announce(format!("building {package}'s tests, statically, for {}", arch.name()));
    let flags = match arch {
        Arch::X86_64 => "-Ctarget-feature=+crt-static",
        // Rust's own linker and musl: no cross compiler is needed.
        Arch::Aarch64 => "-Clinker=rust-lld",
    };
    let messages = Run::cargo()
        .args(["test", "--no-run", "--package", package, "--test", test])
        .args(["--target", static_target(arch), "--message-format", "json"])
        .env("CARGO_ENCODED_RUSTFLAGS", format!("{flags}\u{1f}-Cstrip=symbols"))
        .output()
        .await?;
    step.done("");
    let (_, rest) = messages.rsplit_once("\"executable\":\"").context("cargo names no program")?;
    let (program, _) = rest.split_once('"').context("cargo names no program")?;
    Ok(PathBuf::from(program))
}
