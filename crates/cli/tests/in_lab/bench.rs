//! The lab of these tests.

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Child, Command, Sink, run_unchecked};
use jumpstarter_test_controller::{Options, TestController};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::lab::{clean, jmp};
use crate::terminal::{DEADLINE, JMP, Terminal};

/// A controller with a client and an exporter, which has joined.
pub(crate) struct Lab {
    pub(crate) controller: TestController,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) exporter: Child,
}

impl Lab {
    pub(crate) async fn start(rest: &str) -> Self {
        let controller = TestController::start(Options::default()).await.unwrap();
        controller.add_exporter("e1", &[("board", "mock")]);
        controller.add_client("c1", &[]);
        let folder = tempfile::tempdir().unwrap();
        let device = "{power: {type: mock-power}, echo: {type: echo}}";
        let file = controller.exporter_file("e1", device) + rest;
        std::fs::write(folder.path().join("exporter.yaml"), file).unwrap();
        let client = controller.client_file("c1");
        std::fs::write(folder.path().join("client.yaml"), client).unwrap();
        let path = folder.path().join("exporter.yaml");
        let command = jmp(&["run", path.to_str().unwrap()]);
        let exporter =
            command.stdout(Sink::Piped).stderr(Sink::Tail(1 << 20)).spawn().await.unwrap();
        let mut lines = BufReader::new(exporter.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no exporter: {}", exporter.stderr_tail()));
        assert!(line.starts_with("ready controller://"), "{line}");
        Self { controller, folder, exporter }
    }

    /// `jmp` with these words, and the client's file after the first `parts` of them.
    pub(crate) fn command(&self, words: &[&str], parts: usize) -> Command {
        let file = self.folder.path().join("client.yaml");
        let client = ["--client-config", file.to_str().unwrap()];
        jmp(&[&words[..parts], client.as_slice(), &words[parts..]].concat())
    }

    /// The same on a terminal, whose session it leads.
    pub(crate) fn on(&self, terminal: &Terminal, words: &[&str], parts: usize) -> Command {
        let file = self.folder.path().join("client.yaml");
        let client = ["--client-config", file.to_str().unwrap()];
        let words = [&[JMP], &words[..parts], client.as_slice(), &words[parts..]].concat();
        clean(terminal.command(&words)).env_remove("COLUMNS")
    }

    /// The exit code, standard output and standard error of a shell.
    pub(crate) async fn shell(&self, words: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["shell"], words].concat(), 1).await
    }

    pub(crate) async fn run(&self, words: &[&str], parts: usize) -> (Option<i32>, String, String) {
        let output = run_unchecked(self.command(words, parts), DEADLINE).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), output.stderr)
    }

    /// Takes the exporter for another lease, and returns the lease's name.
    pub(crate) async fn take(&self) -> String {
        let words = ["create", "lease", "-n", "e1", "--duration", "1h", "-o", "name"];
        let (code, name, err) = self.run(&words, 2).await;
        assert_eq!(code, Some(0), "{err}");
        let name = name.trim().to_owned();
        let is_scheduled =
            || self.controller.lease(&name).is_some_and(|lease| !lease.conditions.is_empty());
        eventually("the controller has looked for an exporter", is_scheduled).await;
        name
    }

    /// Waits until only these leases are not over: the controller ends one a moment after it is
    /// asked to.
    #[track_caller]
    pub(crate) fn has_only(&self, leases: &[&str]) -> impl Future<Output = ()> {
        eventually("only these leases", move || self.controller.leases(true) == leases)
    }

    pub(crate) async fn json(&self, words: &[&str], parts: usize) -> Value {
        let (code, out, err) = self.run(&[words, &["-o", "json"]].concat(), parts).await;
        assert_eq!(code, Some(0), "{err}");
        serde_json::from_str(&out).unwrap()
    }
}
