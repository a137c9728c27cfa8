//! A skip is reported, and noted where `cargo xtask test` counts it.

use jumpstarter_driver_testkit::guest::{Arch, tiny_linux};
use jumpstarter_supervise::{Command, run_blocking};
use std::time::Duration;

#[test]
fn a_missing_guest_is_skipped_and_counted() {
    const INNER: &str = "JUMPSTARTER_TESTKIT_INNER";
    let own = "a_missing_guest_is_skipped_and_counted";
    if std::env::var_os(INNER).is_some() {
        assert_eq!(tiny_linux(Arch::X86_64), None);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let command = Command::new(std::env::current_exe().unwrap())
        .args([own, "--exact", "--nocapture"])
        .env(INNER, "1")
        .env("JUMPSTARTER_SKIP_LOG", &log)
        .env_remove("JUMPSTARTER_GUEST_X86_64");
    let output = run_blocking(command, Duration::from_secs(60)).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let reason = "JUMPSTARTER_GUEST_X86_64 is not set: run `cargo xtask test`";
    assert!(
        output.stdout_text().contains(&format!("skipped: {own}: {reason}")),
        "{}",
        output.stdout_text()
    );
    assert_eq!(std::fs::read_to_string(log).unwrap(), format!("{own}\t{reason}\n"));
}
