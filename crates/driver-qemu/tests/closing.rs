//! Closing the driver of a machine that runs: as `off` of its configuration says.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, SOON, ask, can_run, is_alive, pico_machine};
use futures_util::StreamExt;
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{
    Machine, MachineEvent, MachineState, OffMode, Phase, Qemu, QemuConfig,
};
use jumpstarter_driver_testkit::pico;

/// A machine whose guest is logged in, as a device, and its events from then on.
async fn running(
    change: impl FnOnce(&mut QemuConfig),
) -> (Fixture, Device, ValueStream<MachineEvent>, jumpstarter_console::Console) {
    let fixture = pico_machine(change).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    fixture.vm.start().await.unwrap();
    let console = fixture.logged_in().await;
    let events = fixture.vm.events().await.unwrap();
    (fixture, device, events, console)
}

/// The names of what happened until the machine was off.
async fn until_off(mut events: ValueStream<MachineEvent>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(Ok(event)) =
        tokio::time::timeout(SOON, events.next()).await.expect("an event in time")
    {
        names.push(event.name);
        if event.state == MachineState::Off {
            break;
        }
    }
    names
}

#[tokio::test]
async fn a_guest_is_asked_to_shut_down_where_off_is_graceful() {
    if !can_run() {
        return;
    }
    for paused in [false, true] {
        let (fixture, device, events, mut console) =
            running(|config| config.off = OffMode::Graceful).await;
        let (pid, folder) =
            (fixture.vm.pid().unwrap(), fixture.vm.vnc_path().parent().unwrap().to_owned());
        if paused {
            fixture.vm.pause().await.unwrap();
        }
        tokio::time::timeout(SOON, device.close()).await.expect("it closes in time").unwrap();
        let names = until_off(events).await;
        assert!(names.contains(&"POWERDOWN".to_owned()), "paused: {paused}: {names:?}");
        console.wait_for(pico::POWER_BUTTON_LINE, SOON).await.unwrap();
        console.wait_for(pico::POWER_OFF_LINE, SOON).await.unwrap();
        assert!(!is_alive(pid) && !folder.exists(), "paused: {paused}");
        let error = fixture.vm.start().await.unwrap_err();
        assert!(error.report().contains("is destroyed"), "{error:?}");
    }
}

#[tokio::test]
async fn the_power_is_cut_otherwise() {
    if !can_run() {
        return;
    }
    let (fixture, device, events, _console) = running(|_| ()).await;
    let pid = fixture.vm.pid().unwrap();
    tokio::time::timeout(SOON, device.close()).await.expect("it closes in time").unwrap();
    let names = until_off(events).await;
    assert!(!names.contains(&"POWERDOWN".to_owned()), "{names:?}");
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_in_time_is_cut() {
    if !can_run() {
        return;
    }
    let (fixture, device, events, mut console) = running(|config| {
        config.off = OffMode::Graceful;
        config.timeouts.shutdown = Span::seconds(2);
    })
    .await;
    ask(&mut console, pico::command::IGNORE_POWER_BUTTON, pico::IGNORE_LINE).await;
    let (pid, began) = (fixture.vm.pid().unwrap(), Instant::now());
    tokio::time::timeout(SOON, device.close()).await.expect("it closes in time").unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2));
    let names = until_off(events).await;
    assert!(names.contains(&"POWERDOWN".to_owned()), "{names:?}");
    assert!(!is_alive(pid));
}

/// A machine whose guest will not shut down, and which closes.
async fn closing_in_vain() -> (Fixture, Device) {
    let (fixture, device, _events, mut console) = running(|config| {
        config.off = OffMode::Graceful;
        config.timeouts.shutdown = Span::seconds(3600);
    })
    .await;
    ask(&mut console, pico::command::IGNORE_POWER_BUTTON, pico::IGNORE_LINE).await;
    // Cancels the waiting; the closing goes on.
    let mut events = fixture.vm.events().await.unwrap();
    tokio::select! {
        closed = device.close() => panic!("{closed:?}"),
        () = async { while events.next().await.unwrap().unwrap().name != "POWERDOWN" {} } => {}
    }
    assert_eq!(fixture.vm.state().await.unwrap().phase(), Phase::Stopping);
    (fixture, device)
}

#[tokio::test]
async fn a_destroy_hurries_a_closing() {
    if !can_run() {
        return;
    }
    let (fixture, device) = closing_in_vain().await;
    let pid = fixture.vm.pid().unwrap();
    tokio::time::timeout(SOON, fixture.vm.destroy()).await.expect("it ends in time").unwrap();
    tokio::time::timeout(SOON, device.close()).await.expect("it closes in time").unwrap();
    assert!(!is_alive(pid));
}

#[test]
fn a_closing_that_nobody_waits_for_ends_with_the_runtime() {
    if !can_run() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (pid, folder) = runtime.block_on(async {
        let (fixture, _device) = closing_in_vain().await;
        (fixture.vm.pid().unwrap(), fixture.vm.vnc_path().parent().unwrap().to_owned())
    });
    assert!(is_alive(pid), "the guest was asked, and ignores it");
    runtime.shutdown_timeout(Duration::from_secs(2));
    let began = Instant::now();
    while is_alive(pid) || folder.exists() {
        assert!(began.elapsed() < SOON, "QEMU or its folder stayed");
        std::thread::yield_now();
    }
}
