//! The demo and the doctor, with their exit codes where something is wrong, and the benchmark.
#![expect(clippy::unwrap_used, reason = "tests may, and so may their helpers")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_testkit::guest;
use jumpstarter_supervise::{Command, Output, Sink, run_unchecked};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(300);

async fn run(command: Command) -> Output {
    run_unchecked(command.stderr(Sink::Tail(64 * 1024)), DEADLINE).await.unwrap()
}

fn demo(config: &Path, folder: &Path) -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo")).arg("--config").arg(config).env("TMPDIR", folder)
}

/// The demo's exporter file with a change.
fn changed(folder: &Path, from: &str, to: &str) -> std::path::PathBuf {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/qemu.yaml");
    let text = std::fs::read_to_string(example).unwrap();
    assert!(text.contains(from));
    let path = folder.join("changed.yaml");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    path
}

#[tokio::test]
async fn a_wrong_file_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let config = changed(folder.path(), "mem: 256M", "memm: 256M");
    let output = run(demo(&config, folder.path())).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout_text().starts_with("✗ check "), "{}", output.stdout_text());
    assert!(output.stderr.contains("unknown field; did you mean `mem`?"), "{}", output.stderr);
}

#[tokio::test]
async fn a_machine_that_does_not_start_is_told_with_qemus_words() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let (files, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = changed(files.path(), "mem: 256M", "extra_args: [\"-nope\"]");
    let output = run(demo(&config, folder.path()).args(["--output", "json"])).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["failed"]), (&Value::Bool(false), &"power on".into()));
    assert!(report["error"].as_str().unwrap().contains("-nope: invalid option"), "{report}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_doctor_names_a_remedy_for_each_fault() {
    let doctor = Command::new(env!("CARGO_BIN_EXE_doctor"));
    let output = run(doctor.args(["--output", "json"]).env("PATH", "/nowhere")).await;
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let of = |what: &str| findings.iter().find(|finding| finding["what"] == what).unwrap();
    assert_eq!(
        (&of("qemu-system-x86_64")["verdict"], &of("qemu-img")["verdict"]),
        (&"fault".into(), &"fault".into())
    );
    // Not asked for, so not needed.
    assert_eq!(of("qemu-system-aarch64")["verdict"], "note");
    for finding in findings {
        assert_eq!(finding["verdict"] == "ok", finding["remedy"].is_null(), "{finding}");
    }
}

#[tokio::test]
async fn the_doctor_finds_nothing_wrong_where_machines_run() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let output = run(Command::new(env!("CARGO_BIN_EXE_doctor"))).await;
    assert!(output.status.success(), "{}", output.stdout_text());
    assert!(output.stdout_text().ends_with("Machines can run here.\n"));
}

/// What is measured is no matter here: the other side starts, too, with what ours was given.
#[tokio::test]
async fn the_benchmark_of_power_on_runs() {
    if !guest::qemu_available(guest::Arch::X86_64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let bench = Command::new(env!("CARGO_BIN_EXE_bench")).args(["--quick", "power-on", "--output"]);
    let output = run(bench.arg(&figures)).await;
    assert!(output.stdout_text().contains("bare QEMU, QMP ready"), "{}", output.stderr);
    assert!(figures.exists());
}
