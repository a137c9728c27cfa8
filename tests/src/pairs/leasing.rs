//! Parts about leases: how they begin, wait, go to others and end.

use std::time::Instant;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_supervise::Signal;
use jumpstarter_test_controller::proto::v1::ExporterStatus;

use super::station::{EXPORTER, SELECTOR, Station, shown};
use super::{Pair, Peer, promise, until};

/// Makes a lease under a name.
async fn create(station: &Station<'_>, client: &str, name: &str) -> Result<()> {
    let words = ["create", "lease", "-l", SELECTOR, "--duration", "1200", "--lease-id", name];
    let said = station.said(client, &[&words[..], &["-o", "name"]].concat()).await?;
    promise(said == format!("{name}\n"), || format!("create lease says {said:?}"))
}

async fn delete(station: &Station<'_>, client: &str, name: &str) -> Result<()> {
    let said = station.said(client, &["delete", "leases", name]).await?;
    promise(said == format!("lease \"{name}\" deleted\n"), || format!("delete says {said:?}"))
}

pub(super) async fn lease(station: &Station<'_>) -> Result<String> {
    let exporters = station.said("c1", &["get", "exporters", "-o", "name"]).await?;
    promise(exporters == "e1\n", || format!("exporters: {exporters:?}"))?;
    create(station, "c1", "first").await?;
    station.is_ready("first").await?;
    create(station, "c2", "second").await?;
    let leases = station.said("c1", &["get", "leases", "-o", "json"]).await?;
    let value: serde_json::Value = serde_json::from_str(&leases)
        .map_err(|error| Error::internal(leases.clone()).with_source(error))?;
    let first = &value["leases"][0];
    promise(first["name"] == "first" && first["exporter"] == EXPORTER, || leases.clone())?;
    promise(first["conditions"][0]["reason"] == "Ready", || leases.clone())?;
    let waits = station.controller.lease("second").is_some_and(|lease| lease.exporter.is_none());
    promise(waits, || "two leases have one exporter".to_owned())?;
    let began = Instant::now();
    delete(station, "c1", "first").await?;
    station.is_ready("second").await?;
    let took = began.elapsed().as_secs_f64();
    delete(station, "c2", "second").await?;
    station.is_free().await?;
    Ok(format!("the next lease was served {took:.1} s after the request for the end of the first"))
}

pub(super) async fn hooks(station: &Station<'_>) -> Result<String> {
    use ExporterStatus::{AfterLeaseHook, Available, BeforeLeaseHook, LeaseReady};
    let (hooks, reports) = (station.hooks().len(), station.controller.reports(EXPORTER).len());
    let words = ["shell", "-l", SELECTOR, "--duration", "1200", "--", "true"];
    let output = station.run("c1", &words).await?;
    promise(output.status.success(), || shown(&words, &output))?;
    station.is_free().await?;
    let said = station.hooks().split_off(hooks);
    let names: Vec<Vec<&str>> = said.iter().map(|line| line.split(' ').collect()).collect();
    let [before, after] = names.as_slice() else {
        return Err(Error::internal(format!("the hooks wrote {said:?}")));
    };
    let same = before[0] == "before" && after[0] == "after" && before[1..] == after[1..];
    promise(same && before[2] == "c1", || format!("the hooks wrote {said:?}"))?;
    let shown_output = output.stdout_text() + &output.stderr;
    promise(shown_output.contains(&said[0]), || format!("no output of a hook: {shown_output}"))?;
    let statuses = station.statuses(reports);
    // The end of the lease before this one may be reported once more.
    let statuses = statuses.strip_prefix(&[Available]).unwrap_or(&statuses);
    // One that is followed by the next at once is not reported.
    let mut expected = [BeforeLeaseHook, LeaseReady, AfterLeaseHook, Available].iter();
    let in_order = statuses.iter().all(|status| expected.any(|next| next == status));
    let in_order = in_order && statuses.last() == Some(&Available);
    promise(in_order, || format!("the exporter reported {statuses:?}"))?;
    let live = if shown_output.contains(&said[1]) { "both hooks" } else { "beforeLease" };
    Ok(format!("the client shows the output of {live}"))
}

pub(super) async fn expiry(station: &Station<'_>) -> Result<String> {
    // Longer than the start takes on a busy host: a lease that ends during beforeLease ends
    // otherwise.
    let time = if station.pair() == Pair::OURS { "15" } else { "20" };
    let hooks = station.hooks().len();
    let options = ["-l", SELECTOR, "--duration", time];
    let mut shell = station.start_shell("c1", &options, "echo ready; sleep 600").await?;
    shell.wait_for("ready").await?;
    let name = station.controller.lease_of(EXPORTER).unwrap_or_default();
    until("the lease expires", || !station.controller.leases(true).contains(&name)).await?;
    let began = Instant::now();
    let code = shell.end().await?;
    let took = began.elapsed().as_secs_f64();
    promise(code == Some(255), || format!("the shell ended with {code:?}: {}", shell.errors()))?;
    station.is_free().await?;
    let said = station.hooks().split_off(hooks);
    promise(said.len() == 2, || format!("the hooks wrote {said:?}"))?;
    Ok(format!("the shell ended {took:.1} s after the lease, with 255"))
}

pub(super) async fn transfer(station: &Station<'_>) -> Result<String> {
    let hooks = station.hooks().len();
    create(station, "c1", "mine").await?;
    station.is_ready("mine").await?;
    station.said("c1", &["shell", "--lease", "mine", "--", "j", "power", "on"]).await?;
    let words = ["update", "lease", "mine", "--to-client", "c2", "-o", "name"];
    station.said("c1", &words).await?;
    // A new stream names the new client: the open one would after some seconds.
    let streams = station.controller.calls_of("Status", EXPORTER);
    station.controller.end_status_streams(None, None);
    until("the exporter follows its leases again", || {
        station.controller.calls_of("Status", EXPORTER) > streams
    })
    .await?;
    // The old owner has no more to say.
    for words in [&["delete", "leases", "mine"][..], &["shell", "--lease", "mine", "--", "true"]] {
        let output = station.run("c1", words).await?;
        promise(!output.status.success(), || shown(words, &output))?;
    }
    let served = station.controller.lease_of(EXPORTER);
    promise(served.as_deref() == Some("mine"), || "the lease has ended".to_owned())?;
    station.said("c2", &["shell", "--lease", "mine", "--", "j", "power", "on"]).await?;
    delete(station, "c2", "mine").await?;
    station.is_free().await?;
    let said = station.hooks().split_off(hooks);
    promise(said[0] == "before mine c1", || format!("the hooks wrote {said:?}"))?;
    promise(said[1] == "after mine c2", || format!("the hooks wrote {said:?}"))?;
    Ok("the new owner used and deleted it".to_owned())
}

pub(super) async fn release(station: &Station<'_>) -> Result<String> {
    let options = ["-l", SELECTOR, "--duration", "1200"];
    let controller = &station.controller;
    // Ctrl-C while another one has the device, and while it is used.
    let mut holder = station.start_shell("c1", &options, "echo ready; sleep 600").await?;
    holder.wait_for("ready").await?;
    let mut waiting = station.start_shell("c2", &options, "echo ready; sleep 600").await?;
    until("the second lease waits", || controller.leases(true).len() == 2).await?;
    waiting.signal(Signal::INT);
    let waited = waiting.end().await?;
    until("the second lease is deleted", || controller.leases(true).len() == 1).await?;
    holder.signal(Signal::INT);
    let held = holder.end().await?;
    station.is_free().await?;
    // An administrator ends the lease.
    let mut shell = station.start_shell("c1", &options, "echo ready; sleep 600").await?;
    shell.wait_for("ready").await?;
    controller.release(&controller.lease_of(EXPORTER).unwrap_or_default());
    station.is_available().await?;
    let ended = match station.pair().client {
        Peer::Ours => {
            let code = shell.end().await?;
            promise(code == Some(255), || format!("{}: {}", shown_code(code), shell.errors()))?;
            "the shell ends with 255"
        }
        // It looks at its lease every 30 s, and may wait for its command after that, too: minutes
        // were seen.
        Peer::Python => {
            shell.signal(Signal::KILL);
            shell.end().await?;
            "the shell in Python was not waited for"
        }
    };
    station.is_free().await?;
    // The exporter ends.
    station.exporter.signal(Signal::TERM);
    let late = |_| Error::deadline_exceeded("the exporter does not end");
    let exit = tokio::time::timeout(super::LIMIT, station.exporter.wait()).await.map_err(late)?;
    promise(exit.success(), || format!("the exporter: {exit}"))?;
    promise(controller.calls_of("Unregister", EXPORTER) == 1, || "it stays registered".to_owned())?;
    let status = controller.status_of(EXPORTER);
    promise(status == Some(ExporterStatus::Offline), || format!("the exporter: {status:?}"))?;
    Ok(format!(
        "Ctrl-C: exit code {} while waiting, {} in use; an administrator: {ended}",
        shown_code(waited),
        shown_code(held),
    ))
}

fn shown_code(code: Option<i32>) -> String {
    code.map_or("a signal".to_owned(), |code| code.to_string())
}
