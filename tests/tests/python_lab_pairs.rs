//! One end of a lab in Python, the other one this project's: an exporter of ours with a client in
//! Python, and an exporter in Python with a client of ours.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::{Command, Input, Signal, Sink};
use jumpstarter_test_controller::{Options, TestController};
use jumpstarter_tests::pairs::{Pair, Part, Peer, Programs, Station};
use jumpstarter_tests::python_exporter::python_environment;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const EXPORT: &str = "
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
hooks:
  beforeLease: {script: 'echo before $LEASE_NAME for $CLIENT_NAME', timeout: 30}
  afterLease: {script: 'j power off', timeout: 30}
";
/// For one command, on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

async fn controller() -> TestController {
    let controller = TestController::start(Options::default()).await.unwrap();
    controller.add_exporter("e1", &[("board", "qemu")]);
    controller.add_client("c1", &[]);
    controller
}

fn ours() -> Command {
    Command::new(std::env::var_os("JMP").unwrap())
}

async fn is_joined(controller: &TestController) {
    eventually("the exporter joins", || controller.has_status_stream("e1")).await;
}

/// Runs parts of the suite that all pairs share.
async fn passes(exporter: Peer, client: Peer) {
    let Some(environment) = python_environment() else { return };
    let lab = Path::new(env!("CARGO_BIN_EXE_lab"));
    let programs = Programs::new(lab, Some(environment)).unwrap();
    let station = Station::start(&programs, Pair { exporter, client }).await.unwrap();
    for part in [Part::Calls, Part::Hooks] {
        if let Err(error) = part.run(&station).await {
            panic!("{}", error.report());
        }
    }
}

#[tokio::test]
async fn python_hosts_the_client_of_our_exporter() {
    passes(Peer::Ours, Peer::Python).await;
}

#[tokio::test]
async fn python_exporter_serves_a_lease_of_our_client() {
    passes(Peer::Python, Peer::Ours).await;
}

/// `jmp` of this project, as the client of a file.
fn client(file: &Path, words: &[&str]) -> Command {
    let j = Path::new(&std::env::var_os("JMP").unwrap()).parent().unwrap().to_owned();
    let mut path = j.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    ours()
        .arg("shell")
        .arg("--client-config")
        .arg(file)
        .args(words)
        .env("PATH", path)
        .env_remove("JUMPSTARTER_HOST")
        .stdout(Sink::Tail(64 * 1024))
        .stderr(Sink::Tail(64 * 1024))
}

#[tokio::test]
async fn python_j_goes_on_in_our_shell_after_the_router_restarted() {
    let Some(environment) = python_environment() else { return };
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let exporter_file = file("exporter.yaml", controller.exporter_file("e1", EXPORT));
    let exporter =
        ours().arg("run").arg(exporter_file).stdout(Sink::Null).stderr(Sink::Tail(1 << 20));
    let exporter = exporter.spawn().await.unwrap();
    is_joined(&controller).await;
    let client_file = file("client.yaml", controller.client_file("c1"));
    let j = environment.join("bin/j");
    let script = "while read line; do \"$0\" power on && echo used; done; exit 7";
    let words = ["-l", "board=qemu", "--", "sh", "-c", script, j.to_str().unwrap()];
    let shell = client(&client_file, &words).stdin(Input::Piped).stdout(Sink::Piped);
    let shell = shell.spawn().await.unwrap();
    let mut lines = BufReader::new(shell.take_stdout().unwrap()).lines();
    let mut input = shell.take_stdin().unwrap();
    for round in 0..2 {
        if round == 1 {
            controller.router().down().await;
            controller.router().up().await;
        }
        input.write_all(b"\n").await.unwrap();
        let used = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        assert_eq!(used.as_deref(), Some("used"), "{round}: {}", shell.stderr_tail());
    }
    drop(input);
    let ended = tokio::time::timeout(DEADLINE, shell.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(7), "{}", shell.stderr_tail());
    exporter.signal(Signal::TERM);
    tokio::time::timeout(DEADLINE, exporter.wait()).await.unwrap();
}
