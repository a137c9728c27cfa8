//! An exporter that is the first process of a container: a real process in a PID namespace.

mod support;

use jumpstarter_driver_testkit::skip;
use jumpstarter_protocol::v1::ExporterStatus;
use rustix::process::{Pid, Signal, kill_process};
use support::connect;
use support::process::{EXPORT, Exporter, shell, until, until_status};

/// Processes of the process with this number, with their states.
fn children(parent: u32) -> Vec<(u32, char)> {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
    let lists = threads.flatten().map(|task| std::fs::read_to_string(task.path().join("children")));
    let lists = lists.map(Result::unwrap_or_default).collect::<String>();
    let state = |number: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        Some((number.parse().ok()?, stat.rsplit(')').next()?.trim().chars().next()?))
    };
    lists.split_whitespace().filter_map(state).collect()
}

#[tokio::test]
async fn the_first_process_reaps_what_others_leave() {
    const UNSHARE: &str = "unshare --user --map-root-user --pid --fork --kill-child --mount-proc";
    if !shell(&format!("{UNSHARE} true")).status().unwrap().success() {
        return skip("this system permits no PID namespace");
    }
    // The hook's guardian dies, and what the hook has started outlives it.
    let hook = "setsid sleep 0.3 & setsid sleep 0.5 & kill -9 $PPID; sleep 9";
    let exporter = Exporter::start_by(
        |_| format!("{EXPORT}hooks:\n  beforeLease: {{script: '{hook}', onFailure: warn}}\n"),
        &format!("exec {UNSHARE} \"$@\""),
    );
    let mut client = connect(&exporter.socket()).await;
    until_status(&mut client, ExporterStatus::LeaseReady).await;
    let (first, _) = children(exporter.child.id())[0];
    until(|| children(first).is_empty().then_some(()), || format!("{:?}", children(first))).await;
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::TERM).unwrap();
    let (code, log) = exporter.code().await;
    assert_eq!(code, Some(0), "{log}");
}
