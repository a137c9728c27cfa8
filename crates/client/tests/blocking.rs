//! The same without async.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::io::{Read, Write};

use jumpstarter_client::{ExporterState, blocking};
use jumpstarter_driver_core::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::{DEADLINE, FILE, Served};

/// Runs an exporter for `test`, which gets the options to connect to it, and a function that stops
/// it.
fn with_exporter(
    test: impl FnOnce(&jumpstarter_client::ConnectOptions, &dyn Fn(&str), Box<dyn FnOnce()>),
) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let served = runtime.block_on(Served::file(FILE));
    let (options, logs) = (served.options(), served.logs.clone());
    let log = move |message: &str| support::log_to(&logs, message);
    let served = std::sync::Arc::new(std::sync::Mutex::new(Some(served)));
    let (taken, handle) = (served.clone(), runtime.handle().clone());
    let end = move || {
        let served = taken.lock().unwrap().take().unwrap();
        handle.block_on(served.shut_down());
    };
    test(&options, &log, Box::new(end));
    let left = served.lock().unwrap().take();
    if let Some(served) = left {
        runtime.block_on(served.shut_down());
    }
}

#[test]
fn a_device_without_async() {
    with_exporter(|options, _, _| {
        let device = blocking::Device::connect(options).unwrap();
        assert_eq!(device.call("power", "on", vec![]).unwrap(), json!(null));
        device.block_on(device.get::<dyn Power>("power").unwrap().off()).unwrap();
        let image: Vec<u8> = (0..300_000u32).map(|n| (n / 7) as u8).collect();
        device.flash("flasher", ImageSource::bytes(image.clone()), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump.img");
        device.dump("flasher", ImageSink::path(&file), None).unwrap();
        assert!(std::fs::read(&file).unwrap() == image);
        device.close().unwrap();
    });
}

#[test]
fn streams_and_connections_outlive_their_device() {
    with_exporter(|options, _, _| {
        let device = blocking::Device::connect(options).unwrap();
        let mut readings = device.stream("power", "read", vec![]).unwrap();
        let mut echo = device.open_channel("echo", "connect").unwrap();
        drop(device);
        assert!(readings.next().unwrap().unwrap()["voltage"].is_number());
        echo.write_all(b"ping").unwrap();
        echo.flush().unwrap();
        echo.finish().unwrap();
        let mut answer = String::new();
        echo.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "ping");
    });
}

#[test]
fn an_exporter_without_async() {
    with_exporter(|options, log, end| {
        let exporter = blocking::connect(options).unwrap();
        assert_eq!((exporter.name(), exporter.motd()), (Some("lab"), Some("be kind")));
        assert!(exporter.address().to_string().ends_with("/socket"));
        assert_eq!(exporter.status().unwrap().state, ExporterState::Ready);
        exporter.wait_ready(DEADLINE).unwrap();
        exporter.device().call("power", "on", vec![]).unwrap();
        let mut logs = exporter.logs().unwrap();
        log("the mains are on");
        let found = logs.find(|record| record.as_ref().unwrap().message == "the mains are on");
        assert!(found.is_some());
        end();
        let lost = exporter.lost();
        assert_eq!(lost.kind(), ErrorKind::Unavailable, "{lost:?}");
        let error = logs.find_map(Result::err).unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        exporter.close().unwrap();
    });
}

/// tokio's runtimes panic then.
#[test]
fn where_no_thread_can_be_made_there_is_an_error() {
    let options = jumpstarter_client::ConnectOptions::new("/nowhere".parse().unwrap());
    let before = getrlimit(Resource::As);
    // The stack of a thread is mapped, which fails from now on.
    setrlimit(Resource::As, Rlimit { current: Some(1), ..before }).unwrap();
    let connected = blocking::connect(&options);
    setrlimit(Resource::As, before).unwrap();
    let error = connected.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.report().contains("making a thread for a blocking device"), "{error:?}");
}

#[tokio::test]
async fn inside_async_code_it_is_refused() {
    let served = Served::file(FILE).await;
    let error = blocking::Device::connect(&served.options()).unwrap_err();
    insta::assert_snapshot!(error.report(), @r"
    a blocking device cannot be used inside async code
    hint: use jumpstarter_driver_core::Device there, and await its calls
    ");
    served.shut_down().await;
}
