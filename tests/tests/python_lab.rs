//! The controller of the tests, checked with upstream's exporter and client: both in Python, they
//! find in it what they find in the real one.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::time::Duration;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_supervise::run_unchecked;
use jumpstarter_test_controller::proto::v1::ExporterStatus;
use jumpstarter_test_controller::{Options, TestController};
use jumpstarter_tests::python_client::PythonClient;
use jumpstarter_tests::python_exporter::{PythonExporter, python_environment};

const EXPORT: &str = "
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
hooks:
  beforeLease: {script: 'echo before $LEASE_NAME for $CLIENT_NAME', timeout: 30}
  afterLease: {script: 'j power off', timeout: 30}
";
/// For one command, on a busy host.
const DEADLINE: Duration = Duration::from_secs(60);

/// A controller with an exporter and a client in Python.
struct Lab {
    controller: TestController,
    exporter: PythonExporter,
    client: PythonClient,
    environment: PathBuf,
}

impl Lab {
    /// `None`, after a skip, if there is no Python.
    async fn start() -> Option<Self> {
        let environment = python_environment()?;
        let controller = TestController::start(Options::default()).await.unwrap();
        controller.add_exporter("e1", &[("board", "qemu")]);
        controller.add_client("c1", &[]);
        let file = controller.exporter_file("e1", EXPORT);
        let exporter = PythonExporter::join(&environment, &file).await.unwrap();
        let client = PythonClient::new(&environment, &controller.client_file("c1")).unwrap();
        eventually("the exporter joins", || controller.has_status_stream("e1")).await;
        Some(Self { controller, exporter, client, environment })
    }

    /// What a command that succeeds prints.
    async fn jmp(&self, words: &[&str]) -> String {
        let output = run_unchecked(self.client.jmp(words), DEADLINE).await.unwrap();
        let text = output.stdout_text();
        let said = format!("{text}\n{}\n{}", output.stderr, self.exporter.log());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        text
    }

    fn statuses(&self) -> Vec<ExporterStatus> {
        self.controller.reports("e1").into_iter().map(|report| report.status).collect()
    }
}

#[tokio::test]
async fn python_exporter_and_client_share_a_lease() {
    use ExporterStatus::{AfterLeaseHook, Available, BeforeLeaseHook, LeaseReady};
    let Some(lab) = Lab::start().await else { return };
    let words = ["shell", "-l", "board=qemu", "--duration", "600", "--", "j", "power", "on"];
    lab.jmp(&words).await;
    assert!(lab.exporter.log().contains("power on"), "{}", lab.exporter.log());
    let is_over = || lab.controller.leases(true).is_empty();
    eventually("the client deletes its lease", is_over).await;
    // The exporter repeats the last one after its release, which may be later.
    let first = [Available, BeforeLeaseHook, LeaseReady, AfterLeaseHook, Available];
    eventually("its states are reported", || lab.statuses().len() >= first.len()).await;
    let statuses = lab.statuses();
    assert!(statuses.starts_with(&first), "{statuses:?}");
    assert!(lab.controller.calls_of("Dial", "c1") >= 1);
    assert_eq!(lab.controller.calls_of("Listen", "e1"), 1);
    eventually("the tunnels close", || lab.controller.router_streams() == (0, 0)).await;
    lab.exporter.stop().await.unwrap();
    assert_eq!(lab.controller.calls_of("Unregister", "e1"), 1);
    assert_eq!(lab.controller.status_of("e1"), Some(ExporterStatus::Offline));
}

#[tokio::test]
async fn python_exporter_is_leased_listed_transferred_and_released() {
    let Some(lab) = Lab::start().await else { return };
    assert_eq!(lab.jmp(&["get", "exporters", "-o", "name"]).await, "e1\n");
    let table = lab.jmp(&["get", "exporters", "--with", "online"]).await;
    assert!(table.contains("yes") && table.contains("board=qemu"), "{table}");
    let create = ["create", "lease", "-l", "board=qemu", "--duration", "600"];
    let lease = lab.jmp(&[&create[..], &["--lease-id", "mine", "-o", "name"]].concat()).await;
    assert_eq!(lease, "mine\n");
    let is_ready = || lab.controller.status_of("e1") == Some(ExporterStatus::LeaseReady);
    eventually("the exporter serves it", is_ready).await;
    let leases = lab.jmp(&["get", "leases", "-o", "json"]).await;
    let leases: serde_json::Value = serde_json::from_str(&leases).unwrap();
    assert_eq!(leases["leases"][0]["exporter"], "e1", "{leases}");
    assert_eq!(leases["leases"][0]["conditions"][0]["reason"], "Ready", "{leases}");
    // The lease goes to another client, which uses it.
    lab.controller.add_client("c2", &[]);
    lab.jmp(&["update", "lease", "mine", "--to-client", "c2", "-o", "name"]).await;
    let second = PythonClient::new(&lab.environment, &lab.controller.client_file("c2")).unwrap();
    let words = ["shell", "--lease", "mine", "--", "j", "power", "on"];
    let output = run_unchecked(second.jmp(&words), DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let output = run_unchecked(second.jmp(&["delete", "leases", "mine"]), DEADLINE).await.unwrap();
    assert_eq!(output.stdout_text(), "lease \"mine\" deleted\n", "{}", output.stderr);
    eventually("the exporter is free", || {
        lab.controller.lease_of("e1").is_none()
            && lab.controller.status_of("e1") == Some(ExporterStatus::Available)
    })
    .await;
    lab.exporter.stop().await.unwrap();
}
