//! The example units for systemd: what they say is right, and the command of the first serves.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use std::path::Path;

use jumpstarter_supervise::{Command, Signal, Sink, run_unchecked};
use rustix::fs::stat;

use lab::{EVERYTHING, clean, line, start};
use terminal::{DEADLINE, JMP, Lab, code};

fn unit() -> String {
    unit_named("jumpstarter-exporter@.service")
}

fn unit_named(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/exporter");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// The values of a setting, with continued lines joined.
fn values(name: &str) -> Vec<String> {
    let text = unit().replace("\\\n", " ");
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    text.lines().filter_map(of).collect()
}

#[tokio::test]
async fn systemd_accepts_them() {
    for name in ["jumpstarter-exporter@", "jumpstarter-joined@"] {
        systemd_accepts(name).await;
    }
}

async fn systemd_accepts(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("{name}lab.service"));
    // The program is elsewhere than on a machine where it is installed.
    let text = unit_named(&format!("{name}.service")).replace("/usr/local/bin/jmp", JMP);
    std::fs::write(&file, text).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file);
    match run_unchecked(verify, DEADLINE).await {
        Ok(output) => {
            let text = format!("{}{}", output.stdout_text(), output.stderr);
            let about_it: Vec<&str> =
                text.lines().filter(|line| line.contains("jumpstarter")).collect();
            assert!(output.status.success() && about_it.is_empty(), "{text}");
        }
        Err(error) => jumpstarter_driver_testkit::skip(&format!("no systemd-analyze: {error}")),
    }
}

#[test]
fn it_is_tried_again_for_ever_and_is_not_root() {
    assert_eq!(values("StartLimitIntervalSec"), ["0"]);
    assert_eq!(values("Restart"), ["on-failure"]);
    assert_eq!(values("RestartSec").len(), 1);
    assert_eq!(values("DynamicUser"), ["yes"]);
    assert!(values("LoadCredential").iter().any(|value| value.starts_with("passphrase:")));
}

/// Its command line, as systemd would run it, in a folder that stands for that of the credentials.
#[tokio::test]
async fn its_command_serves_and_logs_with_priorities() {
    let lab = Lab::new(EVERYTHING);
    let configuration = lab.path("config/jumpstarter/exporters");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("lab.yaml"), EVERYTHING).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(lab.path("cert"), made.cert.pem()).unwrap();
    std::fs::write(lab.path("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(lab.path("passphrase"), "s3cret\n").unwrap();
    let credentials = lab.folder().to_str().unwrap();
    let command = values("ExecStart").concat();
    let words = command.replace("%i", "lab").replace("${CREDENTIALS_DIRECTORY}", credentials);
    let mut words: Vec<&str> = words.split_whitespace().collect();
    assert_eq!(words.remove(0), "/usr/local/bin/jmp");
    let port = words.iter_mut().find(|word| **word == "1234").unwrap();
    *port = "127.0.0.1:0";
    // Standard error is the journal's when it is the stream that systemd names.
    let log = std::fs::File::create(lab.path("log")).unwrap();
    let stream = stat(lab.path("log")).unwrap();
    let command = clean(Command::new(JMP))
        .args(&words)
        .env("JMP_CLIENT_CONFIG_HOME", lab.path("config/jumpstarter"))
        .env("JOURNAL_STREAM", format!("{}:{}", stream.st_dev, stream.st_ino))
        .stdout(Sink::Piped)
        .stderr(Sink::File(log));
    let child = command.spawn().await.unwrap();
    use tokio::io::{AsyncBufReadExt, BufReader};
    let mut lines = BufReader::new(child.take_stdout().unwrap()).lines();
    let said = || std::fs::read_to_string(lab.path("log")).unwrap();
    let ready = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
    assert!(
        ready.as_deref().is_some_and(|line| line.starts_with("ready tcp://127.0.0.1:")),
        "{}",
        said()
    );
    child.signal(Signal::TERM);
    assert_eq!(code(&child).await, Some(0), "{}", said());
    let log = said();
    assert!(!log.is_empty());
    for line in log.lines() {
        let (priority, record) = line.split_at(3);
        assert!(["<3>", "<4>", "<6>", "<7>"].contains(&priority), "{line}");
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        assert_eq!(priority == "<6>", record["severity"] == "INFO", "{line}");
    }
}

/// A redirected log is for somebody else than the journal, whatever the service's environment says.
#[tokio::test]
async fn a_redirected_log_has_no_priorities() {
    let lab = Lab::new(EVERYTHING);
    let (file, socket) = (lab.file(), lab.path("s"));
    let words = ["run", "--exporter-config", &file, "--listen-unix", socket.to_str().unwrap()];
    let command = clean(Command::new(JMP)).args(words).env("JOURNAL_STREAM", "8:1234");
    let (child, mut lines) = start(command).await;
    line(&mut lines, &child).await;
    child.signal(Signal::TERM);
    assert_eq!(code(&child).await, Some(0));
    let log = child.stderr_tail();
    assert!(!log.is_empty() && log.lines().all(|line| line.starts_with("20")), "{log}");
}
