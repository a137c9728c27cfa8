//! The program `test-controller`: what it prints and writes, and its switches.

use std::time::Duration;

use jumpstarter_supervise::{Command, Input, Sink};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_program_prints_what_callers_need_and_obeys_lines_of_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let (send, mut lines) = mpsc::unbounded_channel();
    let each = move |line: &str| drop(send.send(line.to_owned()));
    let command = Command::new(env!("CARGO_BIN_EXE_test-controller"))
        .args(["--client", "c1", "--exporter", "e1,board=qemu", "--files"])
        .arg(folder.path())
        .stdin(Input::Piped)
        .stdout(Sink::lines(each));
    let child = command.spawn().await.unwrap();
    let mut next = async || timeout(DEADLINE, lines.recv()).await.unwrap().unwrap();
    let client: Value = serde_json::from_str(&next().await).unwrap();
    assert_eq!(client["client"], "c1");
    assert!(next().await.contains("\"exporter\":\"e1\""));
    let ready: Value = serde_json::from_str(&next().await).unwrap();
    assert_eq!(next().await, "ready");
    let file = std::fs::read_to_string(folder.path().join("client-c1.yaml")).unwrap();
    assert!(file.contains(client["token"].as_str().unwrap_or("no token")), "{file}");
    assert!(file.contains(ready["endpoint"].as_str().unwrap()), "{file}");
    let ca = std::fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    assert_eq!(ready["ca"], ca);
    let mut input = child.take_stdin().unwrap();
    let mut switch = async |line: &str| {
        input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        while answers.last().is_none_or(|last: &String| last.starts_with('{')) {
            answers.push(next().await);
        }
        answers.join(" ")
    };
    assert_eq!(switch("outage 0.05").await, "done");
    assert_eq!(switch("refuse ReportStatus 2").await, "done");
    assert_eq!(switch("end-status watch channel closed").await, "done");
    let shown = switch("show").await;
    assert!(shown.contains("\"status\":\"EXPORTER_STATUS_UNSPECIFIED\""), "{shown}");
    assert!(shown.ends_with(" done"), "{shown}");
    assert_eq!(switch("dance").await, "error: \"dance\" is no switch: see --help");
    assert_eq!(switch("jump e1").await, "error: jump: a word is missing");
    drop(input);
    assert_eq!(timeout(DEADLINE, child.wait()).await.unwrap().code(), Some(0));
}
