//! What programs write is kept, cut, and complete when they end.

use std::sync::{Arc, Mutex};

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Command, Input, Signal, Sink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::processes::{new_mark, ready, shell};

#[tokio::test]
async fn the_tail_is_complete_when_wait_returns() {
    for round in 0..50 {
        let script = format!(
            "i=0; while [ $i -lt 200 ]; do echo line $i >&2; i=$((i+1)); done; echo last {round} >&2"
        );
        let child = shell(&script, "tail").spawn().await.unwrap();
        assert!(child.wait().await.success());
        assert!(
            child.stderr_tail().ends_with(&format!("line 199\nlast {round}\n")),
            "{}",
            child.stderr_tail()
        );
    }
}

#[tokio::test]
async fn the_tail_is_bounded() {
    let script = "i=0; while [ $i -lt 9999 ]; do echo $i; echo $i >&2; i=$((i+1)); done";
    let child = shell(script, "bounded").stdout(Sink::Tail(10)).spawn().await.unwrap();
    child.wait().await;
    assert_eq!(child.stdout_tail(), "9997\n9998\n");
    assert_eq!(child.stderr_tail().len(), 16 * 1024);
    assert!(child.stderr_tail().ends_with("9997\n9998\n"));
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_open_does_not_hold_up_wait() {
    let child = shell("sleep 1000 & echo last words >&2", &new_mark("held")).spawn().await.unwrap();
    assert!(child.wait().await.success());
    assert_eq!(child.stderr_tail(), "last words\n");
}

#[tokio::test]
async fn a_grandchild_that_never_stops_writing_does_not_hold_up_wait() {
    let child = shell("yes >&2 & echo $!", &new_mark("yes")).spawn().await.unwrap();
    assert!(child.wait().await.success());
    eventually("it goes on", || child.stderr_tail().contains("y\ny\n")).await;
}

#[tokio::test]
async fn the_tail_can_be_read_while_the_program_runs() {
    let child = ready("echo starting >&2; echo ready; exec sleep 1000", &new_mark("early")).await;
    eventually("stderr is there", || child.stderr_tail() == "starting\n").await;
    assert!(child.is_running());
}

#[tokio::test]
async fn lines_are_handed_on_and_kept() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let child = Command::new("sh")
        .args(["-c", "printf 'one\\ntwo\\r\\nthree'"])
        .stdout(Sink::lines(move |line| seen.lock().unwrap().push(line.to_owned())))
        .spawn()
        .await
        .unwrap();
    child.wait().await;
    assert_eq!(*lines.lock().unwrap(), ["one", "two", "three"]);
    assert_eq!(child.stdout_tail(), "one\ntwo\r\nthree");
}

#[tokio::test]
async fn pipes_go_both_ways() {
    let child = Command::new("cat").stdin(Input::Piped).stdout(Sink::Piped).spawn().await.unwrap();
    let mut stdin = child.take_stdin().unwrap();
    let mut stdout = child.take_stdout().unwrap();
    assert!(
        child.take_stdin().is_none()
            && child.take_stdout().is_none()
            && child.take_stderr().is_none()
    );
    stdin.write_all(b"there and back").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "there and back");
    assert!(child.wait().await.success());
}

#[tokio::test]
async fn input_that_is_not_read_harms_nobody() {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Input::Bytes(vec![0; 10_000_000]))
        .spawn()
        .await
        .unwrap();
    assert!(child.signal(Signal::TERM));
    assert_eq!(child.wait().await.signal(), Some(15));
}

#[tokio::test]
async fn output_goes_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let file = std::fs::File::create(&path).unwrap();
    let child = shell("echo to a file", "file").stdout(Sink::File(file)).spawn().await.unwrap();
    child.wait().await;
    assert_eq!(std::fs::read_to_string(path).unwrap(), "to a file\n");
}
