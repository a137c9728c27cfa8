//! Runs a test's body in a separate process, with any test runner.

use std::path::Path;
use std::time::Duration;

use jumpstarter_supervise::{Command, run_blocking};

/// In the separate process: the file for the verdict.
const REPORT: &str = "JUMPSTARTER_TEST_REPORT";
/// In the separate process: a mark that all its descendants inherit.
pub(crate) const MARK: &str = "JUMPSTARTER_TEST_CASE";
/// In the separate process: the test's name.
pub(crate) const NAME: &str = "JUMPSTARTER_TEST_NAME";
/// The verdict of a body that returned `Ok`.
const PASSED: &str = "passed";

/// Runs `body` in a fresh process of this test program with an empty temporary folder (`TMPDIR`,
/// `XDG_RUNTIME_DIR`), and kills what is left of it. Panics if it fails or takes longer than
/// `deadline`.
///
/// `name` is the full path of the calling `#[test]`, its crate included: that process runs the test
/// by this name, arrives here again, and runs the body.
///
/// # Panics
/// With the body's error, or the way its process ended.
#[track_caller]
pub fn isolated(name: &str, deadline: Duration, body: impl FnOnce() -> Result<(), String>) {
    if let Some(report) = std::env::var_os(REPORT) {
        let verdict = body().err().unwrap_or_else(|| PASSED.to_owned());
        std::fs::write(report, verdict)
            .expect("the folder of the report exists as long as this process");
        return;
    }
    if let Err(message) = elsewhere(name, deadline) {
        panic!("{message}");
    }
}

fn elsewhere(name: &str, deadline: Duration) -> Result<(), String> {
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    let failed = |error: std::io::Error| format!("preparing a process for {name}: {error}");
    // A short name: a Unix socket's path has at most 107 bytes.
    let folder = tempfile::Builder::new().prefix("js").tempdir().map_err(failed)?;
    let (temporary, report) = (folder.path().join("t"), folder.path().join("report"));
    std::fs::create_dir(&temporary).map_err(failed)?;
    make_private(&temporary).map_err(failed)?;
    let command = Command::new(std::env::current_exe().map_err(failed)?)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("TMPDIR", &temporary)
        .env("XDG_RUNTIME_DIR", &temporary)
        .env(REPORT, &report)
        .env(MARK, folder.path())
        .env(NAME, name);
    let output = run_blocking(command, deadline).map_err(|error| error.to_string())?;
    let verdict = std::fs::read_to_string(&report).unwrap_or_default();
    match verdict.as_str() {
        PASSED if output.status.success() => {
            repeat_skips(&output.stdout_text());
            Ok(())
        }
        PASSED | "" => Err(format!(
            "the process of the case ended without a verdict: {}\n{}\n{}",
            output.status,
            output.stdout_text(),
            output.stderr
        )),
        message => Err(format!("{message}\n{}", output.stderr)),
    }
}

fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[expect(clippy::print_stdout, reason = "a skip is reported on the test's output")]
fn repeat_skips(output: &str) {
    for line in output.lines().filter(|line| line.starts_with("skipped: ")) {
        println!("{line}");
    }
}
