//! What goes wrong for an exporter that is joined to a controller: its token, its device, an old
//! controller, streams that end.

mod support;

use std::time::Duration;

use jumpstarter_client::lab::Wanted;
use jumpstarter_driver_core::ErrorKind;
use jumpstarter_protocol::rpc::controller::Dial;
use jumpstarter_protocol::v1::DialRequest;
use jumpstarter_test_controller::proto::v1::ExporterStatus::{
    Available, BeforeLeaseHookFailed, LeaseReady,
};
use jumpstarter_test_controller::{Answer, Kind, Rule, TestController};
use rustix::process::Signal;
use support::lab::{
    LIMIT, POWER, begin, client, controller, end, eventually, exporter, exporter_of, lab, leased,
    options,
};
use support::process::Exporter;

use jumpstarter_driver_serial as _;

const PATIENCE: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_ends_the_exporter_after_its_patience() {
    let controller = controller().await;
    let expired = controller.token_with_life(Kind::Exporter, "e1", -60);
    let file = controller.exporter_file_with("e1", &expired, POWER);
    let (running, _ready) = begin(options(&file, "exporter.yaml").token_patience(PATIENCE));
    let error = end(running).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(error.report().contains("token is expired"), "{error:?}");
    assert!(controller.calls("Register") > 1, "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_later_ends_the_exporter_too() {
    let controller = controller().await;
    let file = controller.exporter_file("e1", POWER);
    let (running, ready) = begin(options(&file, "exporter.yaml").token_patience(PATIENCE));
    ready.await.unwrap();
    // A stream that opens later would not be ended.
    eventually("it follows its leases", || controller.has_status_stream("e1")).await;
    controller.add_rule(Rule::expired_token("e1"));
    controller.end_status_streams(None, None);
    let error = end(running).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_in_the_file_is_used_without_a_restart() {
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.yaml");
    let old = controller.token(Kind::Exporter, "e1");
    let file = controller.exporter_file_with("e1", &old, POWER);
    std::fs::write(&path, &file).unwrap();
    let _running = exporter_of(file, path.to_str().unwrap()).await;
    let lab = lab(&controller);
    let (_lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    controller.expire_token(&old);
    controller.end_status_streams(None, None);
    let new = controller.token_with_life(Kind::Exporter, "e1", 5000);
    assert_ne!(new, old);
    std::fs::write(&path, controller.exporter_file_with("e1", &new, POWER)).unwrap();
    eventually("it follows its leases", || controller.has_status_stream("e1")).await;
    // The lease went on.
    exporter.device().call("power", "on", vec![]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_controller_learns_of_a_release_with_a_state() {
    let controller = controller().await;
    controller.add_rule(Rule::missing("ReleaseLease").from("e1"));
    controller.add_rule(Rule::missing("GetServiceEndpoints"));
    let _running = exporter(&controller, "hooks: {afterLease: {script: 'true'}}\n").await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    exporter.end_session().await.unwrap();
    eventually("the exporter gives the lease back", || controller.leases(true).is_empty()).await;
    lease.keep();
    let reports = controller.reports("e1");
    let released: Vec<_> = reports.iter().filter(|report| report.release).collect();
    assert!(released.len() == 1 && released[0].status != Available, "{reports:?}");
    let (_lease, next) = leased(&lab).await;
    next.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_states_is_enough() {
    let controller = controller().await;
    controller.add_rule(Rule::missing("ReportStatus"));
    let _running = exporter(&controller, "").await;
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.device().call("power", "on", vec![]).await.unwrap();
    lease.release().await.unwrap();
    let calls = controller.calls_of("ReportStatus", "e1");
    assert!(calls < 20, "it is not asked again and again: {calls}");
}

/// An exporter file with a console at a Unix socket, which is open as long as the device.
fn with_console(controller: &TestController, socket: &std::path::Path) -> String {
    let config = format!("{{url: 'unix://{}', scrollback: 1K}}", socket.display());
    let console = format!("{{console: {{type: serial, config: {config}}}}}");
    let most = "failureDetection: {maxRapidFailures: 2, rapidFailureWindow: 60}\n";
    controller.exporter_file("e1", &console) + most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_never_opens_ends_the_exporter() {
    let controller = controller().await;
    let file = with_console(&controller, std::path::Path::new("/no/such/socket"));
    let (running, _ready) = begin(options(&file, "exporter.yaml"));
    let error = end(running).await.unwrap_err();
    assert!(error.report().contains("did not open 2 times in a row"), "{error:?}");
    assert_eq!(controller.calls("Register"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_whose_device_does_not_open_are_released_and_end_the_exporter() {
    let controller = controller().await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let console = tokio::net::UnixListener::bind(&socket).unwrap();
    let (running, ready) = begin(options(&with_console(&controller, &socket), "exporter.yaml"));
    ready.await.unwrap();
    drop(console);
    std::fs::remove_file(&socket).unwrap();
    let lab = lab(&controller);
    for _ in 0..2 {
        let wanted = Wanted::selector("board=mock").acquisition_limit(LIMIT);
        // The exporter may be faster than the client.
        if let Ok(lease) = lab.lease(wanted, |_| {}).await {
            lease.keep();
        }
        eventually("the lease is released", || controller.leases(true).is_empty()).await;
    }
    let error = end(running).await.unwrap_err();
    assert!(error.report().contains("did not open 2 times in a row"), "{error:?}");
    let reports = controller.reports("e1");
    assert!(reports.iter().any(|report| report.status == BeforeLeaseHookFailed), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_end_at_once_are_no_busy_loop() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let (lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    let before = controller.calls("Status");
    let began = std::time::Instant::now();
    // On a busy machine the next streams may be later.
    while began.elapsed() < Duration::from_secs(2) || controller.calls("Status") < before + 2 {
        assert!(began.elapsed() < LIMIT, "the stream is not opened again");
        controller.end_status_streams(None, None);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let calls = controller.calls("Status") - before;
    assert!((2..=25).contains(&calls), "{calls} streams in {:?}", began.elapsed());
    let broken = tonic::Status::unknown("watch channel closed");
    controller.end_status_streams(None, Some(&broken));
    exporter.device().call("power", "on", vec![]).await.unwrap();
    // The object of the lease goes away, and its stream ends with an error.
    controller.remove_lease(lease.name());
    tokio::time::timeout(LIMIT, exporter.lost()).await.unwrap();
    lease.keep();
    let (_lease, next) = leased(&lab(&controller)).await;
    next.wait_ready(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_whose_answer_is_lost_is_reported_again() {
    let controller = controller().await;
    let lost = Answer::Lose(tonic::Code::Unavailable, "connection reset".to_owned());
    controller.add_rule(Rule::new("ReportStatus", lost).times(2));
    let _running = exporter(&controller, "").await;
    let (_lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    // The client may see the state before the controller has it.
    eventually("it is reported", || controller.status_of("e1") == Some(LeaseReady)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_that_no_client_uses_end_with_the_lease() {
    let controller = controller().await;
    let _running = exporter(&controller, "").await;
    let (lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    let client = client(&controller);
    let request = DialRequest { lease_name: lease.name().to_owned() };
    for _ in 0..20 {
        client.call::<Dial>(&request).await.unwrap();
    }
    eventually("all of them are joined", || controller.router_streams().0 >= 20).await;
    lease.release().await.unwrap();
    eventually("all of them end", || controller.router_streams() == (0, 0)).await;
    // The controller still gives out tokens for it; the exporter does not use them.
    let late = client.call::<Dial>(&request).await;
    assert!(late.is_err() || controller.router_streams() == (0, 0), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_exporter_serves_the_same_lease_again() {
    let controller = controller().await;
    let file = controller.exporter_file("e1", POWER);
    let running = Exporter::join_by(|_| file.clone(), "exec \"$@\"");
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    running.signal(Signal::KILL);
    drop(exporter);
    let again = Exporter::join_by(|_| file, "exec \"$@\"");
    let exporter = tokio::time::timeout(LIMIT, lease.connect()).await.unwrap().unwrap();
    exporter.wait_ready(LIMIT).await.unwrap();
    exporter.device().call("power", "on", vec![]).await.unwrap();
    lease.release().await.unwrap();
    again.signal(Signal::TERM);
    let (code, log) = again.code().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_option_ends_the_exporter_after_one_lease_as_the_file_does() {
    let controller = controller().await;
    let file = controller.exporter_file("e1", POWER);
    let (running, ready) = begin(options(&file, "exporter.yaml").exit_on_lease_end(true));
    ready.await.unwrap();
    let (lease, exporter) = leased(&lab(&controller)).await;
    exporter.wait_ready(LIMIT).await.unwrap();
    lease.release().await.unwrap();
    end(running).await.unwrap();
    assert_eq!(controller.calls_of("Unregister", "e1"), 1);
}
