//! Lines of a real chip: the PL061 of QEMU's machine `virt`. `cargo xtask in-guest` runs these
//! tests inside a guest; no other machine needs a chip for the suite.
//!
//! Nothing outside the chip pulls its lines. Line 3 is the machine's power button.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, deadline_after};
use jumpstarter_driver_gpiod::{
    GpioEdge, GpioEdges, GpioInputConfig, GpioPin, GpioPowerConfig, PinState,
};
use jumpstarter_driver_testkit::{conformance, skip};
use serde_json::{Value, json};
use tokio::time::timeout_at;

const BUTTON: u32 = 3;
const SOON: Option<Span> = Some(Span::milliseconds(200));
const LATE: Option<Span> = Some(Span::milliseconds(60_000));

/// Whether there is the chip.
fn chip() -> bool {
    let is_there = std::path::Path::new("/dev/gpiochip0").exists();
    if !is_there {
        skip("there is no GPIO chip: run `cargo xtask in-guest`");
    }
    is_there
}

conformance!(
    mod power_in_guest, GpioPowerConfig, { "line": 0, "close": "off" }, [power, custom GpioPin],
    needs: chip
);
conformance!(
    mod input_in_guest, GpioInputConfig, { "line": 2 },
    [
        custom GpioEdges {
            wait_for_active: [0.01], wait_for_edge: ["rising", 0.01], wait_for_inactive: [0.01],
        },
        custom GpioPin,
    ],
    needs: chip
);

async fn open_as(name: &str, config: Value, path: &str) -> Result<Device> {
    let entry = Registry::linked().find(name).unwrap();
    Ok(Device::of_shared_driver((entry.open)(config, OpenContext::at(path)).await?))
}

async fn open(name: &str, config: Value) -> Device {
    open_as(name, config, "line").await.unwrap()
}

async fn refused(name: &str, config: Value) -> Error {
    open_as(name, config, "line").await.expect_err("it is refused")
}

/// What `jmp check` says, as field, message and hint.
fn warned(name: &str, config: Value) -> Vec<(String, String, String)> {
    let found = (Registry::linked().find(name).unwrap().warnings)(config);
    let problem =
        |found: ConfigProblem| (found.field, found.message, found.hint.unwrap_or_default());
    found.into_iter().map(problem).collect()
}

async fn state(device: &Device) -> PinState {
    device.get::<dyn GpioPin>("").unwrap().read_pin().await.unwrap()
}

#[tokio::test]
async fn an_output_is_switched_and_read_back_in_guest() {
    if !chip() {
        return;
    }
    let name = "jumpstarter_driver_gpiod.driver.DigitalOutput";
    let device = open(name, json!({ "device": "/dev/gpiochip0", "line": 4 })).await;
    let client = "jumpstarter_driver_gpiod.client.DigitalOutputClient";
    assert_eq!(device.node("").unwrap().client(), client);
    assert_eq!(state(&device).await, PinState::Inactive);
    for (method, level) in [("on", 1), ("on", 1), ("off", 0), ("off", 0), ("on", 1)] {
        device.call("", method, vec![]).await.unwrap();
        assert_eq!(device.call("", "read_pin", vec![]).await.unwrap(), json!(level));
    }
    // The chip keeps the level of a line that is released; opening sets the first level.
    device.close().await.unwrap();
    let device = open(name, json!({ "line": 4, "initial_value": "on" })).await;
    assert_eq!(state(&device).await, PinState::Active);
    device.close().await.unwrap();
    for (value, expected) in [(json!("inactive"), 0), (json!(true), 1), (json!(null), 0)] {
        let device = open(name, json!({ "line": 4, "initial_value": value })).await;
        assert_eq!(device.call("", "read_pin", vec![]).await.unwrap(), json!(expected), "{value}");
        device.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_line_that_nothing_pulls_up_is_an_error_in_guest() {
    if !chip() {
        return;
    }
    let device = open("gpio-output", json!({ "line": 5, "drive": "open_drain" })).await;
    let power = device.get::<dyn Power>("").unwrap();
    let error = power.on().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let report = error.report();
    assert!(report.contains("line 5 of /dev/gpiochip0 was made active"), "{report}");
    assert!(report.contains("and still reads inactive"), "{report}");
    power.off().await.unwrap();
    device.close().await.unwrap();
}

#[tokio::test]
async fn a_switch_of_low_level_ends_as_configured_in_guest() {
    if !chip() {
        return;
    }
    let name = "jumpstarter_driver_gpiod.driver.PowerSwitch";
    let config = json!({ "line": 6, "active_low": true, "mode": "push_pull", "close": "off" });
    let device = open(name, config).await;
    let client = "jumpstarter_driver_power.client.PowerClient";
    assert_eq!(device.node("").unwrap().client(), client);
    let power = device.get::<dyn Power>("").unwrap();
    power.on().await.unwrap();
    let Err(error) = power.read().await else { panic!("it measures nothing") };
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    device.close().await.unwrap();
    // Off is the high level.
    let line = open("gpio-input", json!({ "line": 6, "bias": "as_is" })).await;
    line.close().await.unwrap();
    let device = open(name, json!({ "line": 6, "close": "keep", "active_low": true })).await;
    assert_eq!(state(&device).await, PinState::Inactive);
    device.close().await.unwrap();
}

#[tokio::test]
async fn faults_are_named_before_anything_is_opened_in_guest() {
    if !chip() {
        return;
    }
    let error = refused("gpio-output", json!({ "line": 8 })).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let report = error.report();
    assert!(
        report.contains("/dev/gpiochip0 has no line 8\nhint: its lines are 0 to 7"),
        "{report}"
    );
    let error = refused("gpio-output", json!({ "line": "RELAY" })).await.report();
    assert!(error.contains("has no line `RELAY`") && error.contains("no names"), "{error}");
    let error = refused("gpio-input", json!({ "device": "/dev/null", "line": 1 })).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let report = error.report();
    let expected = "`/dev/null` is no GPIO chip\nhint: the machine's chips: `/dev/gpiochip0`";
    assert!(report.contains(expected), "{report}");
    let error = refused("gpio-input", json!({ "device": "/dev/gpiochip9", "line": 1 })).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let device = open_as("gpio-output", json!({ "line": 7 }), "rack.led").await.unwrap();
    let error = refused("gpio-power", json!({ "line": 7 })).await;
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let report = error.report();
    let expected = "line 7 of /dev/gpiochip0 is in use by `jumpstarter-gpiod:rack.led`";
    assert!(report.contains(expected), "{report}");
    let found = warned("gpio-power", json!({ "line": 7 }));
    assert_eq!((found[0].0.as_str(), found[0].1.as_str()), ("line", expected));
    device.close().await.unwrap();
    assert_eq!(warned("gpio-power", json!({ "line": 7 })), []);
    // Looking requests nothing.
    open("gpio-output", json!({ "line": 7 })).await.close().await.unwrap();
}

/// As a user without access, to a chip of the group `gpio`.
#[tokio::test]
async fn a_user_without_access_in_guest() {
    if !chip() {
        return;
    }
    let error = refused("gpio-output", json!({ "line": 7 })).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let report = error.report();
    assert!(report.contains("opening the GPIO chip /dev/gpiochip0"), "{report}");
    assert!(report.contains("to the group `gpio` (`usermod -aG gpio USER`)"), "{report}");
    let found = warned("gpio-output", json!({ "line": 7 }));
    assert_eq!(found[0].0, "device");
}

#[tokio::test]
async fn waits_end_in_guest() {
    if !chip() {
        return;
    }
    let device = open("gpio-input", json!({ "line": 2 })).await;
    let edges = device.get::<dyn GpioEdges>("").unwrap();
    edges.wait_for_inactive(None).await.unwrap();
    let late = edges.wait_for_active(SOON).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    let report = late.report();
    assert!(report.contains("waiting until line 2 of /dev/gpiochip0 is active"), "{report}");
    let late = edges.wait_for_edge(GpioEdge::Falling, SOON).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    let wrong = device.call("", "wait_for_edge", vec![json!("both")]).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidArgument);
    assert!(wrong.report().contains("rising"), "{}", wrong.report());
    // A wait without a limit ends with the driver.
    let (ended, closed) = tokio::join!(edges.wait_for_edge(GpioEdge::Rising, None), async {
        // The wait has begun by now: it is polled first.
        device.close().await
    });
    closed.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Needs somebody who presses the machine's power button again and again.
#[tokio::test]
async fn edges_of_the_button_in_guest() {
    if !chip() {
        return;
    }
    let name = "jumpstarter_driver_gpiod.driver.DigitalInput";
    let device = open(name, json!({ "line": BUTTON })).await;
    let client = "jumpstarter_driver_gpiod.client.DigitalInputClient";
    assert_eq!(device.node("").unwrap().client(), client);
    let edges = device.get::<dyn GpioEdges>("").unwrap();
    for edge in [GpioEdge::Rising, GpioEdge::Falling, GpioEdge::Falling, GpioEdge::Rising] {
        edges.wait_for_edge(edge, LATE).await.unwrap();
    }
    // Two callers get the same edge.
    let waits = tokio::join!(
        edges.wait_for_edge(GpioEdge::Rising, LATE),
        edges.wait_for_edge(GpioEdge::Rising, LATE)
    );
    waits.0.unwrap();
    waits.1.unwrap();
    edges.wait_for_inactive(LATE).await.unwrap();
    edges.wait_for_active(LATE).await.unwrap();
    // A caller that gives up leaves the line usable.
    let until = deadline_after(Duration::from_millis(10));
    timeout_at(until, edges.wait_for_edge(GpioEdge::Falling, None)).await.ok();
    edges.wait_for_edge(GpioEdge::Rising, LATE).await.unwrap();
    edges.wait_for_inactive(LATE).await.unwrap();
    device.close().await.unwrap();

    // With `active_low` a press is a falling edge.
    let device = open(name, json!({ "line": BUTTON, "active_low": true })).await;
    let edges = device.get::<dyn GpioEdges>("").unwrap();
    edges.wait_for_active(LATE).await.unwrap();
    edges.wait_for_inactive(LATE).await.unwrap();
    device.close().await.unwrap();
}
