//! What upstream's own end-to-end suite expects of an exporter without a controller, with this
//! project's programs at both ends: its eight behaviours, one test each.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_supervise::{Child, Command, Signal, Sink, run_unchecked};
use tokio::io::{AsyncBufReadExt, BufReader};

use lab::{clean, eventually, jmp, transcript};
use terminal::{DEADLINE, Lab, code};

const DEVICE: &str = "
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: default, name: direct}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
";

const BEFORE: &str = "
hooks:
  beforeLease:
    script: |
      echo 'BEFORE_HOOK_DIRECT: executed'
      j power on
      echo 'BEFORE_HOOK_DIRECT: complete'
";

const AFTER: &str = "
  afterLease: {script: \"j power off && echo 'AFTER_HOOK_DIRECT: executed'\"}
";

/// An exporter at a port, without TLS.
struct Direct {
    lab: Lab,
    child: Child,
    address: String,
}

impl Direct {
    async fn start(file: &str, passphrase: &[&str]) -> Self {
        let lab = Lab::new(file);
        let file = lab.file();
        let listen = ["--tls-grpc-listener", "127.0.0.1:0", "--tls-grpc-insecure"];
        let words = [&["run", "--exporter-config", &file], listen.as_slice(), passphrase].concat();
        let command = jmp(&words).stdout(Sink::Piped).stderr(Sink::Tail(1 << 20));
        let child = command.spawn().await.unwrap();
        let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let line = line.unwrap_or_else(|| panic!("no exporter: {}", child.stderr_tail()));
        let address = line.strip_prefix("ready tcp://").unwrap().to_owned();
        Self { lab, child, address }
    }

    fn shell(&self, options: &[&str], words: &[&str]) -> Command {
        let shell = ["shell", "--tls-grpc", &self.address];
        jmp(&[shell.as_slice(), options, &["--"], words].concat()).current_dir(self.lab.folder())
    }

    /// What a shell with one command prints, and whether it succeeded.
    async fn said(&self, command: Command) -> (String, bool) {
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        (transcript(&output), output.status.success())
    }

    /// Calls `j` in a shell with these options.
    async fn j(&self, options: &[&str], words: &[&str]) -> (String, bool) {
        let options = [&["--tls-grpc-insecure"], options].concat();
        self.said(self.shell(&options, &[&["j"], words].concat())).await
    }

    async fn must(&self, options: &[&str], words: &[&str]) -> String {
        let (text, succeeded) = self.j(options, words).await;
        assert!(succeeded, "{text}\n{}", self.child.stderr_tail());
        text
    }

    /// Ends the exporter with SIGTERM and answers what it wrote to standard error.
    async fn end(self) -> String {
        self.child.signal(Signal::TERM);
        assert_eq!(code(&self.child).await, Some(0), "{}", self.child.stderr_tail());
        self.child.stderr_tail()
    }

    /// A shell that must fail without running its command, with the exporter's log then.
    async fn refuses(self, options: &[&str]) -> (String, String) {
        let options = [&["--tls-grpc-insecure"], options].concat();
        let (text, succeeded) = self.said(self.shell(&options, &["echo", "it ran"])).await;
        assert!(!succeeded && !text.contains("it ran"), "{text}");
        let line =
            "authentication failed: invalid or missing passphrase for method /jumpstarter.v1.";
        eventually(line, async || self.child.stderr_tail().contains(line).then_some(())).await;
        (text, self.end().await)
    }
}

#[tokio::test]
async fn an_exporter_starts_and_a_client_connects() {
    let direct = Direct::start(DEVICE, &[]).await;
    // This is how upstream's suite sees that the listener is up.
    drop(tokio::net::TcpStream::connect(&direct.address).await.unwrap());
    direct.must(&[], &["power", "on"]).await;
    direct.end().await;
}

#[tokio::test]
async fn a_client_calls_several_methods() {
    let direct = Direct::start(DEVICE, &[]).await;
    direct.must(&[], &["power", "on"]).await;
    direct.must(&[], &["power", "off"]).await;
    let log = direct.end().await;
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words}: {log}"));
    assert!(at("power: power on") < at("power: power off"), "{log}");
}

#[tokio::test]
async fn a_client_that_wants_tls_fails_on_a_server_without() {
    let direct = Direct::start(DEVICE, &[]).await;
    for command in [
        direct.shell(&[], &["echo", "it ran"]),
        // The option decides; what other devices' clients receive does not.
        direct.shell(&[], &["echo", "it ran"]).env("JMP_GRPC_INSECURE", "1"),
    ] {
        let (text, succeeded) = direct.said(command).await;
        assert!(!succeeded && !text.contains("it ran"), "{text}");
    }
    direct.end().await;
}

#[tokio::test]
async fn a_client_that_comes_later_sees_what_the_hook_before_printed() {
    let direct = Direct::start(&[DEVICE, BEFORE].concat(), &[]).await;
    // It waits for the hook; what comes then is later than all that the hook printed.
    let without = direct.must(&[], &["power", "off"]).await;
    assert!(!without.contains("BEFORE_HOOK_DIRECT"), "{without}");
    let with = direct.must(&["--exporter-logs"], &["power", "off"]).await;
    for line in ["BEFORE_HOOK_DIRECT: executed", "BEFORE_HOOK_DIRECT: complete"] {
        assert!(with.contains(line), "{with}");
    }
    let log = direct.end().await;
    assert!(log.find("power: power on") < log.find("BEFORE_HOOK_DIRECT: complete"), "{log}");
}

#[tokio::test]
async fn the_hook_after_runs_at_the_exporters_end() {
    let direct = Direct::start(&[DEVICE, BEFORE, AFTER].concat(), &[]).await;
    let text = direct.must(&["--exporter-logs"], &["power", "on"]).await;
    assert!(text.contains("BEFORE_HOOK_DIRECT: executed"), "{text}");
    assert!(!text.contains("AFTER_HOOK_DIRECT"), "{text}");
    let log = direct.end().await;
    assert!(log.find("shutting down") < log.find("AFTER_HOOK_DIRECT: executed"), "{log}");
    assert!(log.contains("AFTER_HOOK_DIRECT: executed"), "{log}");
}

#[tokio::test]
async fn the_right_passphrase_connects() {
    let direct = Direct::start(DEVICE, &["--passphrase", "my-s3cret"]).await;
    direct.must(&["--passphrase", "my-s3cret"], &["power", "on"]).await;
    let from_environment = direct.shell(&["--tls-grpc-insecure"], &["j", "power", "on"]);
    let (text, succeeded) =
        direct.said(from_environment.env("JMP_GRPC_PASSPHRASE", "my-s3cret")).await;
    assert!(succeeded, "{text}");
    let log = direct.end().await;
    assert!(!log.contains("my-s3cret") && !log.contains("authentication failed"), "{log}");
}

/// As a shell's `--passphrase-file <(pass show lab)`.
#[tokio::test]
async fn a_passphrase_from_a_pipe_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let file = pipe.to_str().unwrap().to_owned();
    let writer = tokio::task::spawn_blocking(move || std::fs::write(pipe, "my-s3cret\n"));
    let direct = Direct::start(DEVICE, &["--passphrase-file", &file]).await;
    writer.await.unwrap().unwrap();
    direct.must(&["--passphrase", "my-s3cret"], &["power", "on"]).await;
    let (text, _) = direct.refuses(&["--passphrase", "my-gu3ss"]).await;
    assert!(text.contains("does not accept the passphrase"), "{text}");
}

#[tokio::test]
async fn a_wrong_passphrase_is_refused_and_logged() {
    let direct = Direct::start(DEVICE, &["--passphrase", "my-s3cret"]).await;
    let (text, log) = direct.refuses(&["--passphrase", "my-gu3ss"]).await;
    for secret in ["my-s3cret", "my-gu3ss"] {
        assert!(!text.contains(secret) && !log.contains(secret), "{text}{log}");
    }
}

#[tokio::test]
async fn a_missing_passphrase_is_refused_and_logged() {
    let direct = Direct::start(DEVICE, &["--passphrase", "my-s3cret"]).await;
    let (text, log) = direct.refuses(&[]).await;
    assert!(!text.contains("my-s3cret") && !log.contains("my-s3cret"), "{text}{log}");
}

/// A hook's output is no place for the passphrase either.
#[tokio::test]
async fn a_hook_does_not_know_the_passphrase() {
    let file = format!("{DEVICE}hooks:\n  beforeLease: {{script: 'env; echo over'}}\n");
    let lab = Lab::new(&file);
    let path = lab.file();
    let words = [
        "run",
        "--exporter-config",
        &path,
        "--tls-grpc-listener",
        "127.0.0.1:0",
        "--tls-grpc-insecure",
    ];
    let command =
        clean(jmp(&words)).env("JMP_GRPC_PASSPHRASE", "my-s3cret").stderr(Sink::Tail(1 << 20));
    let child = command.spawn().await.unwrap();
    let log = eventually("the hook's end", async || {
        let log = child.stderr_tail();
        log.contains(" over\n").then_some(log)
    });
    let log = log.await;
    assert!(log.contains("JUMPSTARTER_HOST=") && !log.contains("my-s3cret"), "{log}");
    child.signal(Signal::TERM);
    assert_eq!(code(&child).await, Some(0));
}
