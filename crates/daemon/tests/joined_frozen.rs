//! A controller that does not answer though its connections are open, and an exporter that does not
//! read what its controller has for it.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use jumpstarter_client::Exporter;
use jumpstarter_client::lab::Lease;
use jumpstarter_driver_core::{Channel, ErrorKind};
use jumpstarter_protocol::rpc::controller::Dial;
use jumpstarter_protocol::v1::DialRequest;
use jumpstarter_test_controller::proto::v1::ExporterStatus::LeaseReady;
use jumpstarter_test_controller::{Rule, TestController};
use rustix::process::Signal;
use support::lab::{LIMIT, client, controller, eventually, lab, leased};
use support::process;

/// Keep-alive that finds a dead connection within seconds.
const IMPATIENT: &str =
    "grpcOptions: {grpc.keepalive_time_ms: 200, grpc.keepalive_timeout_ms: 5000}\n";
/// Dials for an exporter that does not run.
const UNREAD: usize = 20;
/// How often the queue of an exporter is full.
const FULL: u32 = 4;

/// An exporter in a process, and its device in use: by a stream, and by a call that goes on until
/// the test ends it.
struct Used {
    running: process::Exporter,
    lease: Arc<Lease>,
    exporter: Exporter,
    echo: Channel,
    call: tokio::task::JoinHandle<jumpstarter_driver_core::Result<serde_json::Value>>,
}

impl Used {
    async fn start(controller: &TestController, rest: &str) -> Self {
        let running = process::Exporter::join_by(
            |folder| {
                let script = "touch begun; until [ -e end ]; do sleep 0.1; done";
                let power = format!(
                    "{{on: [sh, -c, '{script}'], off: ['true'], timeout: 10min, cwd: {}}}",
                    folder.display()
                );
                let power = format!("{{type: command-power, config: {power}}}");
                let device = format!("{{power: {power}, echo: {{type: echo}}}}");
                controller.exporter_file("e1", &device) + rest
            },
            "exec \"$@\"",
        );
        let (lease, exporter) = leased(&lab(controller)).await;
        exporter.wait_ready(LIMIT).await.unwrap();
        let mut echo = exporter.device().connect("echo", "connect").await.unwrap();
        echo.send("first").await.unwrap();
        assert_eq!(receive(&mut echo).await, "first");
        let device = exporter.device().clone();
        let call = tokio::spawn(async move { device.call("power", "on", vec![]).await });
        let begun = running.folder.path().join("begun");
        eventually("the call runs", || begun.exists()).await;
        Self { running, lease, exporter, echo, call }
    }

    /// The stream and the call have gone on, and the lease takes further connections.
    async fn ends_well(mut self, controller: &TestController) {
        self.echo.send("still there").await.unwrap();
        assert_eq!(receive(&mut self.echo).await, "still there");
        assert!(!self.call.is_finished());
        std::fs::write(self.running.folder.path().join("end"), "").unwrap();
        tokio::time::timeout(LIMIT, self.call).await.unwrap().unwrap().unwrap();
        let second = tokio::time::timeout(LIMIT, self.lease.connect()).await.unwrap().unwrap();
        second.device().call("power", "off", vec![]).await.unwrap();
        assert_eq!(controller.lease_of("e1").as_deref(), Some(self.lease.name()));
        drop((self.exporter, second));
        self.lease.release().await.unwrap();
        eventually("the tunnels close", || controller.router_streams() == (0, 0)).await;
        self.running.signal(Signal::TERM);
        let (code, log) = self.running.code().await;
        assert_eq!(code, Some(0), "{log}");
    }
}

async fn receive(stream: &mut Channel) -> bytes::Bytes {
    tokio::time::timeout(LIMIT, stream.receive()).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alive_finds_a_frozen_controller_and_what_runs_goes_on() {
    let controller = controller().await;
    let mut used = Used::start(&controller, IMPATIENT).await;
    eventually("its state is reported", || controller.status_of("e1") == Some(LeaseReady)).await;
    let (streams, reports) = (controller.calls_of("Status", "e1"), controller.reports("e1").len());
    controller.controller().freeze();
    used.running.until_logged("the controller is away").await;
    used.echo.send("meanwhile").await.unwrap();
    assert_eq!(receive(&mut used.echo).await, "meanwhile");
    controller.controller().thaw();
    eventually("it follows its leases", || controller.calls_of("Status", "e1") > streams).await;
    eventually("its state is reported again", || controller.reports("e1").len() > reports).await;
    assert_eq!(controller.status_of("e1"), Some(LeaseReady));
    used.ends_well(&controller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_and_a_router_that_freeze_for_a_moment_are_only_a_wait() {
    let controller = controller().await;
    let mut used = Used::start(&controller, "").await;
    let streams = controller.calls_of("Status", "e1");
    controller.controller().freeze();
    controller.router().freeze();
    used.echo.send("meanwhile").await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(2), used.echo.receive()).await;
    assert!(early.is_err(), "the router is frozen");
    controller.router().thaw();
    controller.controller().thaw();
    assert_eq!(receive(&mut used.echo).await, "meanwhile");
    assert_eq!(controller.calls_of("Status", "e1"), streams, "the connection is the same");
    used.ends_well(&controller).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_an_exporter_that_stopped_is_only_a_wait() {
    let controller = controller().await;
    let used = Used::start(&controller, "").await;
    used.running.signal(Signal::STOP);
    let dialling = client(&controller);
    let request = DialRequest { lease_name: used.lease.name().to_owned() };
    // More than the queue holds: the windows of the stream that nobody reads take them.
    for _ in 0..UNREAD {
        dialling.call::<Dial>(&request).await.unwrap();
    }
    controller.add_rule(Rule::full_queue().times(FULL));
    let refused = dialling.call::<Dial>(&request).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ResourceExhausted, "{refused:?}");
    let dials = controller.calls("Dial");
    let lease = used.lease.clone();
    let waiting = tokio::spawn(async move { lease.connect().await });
    let again = dials + u64::from(FULL);
    eventually("it is dialled again until it may", || controller.calls("Dial") >= again).await;
    assert!(!waiting.is_finished());
    used.running.signal(Signal::CONT);
    let second = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    let mut echo = second.device().connect("echo", "connect").await.unwrap();
    echo.send("second").await.unwrap();
    assert_eq!(receive(&mut echo).await, "second");
    drop((second, echo));
    used.ends_well(&controller).await;
}
