//! `jmp shell`, and the lists of leases.

use std::time::Duration;

use jumpstarter_supervise::{Child, Signal, Sink};
use jumpstarter_test_controller::proto::v1::ExporterStatus;
use serde_json::Value;

use crate::bench::Lab;
use crate::lab::{eventually, line, start};
use crate::terminal::code;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_has_a_device_of_the_lab_and_gives_it_back() {
    let lab = Lab::start("").await;
    let script = "j power on && echo $JMP_EXPORTER $JMP_EXPORTER_LABELS && exit 7";
    let (code, out, err) = lab.shell(&["-l", "board=mock", "--", "sh", "-c", script]).await;
    assert_eq!(code, Some(7), "{out}{err}");
    assert!(out.starts_with("e1 board=mock"), "{out}");
    assert_eq!(lab.json(&["get", "leases"], 2).await["leases"], Value::Array(Vec::new()));
    // Its last state may be on its way; a lease that waits for it says so.
    let is_free = || lab.controller.status_of("e1") == Some(ExporterStatus::Available);
    eventually("the exporter is available", async || is_free().then_some(())).await;
    // Without `--`, and by the exporter's name.
    let (code, _, err) = lab.shell(&["--name", "e1", "j", "power", "off"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    lab.exporter.signal(Signal::TERM);
    assert_eq!(
        crate::terminal::code(&lab.exporter).await,
        Some(0),
        "{}",
        lab.exporter.stderr_tail()
    );
    let exporters = lab.json(&["get", "exporters", "--with", "status"], 2).await;
    assert_eq!(exporters["exporters"][0]["status"], "OFFLINE");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_ends_the_command() {
    let lab = Lab::start("").await;
    let words = ["--selector", "board=mock", "--duration", "6s", "--", "sleep", "60"];
    let (code, _, err) = lab.shell(&words).await;
    assert_eq!(code, Some(255), "{err}");
    assert!(err.contains("The lease has ended.") && !err.contains("rror:"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_an_administrator_ends_ends_the_command_before_the_next_look() {
    let lab = Lab::start("").await;
    let words = ["shell", "-l", "board=mock", "--", "sh", "-c", "echo ready; sleep 600"];
    let (shell, mut lines) = start(lab.command(&words, 1)).await;
    assert_eq!(line(&mut lines, &shell).await, "ready");
    lab.controller.release(&lab.controller.leases(true)[0]);
    // The client looks at the lease every 30 s.
    let ended = tokio::time::timeout(Duration::from_secs(25), shell.wait()).await;
    assert_eq!(ended.unwrap().code(), Some(255), "{}", shell.stderr_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hooks_print_is_seen_and_their_failure_too() {
    let hooks = "hooks:\n  beforeLease: {script: 'echo HOOK before; exit 1'}\n  afterLease: {script: 'echo HOOK after'}\n";
    let lab = Lab::start(hooks).await;
    let (code, out, err) = lab.shell(&["-l", "board=mock", "echo", "COMMAND"]).await;
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "COMMAND\n");
    let place = |text: &str| err.find(text).unwrap_or_else(|| panic!("{text}: {err}"));
    assert!(
        place("HOOK before") < place("Warning: ") && place("Warning: ") < place("HOOK after"),
        "{err}"
    );
    assert!(!err.contains("INFO"), "only what the hooks print: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_does_not_exist_is_no_wait() {
    let lab = Lab::start("").await;
    let (code, out, err) = lab.shell(&["--name", "e9", "echo", "it ran"]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("cannot be satisfied"), "{err}");
    let (code, _, err) = lab.run(&["shell"], 1).await;
    assert_eq!(code, Some(2), "{err}");
    let (code, out, _) = lab.run(&["get", "leases"], 2).await;
    assert_eq!((code, out.as_str()), (Some(0), "No resources found.\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_a_device_is_waited_for_gives_the_lease_back() {
    let lab = Lab::start("").await;
    let name = lab.take().await;
    let waiting = lab.command(&["shell", "-l", "board=mock", "echo", "it ran"], 1);
    let waiting = waiting.stderr(Sink::Tail(1 << 16)).spawn().await.unwrap();
    let asked = "waiting for a device";
    eventually(asked, async || waiting.stderr_tail().contains(asked).then_some(())).await;
    waiting.signal(Signal::INT);
    assert!(code_of_failure(&waiting).await);
    let leases = lab.json(&["get", "leases"], 2).await;
    let leases = leases["leases"].as_array().unwrap().clone();
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert_eq!(leases[0]["name"], name.as_str());
    // An existing lease is used, and kept.
    let (code, _, err) = lab.shell(&["--lease", name.as_str(), "j", "power", "on"]).await;
    assert_eq!(code, Some(0), "{err}");
    let (code, out, _) = lab.run(&["get", "leases", "-o", "name"], 2).await;
    assert_eq!((code, out), (Some(0), format!("{name}\n")));
    let longer = ["update", "lease", name.as_str(), "--duration", "2h"];
    assert_eq!(lab.json(&longer, 3).await["duration"], 7200.0);
    let (code, out, err) = lab.run(&["delete", "leases", name.as_str()], 3).await;
    assert_eq!((code, out), (Some(0), format!("lease \"{}\" deleted\n", name.as_str())), "{err}");
    drop(lab.controller);
}

async fn code_of_failure(child: &Child) -> bool {
    code(child).await.is_none_or(|code| code != 0)
}
