//! An exporter in a pod that ends after its lease, and the sidecar with it.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of tests are no tests to clippy")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_client::lab::{Lab, Wanted};
use jumpstarter_config::ExporterConfig;
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
use jumpstarter_daemon::{RunOptions, run as run_exporter};
use jumpstarter_driver_core::Secret;
use jumpstarter_driver_qemu as _;
use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_driver_testkit::processes::descendants;
use jumpstarter_supervise::{Command, ExitStatus, Sink};
use jumpstarter_test_controller::{Kind, Options, TestController};
use tokio::time::timeout;

/// For what takes seconds on an idle machine.
const LONG: Duration = Duration::from_secs(120);
/// In the exporter's process: its file.
const FILE: &str = "JUMPSTARTER_TEST_FILE";

/// The lab as a client.
fn lab(controller: &TestController) -> Lab {
    let token = Secret::new(controller.token(Kind::Client, "c1"));
    let identity = Identity::client("lab", "c1", token);
    let options = ControllerOptions::new(controller.endpoint().parse().unwrap(), identity)
        .trust(Trust::Authorities(controller.ca_bundle().into_bytes()));
    Lab::new(Controller::new(options).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_ends_with_an_exporter_that_ends_after_its_lease() {
    if let Some(file) = std::env::var_os(FILE) {
        let config = ExporterConfig::load(Path::new(&file)).unwrap();
        return run_exporter(RunOptions::new(config), |_| Ok(())).await.unwrap();
    }
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let volume = tempfile::tempdir().unwrap();
    let socket = volume.path().join("launcher.sock");
    let sidecar = Command::new(env!("CARGO_BIN_EXE_jumpstarter-exec"))
        .args(["serve", "--socket"])
        .arg(&socket)
        .stderr(Sink::Tail(1 << 20))
        .spawn()
        .await
        .unwrap();
    eventually("it listens", || sidecar.stderr_tail().contains("listening")).await;

    let controller = TestController::start(Options::default()).await.unwrap();
    controller.add_exporter("e1", &[("board", "vm")]);
    controller.add_client("c1", &[]);
    let export = format!(
        "{{qemu: {{type: qemu, config: {{arch: x86_64, accel: tcg, mem: 64M, \
         launcher_socket: '{}'}}}}}}",
        socket.display()
    );
    // Not on the volume.
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("exporter.yaml");
    let text = controller.exporter_file("e1", &export) + "exitOnLeaseEnd: true\n";
    std::fs::write(&file, text).unwrap();
    let exporter = Command::new(std::env::current_exe().unwrap())
        .args(["the_sidecar_ends_with_an_exporter_that_ends_after_its_lease", "--exact"])
        .arg("--nocapture")
        .env(FILE, &file)
        .env("JUMPSTARTER_LAUNCHER_SOCKET", &socket)
        .spawn()
        .await
        .unwrap();

    let wanted = Wanted::selector("board=vm").acquisition_limit(LONG);
    let lease = lab(&controller).lease(wanted, |_| {}).await.unwrap();
    let connection = lease.connect().await.unwrap();
    connection.wait_ready(LONG).await.unwrap();
    connection.device().call("qemu.power", "on", vec![]).await.unwrap();
    let runs_qemu = || {
        let below = descendants(sidecar.pid());
        below.iter().any(|process| process.name.starts_with("qemu-system"))
    };
    assert!(runs_qemu(), "{}", sidecar.stderr_tail());
    drop(connection);
    lease.release().await.unwrap();

    let code = timeout(LONG, exporter.wait()).await.unwrap();
    assert_eq!(code, ExitStatus::Code(0), "{}", exporter.stderr_tail());
    let code = timeout(LONG, sidecar.wait()).await.unwrap();
    assert_eq!(code, ExitStatus::Code(0), "{}", sidecar.stderr_tail());
    let log = sidecar.stderr_tail();
    assert!(log.contains("shutdown requested"), "{log}");
    let left: Vec<_> = std::fs::read_dir(volume.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    // The pod is over: nobody else gets its device.
    assert!(!controller.is_online("e1"));
}
