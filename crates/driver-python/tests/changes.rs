//! What hosted drivers are made of: their modules, which change, and their configuration, which may
//! hold secrets.

mod support;

use std::time::Duration;

use jumpstarter_driver_core::Device;
use jumpstarter_exporter::{LogHub, LogLayer};
use serde_json::json;
use support::in_time;
use support::lab::{Lab, MODULE, call, python};
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn python_hosts_what_an_alias_repeats_apart() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, "  one: &a {type: lab_driver.Lab}\n  two: *a\n");
    let device = lab.open().await;
    let pid = async |path: &str| call(&device, path, "pid", vec![]).await.unwrap();
    let (one, two) = (pid("one").await, pid("two").await);
    assert_ne!(one, two);
    call(&device, "one", "die", vec![]).await.unwrap_err();
    assert_eq!(pid("two").await, two);
    in_time(device.close()).await.unwrap();
}

#[tokio::test]
async fn python_hosts_and_keeps_values_of_a_configuration_out_of_errors_and_the_log() {
    let Some(python) = python() else { return };
    let hub = LogHub::default();
    let mut records = hub.subscribe();
    let subscriber = tracing_subscriber::registry().with(LogLayer::new(hub.clone()));
    let _logged = tracing::subscriber::set_default(subscriber);
    let lab = Lab::new(&python, "  lab: {type: lab_driver.Lab, config: {pin: hunter-two}}\n");
    let error = lab.fails().await;
    let report = format!("{} {error:?}", error.report());
    assert!(report.contains("pin: Input should be a valid integer"), "{report}");
    assert!(!report.contains("hunter"), "{report}");
    tracing::info!("the last record");
    let mut log = String::new();
    while !log.ends_with("the last record") {
        log.push_str(&in_time(records.next()).await.message);
    }
    assert!(log.contains("pin: Input should be") && !log.contains("hunter"), "{log}");
}

#[tokio::test]
async fn python_hosts_again_what_does_not_answer() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, "  lab: {type: lab_driver.Lab}\n");
    let device = lab.open().await;
    let first = call(&device, "lab", "pid", vec![]).await.unwrap();
    let hanging = device.clone();
    let hanging = tokio::spawn(async move { hanging.call("lab", "hang", vec![]).await });
    // Until the call has arrived.
    while call_within(&device, Duration::from_millis(500)).await {}
    // The clock runs ahead until the process was given up.
    tokio::time::pause();
    tokio::spawn(async {
        tokio::time::sleep(Duration::from_secs(31)).await;
        tokio::time::resume();
    });
    device.reset().await.unwrap();
    assert_ne!(call(&device, "lab", "pid", vec![]).await.unwrap(), first);
    let error = in_time(hanging).await.unwrap().unwrap_err();
    assert!(error.report().contains("was killed by signal 9"), "{}", error.report());
    in_time(device.close()).await.unwrap();
}

/// Whether a call is answered in that time.
async fn call_within(device: &Device, limit: Duration) -> bool {
    tokio::time::timeout(limit, device.call("lab", "pid", vec![])).await.is_ok()
}

#[tokio::test]
async fn python_hosts_the_modules_as_they_are_now() {
    let Some(python) = python() else { return };
    let entries = "  lab: {type: lab_driver.Lab, config: {marks: FOLDER/marks}}\n  other: {type: lab_driver.Lab}\n";
    let lab = Lab::new(&python, entries);
    let device = lab.open().await;
    in_time(device.reset()).await.unwrap();
    let pid = async |path: &str| call(&device, path, "pid", vec![]).await.unwrap();
    let (first, other) = (pid("lab").await, pid("other").await);
    in_time(device.reset()).await.unwrap();
    assert_eq!((pid("lab").await, pid("other").await), (first.clone(), other.clone()));

    lab.write("lab_driver.py", &MODULE.replace("\"hello\"", "\"good morning\""));
    let greet = async |path: &str| call(&device, path, "greet", vec![json!("you")]).await.unwrap();
    assert_eq!(greet("lab").await, json!("hello you"), "until the next session");
    in_time(device.reset()).await.unwrap();
    for path in ["lab", "other"] {
        assert_eq!(greet(path).await, json!("good morning you"));
    }
    assert!(pid("lab").await != first && pid("other").await != other);
    let marks = std::fs::read_to_string(lab.folder.path().join("marks")).unwrap();
    assert_eq!(marks, "hello closed", "the old one was closed");

    // A module that cannot be imported is an error until it can.
    lab.write("lab_driver.py", "a mistake\n");
    let error = in_time(device.reset()).await.unwrap_err();
    assert!(error.report().contains("invalid syntax"), "{}", error.report());
    lab.write("lab_driver.py", MODULE);
    in_time(device.reset()).await.unwrap();
    assert_eq!(greet("lab").await, json!("hello you"));

    // As does an exporter that reads its file again.
    in_time(device.close()).await.unwrap();
    lab.write("lab_driver.py", &MODULE.replace("\"hello\"", "\"good evening\""));
    let device = lab.open().await;
    let greeting = call(&device, "lab", "greet", vec![json!("you")]).await.unwrap();
    assert_eq!(greeting, json!("good evening you"));
    in_time(device.close()).await.unwrap();
}
