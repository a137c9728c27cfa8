//! `cargo xtask test`: installs what is missing, builds the guests, runs every test (but for those
//! with the Python packages, which `cargo xtask interop` runs, and those of `cargo xtask
//! in-guest`), and reports what was skipped.
//!
//! The tests get, by environment variables: `JUMPSTARTER_GUEST_X86_64` and
//! `JUMPSTARTER_GUEST_AARCH64` (the guests' images; where one cannot be had, the same with
//! `_MISSING` at its end says why), `JUMPSTARTER_SKIP_LOG` (a file to which a skipped test appends
//! a line: its name, a tab, the reason), and `JUMPSTARTER_TEST_RUN` (a mark by which processes that
//! outlive their test are found).
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::guest::{self, Arch};
use crate::process::Run;
use crate::progress::{Step, note};
use crate::setup::{self, Policy};
use crate::{in_guest, interop};

mod leftovers;

/// Set to anything, it makes `cargo xtask test` include aarch64 guests.
const AARCH64_VARIABLE: &str = "JUMPSTARTER_TEST_AARCH64";

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) policy: Policy,
    /// Also boot aarch64 guests (by default only if JUMPSTARTER_TEST_AARCH64 is set)
    #[arg(long)]
    pub(crate) aarch64: bool,
    /// Fail if more tests than this are skipped
    #[arg(long, value_name = "N")]
    pub(crate) max_skipped: Option<usize>,
    /// Arguments of `cargo nextest run`, as a filter or `-p PACKAGE`; then no documentation tests
    /// are run
    #[arg(last = true)]
    pub(crate) nextest: Vec<OsString>,
}

/// Runs the task.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut arches = vec![Arch::X86_64];
    if arguments.aarch64 || std::env::var_os(AARCH64_VARIABLE).is_some() {
        arches.push(Arch::Aarch64);
    }
    setup::ensure_qemu(&arches, arguments.policy).await?;
    setup::offer_peers(arguments.policy).await?;
    setup::ensure_cargo_tool("nextest", arguments.policy).await?;

    let folder = tempfile::Builder::new()
        .prefix("jumpstarter-test-")
        .tempdir()
        .context("creating a folder")?;
    let skip_log = folder.path().join("skipped");
    let mut environment: BTreeMap<OsString, OsString> = BTreeMap::new();
    environment.insert("JUMPSTARTER_SKIP_LOG".into(), skip_log.clone().into());
    for arch in &arches {
        match guest::ensure(*arch).await {
            Ok(image) => drop(environment.insert(arch.variable().into(), image.into())),
            Err(error) if std::env::var_os(arch.variable()).is_some() => return Err(error),
            // The tests that need it skip with this reason, and are counted.
            Err(error) => {
                let why = format!("no {} guest: {error:#}", arch.name());
                note(&why);
                environment.insert(format!("{}_MISSING", arch.variable()).into(), why.into());
            }
        }
    }

    // Built apart from the run, so that what a compiler leaves behind is not taken for a test's.
    let step = Step::announce("building the tests");
    let nextest = nextest(&arguments.nextest);
    nextest.clone().arg("--no-run").show().await?;
    step.done("");

    let mark = folder.path().as_os_str().to_owned();
    environment.insert(leftovers::VARIABLE.into(), mark.clone());
    let mut failures = Vec::new();
    failures.extend(run_tests(nextest.envs(&environment), &mark).await?);
    if arguments.nextest.is_empty() {
        let doc = Run::cargo().args(["test", "--quiet", "--doc", "--workspace"]);
        failures.extend(run_tests(doc.envs(&environment), &mark).await?);
    }
    failures.extend(report_skipped(&skip_log, arguments.max_skipped)?);
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

/// nextest for what the arguments select: everything, unless they name packages.
fn nextest(arguments: &[OsString]) -> Run {
    let names_packages = arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        argument.starts_with("-p") || argument.starts_with("--package") || argument == "--workspace"
    });
    let everything: &[&str] = if names_packages { &[] } else { &["--workspace"] };
    let run = Run::cargo().args(["nextest", "run"]).args(everything);
    match arguments.is_empty() {
        // Those with the Python packages would all be skipped.
        true => run.arg("-E").arg(format!("not ({} | {})", interop::TESTS, in_guest::TESTS)),
        false => run.args(arguments),
    }
}

/// Runs tests, and looks for processes that they left; both are reported, not only the first.
async fn run_tests(run: Run, mark: &OsString) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    // As long as this child is held, nothing kills what the tests left running.
    let child = run.spawn_shown().await?;
    let status = run.wait(&child).await?;
    if !status.success() {
        failures.push(format!("`{}` failed: {status}", run.command_line()));
    }
    let left = leftovers::find(mark).await?;
    for process in &left {
        note(format_args!("left running: {process}"));
    }
    if !left.is_empty() {
        failures.push(format!("{} processes outlived their tests", left.len()));
    }
    Ok(failures)
}

/// Prints what was skipped and why; an error text if that is more than allowed.
fn report_skipped(log: &Path, allowed: Option<usize>) -> Result<Option<String>> {
    let text = match std::fs::read_to_string(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        outcome => outcome.with_context(|| format!("reading {}", log.display()))?,
    };
    let skipped = skipped_lines(&text);
    for line in &skipped {
        note(line);
    }
    note(format_args!("{} tests skipped", skipped.len()));
    Ok(allowed
        .filter(|allowed| skipped.len() > *allowed)
        .map(|allowed| format!("{} tests were skipped, at most {allowed} may be", skipped.len())))
}

/// The skipped tests in order, each once: a retried test skips twice.
fn skipped_lines(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<_> = lines
        .map(|line| match line.split_once('\t') {
            Some((test, reason)) => format!("skipped: {test}: {reason}"),
            None => format!("skipped: {line}"),
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_tested_unless_packages_are_named() {
        let words = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let line = nextest(&arguments).command_line();
            line.split_once(' ').unwrap().1.to_owned()
        };
        assert_eq!(words(&["boots"]), "nextest run --workspace boots");
        assert_eq!(words(&["-p", "xtask"]), "nextest run -p xtask");
    }

    #[test]
    fn skipped_tests_are_listed_once_and_limited() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(report_skipped(&log, Some(0)).unwrap(), None);
        std::fs::write(&log, "b::x\tno KVM\na::y\tno vsock\nb::x\tno KVM\n").unwrap();
        let lines = skipped_lines(&std::fs::read_to_string(&log).unwrap());
        assert_eq!(lines, ["skipped: a::y: no vsock", "skipped: b::x: no KVM"]);
        assert_eq!(report_skipped(&log, Some(2)).unwrap(), None);
        assert!(report_skipped(&log, Some(1)).unwrap().unwrap().contains("at most 1"));
    }
}
