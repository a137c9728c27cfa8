//! What the operator of an exporter sees of it while it is joined to a controller: its log and its
//! metrics. A real process.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use support::lab::{POWER, controller, lab, leased};
use support::process::{Exporter, until};

/// The metrics of an exporter, whose log says where they are.
fn metrics(exporter: &Exporter) -> String {
    let log = exporter.log();
    let line = log.lines().find(|line| line.contains("metrics are served")).unwrap();
    let mut stream = TcpStream::connect(line.rsplit('=').next().unwrap()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits until each of these is a line of the metrics.
async fn until_metrics(exporter: &Exporter, lines: &[&str]) {
    let all = || {
        let text = metrics(exporter);
        lines.iter().all(|line| text.lines().any(|found| found == *line)).then_some(())
    };
    until(all, || format!("{lines:?} in {}", metrics(exporter))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_log_show_the_controller_the_lease_and_its_tunnels() {
    let controller = controller().await;
    let file = controller.exporter_file("e1", POWER);
    let running = Exporter::join_by(|_| file, "exec \"$@\"");
    // The log has a separate thread.
    running.until_logged("metrics are served").await;
    let before = ["jumpstarter_controller_connected 1", "jumpstarter_leases_total 0"];
    until_metrics(&running, &before).await;
    assert!(!metrics(&running).contains("jumpstarter_lease{"));
    let lab = lab(&controller);
    let (lease, exporter) = leased(&lab).await;
    exporter.device().call("power", "on", vec![]).await.unwrap();
    let of = |client: &str| {
        format!(r#"jumpstarter_lease{{lease="{}",client="{client}"}} 1"#, lease.name())
    };
    until_metrics(
        &running,
        &[&of("c1"), "jumpstarter_leases_total 1", "jumpstarter_calls_total 1"],
    )
    .await;
    assert!(!metrics(&running).contains("jumpstarter_open_tunnels 0\n"));
    assert!(!metrics(&running).contains("jumpstarter_tunnels_total 0\n"));
    controller.controller().down().await;
    until_metrics(&running, &["jumpstarter_controller_connected 0", &of("c1")]).await;
    controller.controller().up().await;
    let again =
        ["jumpstarter_controller_connected 1", "jumpstarter_controller_connections_total 2"];
    until_metrics(&running, &again).await;
    assert!(!metrics(&running).contains("jumpstarter_status_reports_total 0\n"));
    lab.change_lease(lease.name(), None, None, Some("c2")).await.unwrap();
    // The controller says it with its next message.
    controller.end_status_streams(None, None);
    until_metrics(&running, &[&of("c2")]).await;
    controller.release(lease.name());
    until_metrics(&running, &["jumpstarter_open_tunnels 0", "jumpstarter_silent_tunnels_total 0"])
        .await;
    running.until_logged("the lease has ended").await;
    until(
        || (!metrics(&running).contains("jumpstarter_lease{")).then_some(()),
        || metrics(&running),
    )
    .await;
    lease.keep();
    running.signal(Signal::TERM);
    let (code, log) = running.code().await;
    assert_eq!(code, Some(0), "{log}");
    let during = log.lines().skip_while(|line| !line.contains("the lease begins"));
    let mut during: Vec<&str> = during.collect();
    let last = during.iter().position(|line| line.contains("the lease has ended")).unwrap();
    during.truncate(last + 1);
    let name = format!("lease={}", lease.name());
    let named = |line: &&str| line.contains(&name) && line.contains(" client=c");
    assert!(during.len() > 2 && during.iter().all(named), "{log}");
    assert!(during[0].contains("client=c1") && during[last].contains("client=c2"), "{log}");
}
