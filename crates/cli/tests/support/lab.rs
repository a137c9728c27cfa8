//! An exporter in a separate process, and the output of `j` about its device.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::time::{Duration, Instant};

/// Waits until something holds.
pub use jumpstarter_driver_testkit::eventually_some as eventually;
use jumpstarter_supervise::{Child, Command, Input, Output, Sink, run_unchecked};

use super::inside;
use super::terminal::{DEADLINE, J, JMP, Lab};

/// A device with something of everything that needs no hardware.
pub const EVERYTHING: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: lab}
motd: Mind the relay.
export:
  power: {type: mock-power, description: relay 1}
  echo: {type: echo}
  console: {type: serial, config: {url: 'loop://'}}
  flasher: {type: mock-flasher}
  rack:
    description: the upper one
    children:
      web: {type: tcp, config: {host: 127.0.0.1, port: 4711}}
      shelf:
        children:
          power:
            type: mock-power
            methods_description: {on: Lights the shelf, read: Asks the shelf's meter}
  switch: {ref: rack.shelf.power}
";

/// A running exporter.
pub struct Bench {
    pub lab: Lab,
    pub exporter: Child,
    /// What clients get as `JUMPSTARTER_HOST`.
    pub host: String,
}

impl Bench {
    /// Serves [`EVERYTHING`] at a Unix socket.
    pub async fn everything() -> Self {
        Self::of(EVERYTHING).await
    }

    /// Serves the device of this exporter file at a Unix socket.
    pub async fn of(file: &str) -> Self {
        let lab = Lab::new(file);
        let socket = lab.path("s");
        let (exporter, host) = lab.serve(&["--listen-unix", socket.to_str().unwrap()]).await;
        Self { lab, exporter, host }
    }

    /// `j` with these words.
    pub fn command(&self, words: &[&str]) -> Command {
        clean(Command::new(J))
            .args(words)
            .env("JUMPSTARTER_HOST", &self.host)
            .current_dir(self.lab.folder())
    }

    /// What `j` with these words prints, as a transcript. It runs in this process.
    pub async fn j(&self, words: &[&str]) -> String {
        self.lab.j(&self.host, words).await
    }

    /// As [`j`](Self::j), [in time](in_time).
    pub async fn j_in_time(&self, words: &[&str]) -> String {
        in_time(async || self.j(words).await).await
    }

    /// As [`j`](Self::j), in a separate process with this standard input.
    pub async fn j_with(&self, words: &[&str], input: &[u8]) -> String {
        self.run(self.command(words).stdin(Input::Bytes(input.to_vec()))).await
    }

    /// What this command prints.
    pub async fn run(&self, command: Command) -> String {
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        self.lab.plain(&transcript(&output))
    }

    /// Starts `j` and answers with it and its lines.
    pub async fn start(&self, words: &[&str]) -> (Child, Lines) {
        start(self.command(words)).await
    }

    /// Starts `j log`, and returns when the exporter has accepted it: a listener receives the
    /// records from then on.
    pub async fn follow(&self, words: &[&str]) -> (Child, Lines) {
        let all = [&["--log-level", "debug"], words].concat();
        let (child, lines) = self.start(&all).await;
        eventually("the log is followed", async || {
            child.stderr_tail().contains("following").then_some(())
        })
        .await;
        (child, lines)
    }
}

/// What `attempt` answers within a second, which is how long `j` waits for a device whose words TAB
/// offers, and for each address in a tree: without them it answers, too.
pub async fn in_time<T>(mut attempt: impl AsyncFnMut() -> T) -> T {
    for _ in 0..5 {
        let began = Instant::now();
        let answer = attempt().await;
        if began.elapsed() < Duration::from_secs(1) {
            return answer;
        }
    }
    attempt().await
}

/// The lines that a program prints.
pub type Lines = tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>;

/// Starts a program whose lines the test reads.
pub async fn start(command: Command) -> (Child, Lines) {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let child = command.stdout(Sink::Piped).stderr(Sink::Tail(65536)).spawn().await.unwrap();
    let lines = BufReader::new(child.take_stdout().unwrap()).lines();
    (child, lines)
}

/// The next line of a program.
pub async fn line(lines: &mut Lines, child: &Child) -> String {
    let line =
        tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap();
    line.unwrap_or_else(|| panic!("no line: {}", child.stderr_tail()))
}

/// Without what the developer's own shell says about devices.
pub fn clean(command: Command) -> Command {
    let variables = [
        "JUMPSTARTER_HOST",
        "JMP_EXPORTER_CONFIG",
        "JMP_GRPC_INSECURE",
        "JMP_GRPC_PASSPHRASE",
        "JMP_GRPC_CA",
        "JMP_GRPC_CERT",
        "JMP_GRPC_KEY",
        "JMP_LEASE",
        "JMP_SELECTOR",
        "JMP_NAMESPACE",
        "JMP_NAME",
        "JMP_ENDPOINT",
        "JMP_TOKEN",
        "COMPLETE",
        "NOTIFY_SOCKET",
    ];
    variables.into_iter().fold(command, Command::env_remove)
}

/// `jmp` with these words.
pub fn jmp(words: &[&str]) -> Command {
    clean(Command::new(JMP)).args(words)
}

/// What a program printed, and how it ended.
pub fn transcript(output: &Output) -> String {
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    let code = code.unwrap_or_else(|| panic!("a signal ended it: {}", output.stderr));
    inside::transcript(code, &output.stdout_text(), &output.stderr)
}

impl Lab {
    /// Returns the transcript of `j` with these words and the device at `host`. It runs in this
    /// process, in the lab's folder: each test has a separate process.
    pub async fn j(&self, host: &str, words: &[&str]) -> String {
        std::env::set_current_dir(self.folder()).unwrap();
        let (code, out, err) = inside::j(words, &[("JUMPSTARTER_HOST", host)]).await;
        self.plain(&inside::transcript(code, &out, &err))
    }

    /// Without what differs from run to run: where the lab's folder is, and what was measured.
    pub fn plain(&self, text: &str) -> String {
        let text =
            text.replace(&format!("{}/", self.folder().display()), "").replace("\u{1b}[0m", "");
        text.lines().map(|line| without_rates(line).trim_end().to_owned() + "\n").collect()
    }
}

/// Replaces ` in 0.0 s (1.2 MiB/s)` and the numbers of JSON summaries.
fn without_rates(line: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<serde_json::Value>(line)
        && value.get("seconds").is_some_and(serde_json::Value::is_number)
    {
        value["seconds"] = "SECONDS".into();
        if value["bytes_per_second"].is_number() {
            value["bytes_per_second"] = "RATE".into();
        }
        return value.to_string();
    }
    match line.split_once(" in ") {
        Some((before, after)) if after.contains(" s (") && after.ends_with("/s)") => {
            format!("{before} in TIME (RATE)")
        }
        _ => line.to_owned(),
    }
}
