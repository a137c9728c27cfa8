//! Signals that are ignored when a program starts stay ignored: under `nohup`, and in the
//! background of a shell.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_supervise::{Child, Command, Signal, Sink, run_unchecked};

use lab::{EVERYTHING, clean, eventually, line, start};
use terminal::{DEADLINE, J, JMP, Lab, code};

/// A program that starts with SIGHUP, SIGINT and SIGQUIT ignored.
fn ignoring(program: &str, words: &[&str]) -> Command {
    let script = "trap '' HUP INT QUIT; exec \"$@\"";
    clean(Command::new("/bin/sh")).args(["-c", script, "sh", program]).args(words)
}

/// Whether the signals 1 to 3 are ignored, by what a process says of itself.
fn are_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() & 0b111 == 0b111
}

async fn outlives_them(child: &Child) {
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        assert!(child.signal(signal));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    assert!(are_ignored(&status), "{status}");
    child.signal(Signal::TERM);
    assert!(code(child).await.is_some());
}

#[tokio::test]
async fn by_an_exporter() {
    let lab = Lab::new(EVERYTHING);
    let (file, socket) = (lab.file(), lab.path("s"));
    let words = ["run", "--exporter-config", &file, "--listen-unix", socket.to_str().unwrap()];
    let (child, mut lines) = start(ignoring(JMP, &words)).await;
    line(&mut lines, &child).await;
    outlives_them(&child).await;
    let log = child.stderr_tail();
    assert!(log.contains("shutting down signal=SIGTERM") && !log.contains("read anew"), "{log}");
}

#[tokio::test]
async fn by_j() {
    let lab = Lab::new(EVERYTHING);
    let words = ["--log-level", "debug", "--exporter-config", &lab.file(), "stream", "echo"];
    let command =
        ignoring(J, &words).stdin(jumpstarter_supervise::Input::Piped).stderr(Sink::Tail(65536));
    let child = command.spawn().await.unwrap();
    eventually("it listens", async || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        // Signal 15, SIGTERM.
        (u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0).then_some(())
    })
    .await;
    outlives_them(&child).await;
}

/// The command inherits them, as from any shell.
#[tokio::test]
async fn by_the_command_of_a_shell() {
    let lab = Lab::new(EVERYTHING);
    let words = ["shell", "--exporter-config", &lab.file(), "--", "cat", "/proc/self/status"];
    let output = run_unchecked(ignoring(JMP, &words), DEADLINE).await.unwrap();
    assert!(are_ignored(&output.stdout_text()), "{}{}", output.stdout_text(), output.stderr);
}
