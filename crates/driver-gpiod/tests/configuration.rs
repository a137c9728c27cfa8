//! What is found in a configuration without a chip.

#![expect(clippy::unwrap_used, reason = "tests")]

use jumpstarter_driver_core::Registry;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_gpiod as _;
use serde_json::{Value, json};

/// Faults and warnings, each as "field: message".
fn check(name: &str, config: Value) -> (Vec<String>, Vec<String>) {
    let entry = Registry::linked().find(name).unwrap();
    let text = |found: ConfigProblem| format!("{}: {}", found.field, found.message);
    let faults = (entry.check)(config.clone()).unwrap().into_iter().map(text).collect();
    (faults, (entry.warnings)(config).into_iter().map(text).collect())
}

async fn open(name: &str, config: Value) -> Error {
    let entry = Registry::linked().find(name).unwrap();
    let opened = (entry.open)(config, OpenContext::at("line")).await;
    opened.err().expect("there is no such chip")
}

#[test]
fn names_of_the_python_drivers_are_known() {
    for (python, name) in [
        ("DigitalOutput", "gpio-output"),
        ("DigitalInput", "gpio-input"),
        ("PowerSwitch", "gpio-power"),
    ] {
        let path = format!("jumpstarter_driver_gpiod.driver.{python}");
        assert_eq!(Registry::linked().find(&path).unwrap().name, name);
    }
}

#[tokio::test]
async fn a_device_that_is_no_chip_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("gpiochip9");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for name in ["gpio-output", "gpio-input", "gpio-power"] {
        for device in ["/dev/null", file.to_str().unwrap()] {
            let config = json!({ "device": device, "line": 3 });
            let expected = format!("device: `{device}` is no GPIO chip");
            assert_eq!(check(name, config.clone()), (vec![], vec![expected]));
            let error = open(name, config).await;
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        }
        let error = open(name, json!({ "device": missing, "line": 3 })).await;
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("chip"), "{error:?}");
    }
}

#[tokio::test]
async fn values_are_those_of_python() {
    let device = "/dev/null";
    let warning = vec!["device: `/dev/null` is no GPIO chip".to_owned()];
    for config in [
        json!({ "drive": "open_drain", "bias": "pull_up", "initial_value": "on" }),
        json!({ "drive": null, "bias": null, "initial_value": null, "active_low": true }),
        json!({ "drive": "open_source", "bias": "disabled", "initial_value": false }),
        json!({ "drive": "push_pull", "bias": "pull_down", "initial_value": "inactive" }),
        json!({ "bias": "as_is", "initial_value": "off", "close": "off" }),
    ] {
        let mut config = config;
        config["device"] = device.into();
        config["line"] = 1.into();
        assert_eq!(check("gpio-output", config.clone()), (vec![], warning.clone()));
        config["mode"] = "push_pull".into();
        assert_eq!(check("gpio-power", config), (vec![], warning.clone()));
    }
    for (config, expected) in [
        (json!({}), "line"),
        (json!({ "line": -1 }), "line"),
        (json!({ "line": 1, "drive": "strong" }), "open_drain"),
        (json!({ "line": 1, "bias": "up" }), "pull_up"),
        (json!({ "line": 1, "initial_value": "high" }), "expected active, inactive, on, off"),
        (json!({ "line": 1, "pin": 2 }), "pin"),
    ] {
        let report = open("gpio-output", config.clone()).await.report();
        assert!(report.contains(expected), "{config}: {report}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let config = json!({ "device": "/dev/null", "line": 1, "mode": "open_drain" });
    let (faults, warnings) = check("gpio-power", config);
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!(warnings.last().unwrap(), "mode: has no effect");
    let (faults, _) = check("gpio-input", json!({ "line": 1, "drive": "open_drain" }));
    assert_eq!(faults, ["drive: is for outputs: an input is not driven"]);
    let (faults, _) = check("gpio-input", json!({ "line": 1, "drive": "push_pull" }));
    assert_eq!(faults, Vec::<String>::new());
}
