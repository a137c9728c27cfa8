//! A controller with an exporter and clients.

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_client::Exporter;
use jumpstarter_client::lab::{Lab, Lease, Wanted};
use jumpstarter_config::ExporterConfig;
use jumpstarter_controller::{Controller, ControllerOptions, Identity, Trust};
use jumpstarter_daemon::{RunOptions, run};
use jumpstarter_driver_core::Secret;
use jumpstarter_test_controller::{Kind, Options, TestController};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use jumpstarter_driver_flasher as _;
use jumpstarter_driver_network as _;
use jumpstarter_driver_power as _;

pub const LIMIT: Duration = Duration::from_secs(60);
pub const POWER: &str = "{power: {type: mock-power}, echo: {type: echo}}";

/// A controller with the exporter `e1` and the clients `c1` and `c2`.
pub async fn controller() -> TestController {
    let controller = TestController::start(Options::default()).await.unwrap();
    controller.add_exporter("e1", &[("board", "mock")]);
    controller.add_client("c1", &[]);
    controller.add_client("c2", &[]);
    controller
}

pub type Running = AbortOnDropHandle<jumpstarter_driver_core::Result<()>>;

/// Runs the exporter of a file until it is registered.
pub async fn exporter(controller: &TestController, rest: &str) -> Running {
    exporter_of(controller.exporter_file("e1", POWER) + rest, "exporter.yaml").await
}

/// As [`exporter`], with the text of a file and its path.
pub async fn exporter_of(text: String, path: &str) -> Running {
    let (running, is_ready) = begin(options(&text, path));
    tokio::time::timeout(LIMIT, is_ready).await.unwrap().unwrap();
    running
}

pub fn options(text: &str, path: &str) -> RunOptions {
    RunOptions::new(ExporterConfig::parse(text, path).unwrap())
}

/// Begins to run an exporter; the second value comes once it is registered.
pub fn begin(options: RunOptions) -> (Running, oneshot::Receiver<()>) {
    let (ready, is_ready) = oneshot::channel();
    let task: JoinHandle<_> = tokio::spawn(run(options, |_| {
        ready.send(()).ok();
        Ok(())
    }));
    (AbortOnDropHandle::new(task), is_ready)
}

/// How an exporter ends by itself.
pub async fn end(running: Running) -> jumpstarter_driver_core::Result<()> {
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The lab as the client `c1`.
pub fn lab(controller: &TestController) -> Lab {
    Lab::new(client(controller))
}

/// The controller as the client `c1` calls it.
pub fn client(controller: &TestController) -> Controller {
    let token = Secret::new(controller.token(Kind::Client, "c1"));
    let identity = Identity::client("lab", "c1", token);
    let options = ControllerOptions::new(controller.endpoint().parse().unwrap(), identity)
        .trust(Trust::Authorities(controller.ca_bundle().into_bytes()));
    Controller::new(options).unwrap()
}

pub async fn leased(lab: &Lab) -> (Arc<Lease>, Exporter) {
    let wanted = Wanted::selector("board=mock").acquisition_limit(LIMIT);
    let lease = lab.lease(wanted, |_| {}).await.unwrap();
    let exporter = lease.connect().await.unwrap();
    (lease, exporter)
}
