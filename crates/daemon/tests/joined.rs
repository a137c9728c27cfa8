//! An exporter that joins a controller, and a client of that controller.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::path::Path;
use std::time::Duration;

use jumpstarter_client::ExporterState;
use jumpstarter_client::lab::{Lab, Lease, LeaseQuery, Wanted};
use jumpstarter_driver_core::{Error, ErrorKind};
use jumpstarter_test_controller::{Answer, Rule};
use support::lab::{LIMIT, controller, eventually, exporter, lab, leased};

/// A beforeLease hook that fails once the file `go` is there: the failure shows for a second only.
fn failing_hook(go: &Path, on_failure: &str) -> String {
    let script = format!("until [ -e {} ]; do sleep 0.02; done; exit 3", go.display());
    format!("hooks: {{beforeLease: {{script: '{script}', onFailure: {on_failure}}}}}\n")
}

/// Why a leased device cannot be used whose hook fails now.
async fn unusable(lab: &Lab, go: &Path, with: impl FnOnce(&Lease) -> bool) -> Error {
    let wanted = Wanted::selector("board=mock").acquisition_limit(LIMIT);
    let lease = lab.lease(wanted, |_| {}).await.unwrap();
    assert!(with(&lease));
    let exporter = lease.connect().await.unwrap();
    std::fs::write(go, "").unwrap();
    exporter.wait_ready(LIMIT).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_a_device_and_gives_it_back() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    exporter.device().call("power", "on", vec![]).await.unwrap();
    let mut echo = exporter.device().connect("echo", "connect").await.unwrap();
    let sent: Vec<u8> = (0..1_u32 << 20).map(|number| number as u8).collect();
    echo.send(sent.clone()).await.unwrap();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        received.extend(echo.receive().await.unwrap().unwrap());
    }
    assert_eq!(received, sent);
    assert_eq!(lease.exporter(), "e1");
    lease.release().await.unwrap();
    // The next one gets it, with drivers opened anew.
    let (_lease, next) = leased(&lab).await;
    next.wait_ready(LIMIT).await.unwrap();
    next.device().call("power", "off", vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_ends_the_calls_of_its_lease() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    assert!(exporter.end_session().await.unwrap());
    let until_available = async {
        while exporter.status().await.unwrap().state != ExporterState::Available {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, until_available).await.unwrap();
    let error = exporter.device().call("power", "on", vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    lease.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_away_ends_neither_a_lease_nor_a_tunnel() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    let mut echo = exporter.device().connect("echo", "connect").await.unwrap();
    controller.controller().down().await;
    for _ in 0..3 {
        exporter.device().call("power", "on", vec![]).await.unwrap();
        echo.send("still there").await.unwrap();
        assert_eq!(echo.receive().await.unwrap().unwrap(), "still there");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    controller.controller().up().await;
    // A further connection is possible once the exporter listens again.
    let second = tokio::time::timeout(LIMIT, lease.connect()).await.unwrap().unwrap();
    second.device().call("power", "off", vec![]).await.unwrap();
    exporter.device().call("power", "on", vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_have_the_names_of_the_lease_and_run_once() {
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hooks");
    let hooks = format!(
        "hooks:\n  beforeLease: {{script: 'echo before $LEASE_NAME $CLIENT_NAME >> {0}'}}\n  afterLease: {{script: 'echo after $LEASE_NAME $CLIENT_NAME >> {0}'}}\n",
        file.display()
    );
    let _running = exporter(&controller, &hooks).await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    let name = lease.name().to_owned();
    exporter.end_session().await.unwrap();
    lease.release().await.ok();
    let (_lease, next) = leased(&lab).await;
    next.wait_ready(LIMIT).await.unwrap();
    let said = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], [format!("before {name} c1"), format!("after {name} c1")]);
    assert!(lines.len() == 3 && lines[2].starts_with("before "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_after_a_transferred_lease_has_the_name_of_the_new_client() {
    use jumpstarter_test_controller::proto::v1::ExporterStatus::LeaseReady;
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hooks");
    let script = format!("echo $CLIENT_NAME > {0}.part && mv {0}.part {0}", file.display());
    let hooks = format!("hooks: {{afterLease: {{script: '{script}'}}}}\n");
    let _running = exporter(&controller, &hooks).await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    lab.change_lease(lease.name(), None, None, Some("c2")).await.unwrap();
    eventually("its state is reported", || controller.status_of("e1") == Some(LeaseReady)).await;
    // The stream that follows names the new client, and then the state is reported again.
    let reports = controller.reports("e1").len();
    controller.end_status_streams(None, None);
    eventually("the exporter knows", || controller.reports("e1").len() > reports).await;
    controller.release(lease.name());
    eventually("the hook runs", || file.exists()).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "c2\n");
    lease.keep();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_waits_for_its_controller_and_ends_after_one_lease() {
    use jumpstarter_test_controller::proto::v1::ExporterStatus::{Available, LeaseReady, Offline};
    let controller = controller().await;
    controller.controller().down().await;
    let starting = exporter(&controller, "exitOnLeaseEnd: true\n");
    tokio::pin!(starting);
    let early = tokio::time::timeout(Duration::from_millis(700), &mut starting).await;
    assert!(early.is_err(), "the controller is away");
    controller.controller().up().await;
    let running = starting.await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    // A state that is followed by the next one at once is not reported.
    eventually("its state is reported", || controller.status_of("e1") == Some(LeaseReady)).await;
    lease.release().await.unwrap();
    tokio::time::timeout(LIMIT, running).await.unwrap().unwrap().unwrap();
    // Nobody else gets a device that is about to go.
    let reports = controller.reports("e1");
    let served = reports.iter().position(|report| report.status == LeaseReady).unwrap();
    let after = &reports[served + 1..];
    assert!(after.iter().all(|report| report.status != Available), "{after:?}");
    assert_eq!(controller.status_of("e1"), Some(Offline));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lease_after_another_in_one_message_are_two_leases() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let lab = lab(&controller);
    let (first, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    let wanted = Wanted::exporter("e1").acquisition_limit(LIMIT).to_wire().unwrap();
    let second = lab.create_lease(wanted, "second").await.unwrap();
    assert!(second.exporter.is_none(), "the first one has it");
    controller.jump("e1", "second");
    let second =
        lab.lease(Wanted::existing("second").acquisition_limit(LIMIT), |_| {}).await.unwrap();
    let next = tokio::time::timeout(LIMIT, second.connect()).await.unwrap().unwrap();
    next.wait_ready(LIMIT).await.unwrap();
    next.device().call("power", "on", vec![]).await.unwrap();
    // The tunnels of the first one are closed.
    tokio::time::timeout(LIMIT, exporter.lost()).await.unwrap();
    first.keep();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_is_reported_again() {
    let controller = controller().await;
    let lost = Answer::Refuse(tonic::Code::Unavailable, "connection reset".to_owned());
    controller.add_rule(Rule::new("ReportStatus", lost).times(3));
    let _running = exporter(&controller, "").await;
    let (_lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_are_opened_again_after_a_pause() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let (lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    for _ in 0..5 {
        controller.end_status_streams(None, None);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    exporter.device().call("power", "on", vec![]).await.unwrap();
    let second = tokio::time::timeout(LIMIT, lease.connect()).await.unwrap().unwrap();
    second.device().call("power", "off", vec![]).await.unwrap();
    lease.release().await.unwrap();
    let (_lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_restarts_breaks_what_went_through_it_and_nothing_else() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let (lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    controller.router().outage(Duration::from_millis(300)).await;
    tokio::time::timeout(LIMIT, exporter.lost()).await.unwrap();
    let again = tokio::time::timeout(LIMIT, lease.connect()).await.unwrap().unwrap();
    again.device().call("power", "on", vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_ends_the_lease_tells_the_client_why() {
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let _running = exporter(&controller, &failing_hook(&go, "endLease")).await;
    let lab = lab(&controller);
    // The exporter gives the lease back by itself.
    let error = unusable(&lab, &go, |lease| {
        lease.keep();
        true
    });
    let error = error.await;
    assert!(error.report().contains("beforeLease hook failed"), "{error:?}");
    let over = async {
        while !lab.leases(&LeaseQuery::default()).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, over).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_ends_the_exporter_ends_it() {
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let running = exporter(&controller, &failing_hook(&go, "exit")).await;
    let lab = lab(&controller);
    let error = unusable(&lab, &go, |lease| lease.is_own()).await;
    assert!(error.report().contains("beforeLease hook failed"), "{error:?}");
    let error = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap().unwrap_err();
    assert!(error.report().contains("beforeLease"), "{error:?}");
    assert_eq!(lab.exporter("e1", false).await.unwrap().status, "OFFLINE");
}
