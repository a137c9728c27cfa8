//! `command-power` with real programs.

mod support;

use std::path::Path;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::serde_json::{Value, json};
use jumpstarter_driver_power::{PowerCycle, VirtualPower};
use jumpstarter_driver_testkit::eventually;
use support::{open, power, readings, with};

/// Programs that write their arguments to a file `log`.
fn noting(folder: &Path) -> Value {
    let note = |word: &str| json!(["sh", "-c", "echo \"$0 $STRIP\" >> log", word]);
    json!({ "on": note("on"), "off": note("off"), "cwd": folder, "env": { "STRIP": "7" } })
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default().replace('\n', ",")
}

#[tokio::test]
async fn programs_switch() {
    let folder = tempfile::tempdir().unwrap();
    let device = open("command-power", noting(folder.path())).await.unwrap();
    power(&device).on().await.unwrap();
    power(&device).off().await.unwrap();
    let cycle = device.get::<dyn PowerCycle>("").unwrap();
    cycle.cycle(Some(0.0)).await.unwrap();
    device.reset().await.unwrap();
    device.close().await.unwrap();
    // Neither a reset nor a close changes the device.
    assert_eq!(log(folder.path()), "on 7,off 7,off 7,on 7,");
    for wait in [-1.0, 1e9] {
        let error = cycle.cycle(Some(wait)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_lease_switches_off_where_that_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(noting(folder.path()), "close", json!("off"));
    let config = with(config, "cycle", json!(["sh", "-c", "echo cycle >> log"]));
    let device = open("command-power", config).await.unwrap();
    device.get::<dyn PowerCycle>("").unwrap().cycle(None).await.unwrap();
    device.close().await.unwrap();
    assert_eq!(log(folder.path()), "cycle,off 7,");
}

#[tokio::test]
async fn a_cycle_that_its_caller_leaves_does_not_leave_the_device_off() {
    let folder = tempfile::tempdir().unwrap();
    let device = open("command-power", noting(folder.path())).await.unwrap();
    let cycle = device.get::<dyn PowerCycle>("").unwrap();
    let cycling = tokio::spawn(async move { cycle.cycle(Some(3600.0)).await });
    eventually("the log", || log(folder.path()) == "off 7,").await;
    cycling.abort();
    assert!(cycling.await.unwrap_err().is_cancelled());
    // The end of the lease does not wait for an hour either.
    device.close().await.unwrap();
    assert_eq!(log(folder.path()), "off 7,on 7,");

    let device = open("command-power", noting(folder.path())).await.unwrap();
    let cycle = device.get::<dyn PowerCycle>("").unwrap();
    let cycling = tokio::spawn(async move { cycle.cycle(Some(0.01)).await });
    // It may go on by itself before anybody looks.
    let is_off = || log(folder.path()).starts_with("off 7,on 7,off 7,");
    eventually("the log", is_off).await;
    cycling.abort();
    eventually("the log", || log(folder.path()).ends_with("off 7,on 7,off 7,on 7,")).await;
}

#[tokio::test]
async fn readings_and_switches_follow_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let held = folder.path().join("held");
    std::fs::write(&held, "").unwrap();
    let waits =
        "echo on-begins >> log; while test -e held; do sleep 0.01; done; echo on-ends >> log";
    let config = with(noting(folder.path()), "on", json!(["sh", "-c", waits]));
    let config = with(config, "read", json!(["sh", "-c", "echo read >> log; echo {}"]));
    let device = open("command-power", config).await.unwrap();
    let (switch, meter) = (power(&device), power(&device));
    let on = tokio::spawn(async move { switch.on().await });
    eventually("the log", || log(folder.path()) == "on-begins,").await;
    let read = tokio::spawn(async move { readings(&*meter).await });
    // A reading that does not wait for its turn is here by then.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(log(folder.path()), "on-begins,");
    std::fs::remove_file(&held).unwrap();
    on.await.unwrap().unwrap();
    assert_eq!(read.await.unwrap().unwrap(), [(0.0, 0.0)]);
    assert_eq!(log(folder.path()), "on-begins,on-ends,read,");
}

#[tokio::test]
async fn a_virtual_device_is_destroyed_after_it_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let config = with(noting(folder.path()), "destroy", json!(["sh", "-c", "echo destroy >> log"]));
    let device = open("command-virtual-power", config.clone()).await.unwrap();
    let switch = device.get::<dyn VirtualPower>("").unwrap();
    switch.on().await.unwrap();
    switch.off(Some(true)).await.unwrap();
    switch.off(None).await.unwrap();
    // As clients of Python call it, and as those who know only `Power` do.
    device.call("", "off", vec![json!(true)]).await.unwrap();
    power(&device).off().await.unwrap();
    device.close().await.unwrap();
    let expected = "on 7,off 7,destroy,off 7,off 7,destroy,off 7,";
    assert_eq!(log(folder.path()), expected);
    let device = open("command-virtual-power", with(config.clone(), "close", json!("off"))).await;
    device.unwrap().close().await.unwrap();
    assert_eq!(log(folder.path()), format!("{expected}off 7,"));
    let fails = json!(["sh", "-c", "echo in use >&2; exit 1"]);
    let device = open("command-virtual-power", with(config, "destroy", fails)).await.unwrap();
    let destroying = device.get::<dyn VirtualPower>("").unwrap();
    let error = destroying.off(Some(true)).await.unwrap_err().report();
    assert!(error.contains("running `destroy`") && error.contains("in use"), "{error}");
}

#[tokio::test]
async fn no_shell_reads_the_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let on = json!(["touch", "a; touch b", "$HOME"]);
    let device = open("command-power", with(noting(folder.path()), "on", on)).await.unwrap();
    power(&device).on().await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["$HOME", "a; touch b"]);
}

#[tokio::test]
async fn a_switch_that_was_not_seen_to_work_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |on: Value, timeout: &str, kind: ErrorKind, expected: &[&str]| {
        let config = with(noting(folder.path()), "on", on.clone());
        let device = open("command-power", with(config, "timeout", json!(timeout))).await.unwrap();
        let error = power(&device).on().await.unwrap_err();
        let report = error.report();
        assert_eq!(error.kind(), kind, "{on}: {report}");
        for text in expected {
            assert!(report.contains(text), "{on}: {report}");
        }
    };
    let fails = json!(["sh", "-c", "echo no relay 3 >&2; exit 4"]);
    let expected = ["running `on`", "exit code 4", "no relay 3"];
    check(fails, "60s", ErrorKind::Internal, &expected).await;
    let says_it_on_stdout = json!(["sh", "-c", "echo busy; exit 1"]);
    check(says_it_on_stdout, "60s", ErrorKind::Internal, &["busy"]).await;
    check(json!(["no-such-relay"]), "60s", ErrorKind::NotFound, &["no-such-relay"]).await;
    let late = ["did not end within 300ms"];
    check(json!(["sleep", "60"]), "300ms", ErrorKind::DeadlineExceeded, &late).await;
}

#[tokio::test]
async fn a_program_prints_readings() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |read: Value, expected: Result<(f64, f64), &str>| {
        let config = with(noting(folder.path()), "read", read.clone());
        let config = with(config, "voltage_path", json!("/meters/0/v"));
        let device = open("command-power", config).await.unwrap();
        match (readings(&*power(&device)).await, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, [expected]),
            (Err(error), Err(text)) => assert!(error.report().contains(text), "{}", error.report()),
            (read, expected) => panic!("{read:?}, not {expected:?}"),
        }
    };
    let json = r#"{"meters": [{"v": 12}], "current": 0.5}"#;
    check(json!(["echo", json]), Ok((12.0, 0.5))).await;
    check(json!(["echo", "12 V"]), Err("the reading is not JSON")).await;
    check(json!(["echo", "{}"]), Err("the voltage `/meters/0/v` is not in the reading")).await;
    let device = open("command-power", noting(folder.path())).await.unwrap();
    let error = readings(&*power(&device)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |field: &str, value: Value, expected: &str| {
        let config = with(noting(folder.path()), field, value);
        let error = open("command-power", config).await.expect_err("it is refused");
        assert!(error.report().contains(expected), "{}", error.report());
    };
    check("on", json!([]), "on: names no program").await;
    check("off", json!("relay off"), "off: invalid type: string \"relay off\", expected").await;
    check("timeout", json!(0), "timeout: leaves a program no time to run").await;
    check("env", json!({ "A=B": "x" }), "is no name of an environment variable").await;
    check("close", json!("on"), "close: unknown variant `on`, expected `keep` or `off`").await;
}
