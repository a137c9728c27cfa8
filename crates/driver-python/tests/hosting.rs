//! Drivers in Python, hosted. They need the packages of Jumpstarter in Python.

mod support;

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_python::{Looked, look};
use serde_json::json;
use support::lab::{Lab, MODULE, call, python};
use support::{Served, client, in_time};
use tokio::io::AsyncReadExt;

const LAB: &str = "  lab: {type: lab_driver.Lab, description: a lab, config: {greeting: hi, marks: FOLDER/marks}}\n";

#[tokio::test]
async fn python_hosts_a_driver_and_clients_see_it_as_it_is() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, &format!("{LAB}  power: {{type: mock-power}}\n"));
    let socket = lab.folder.path().join("socket");
    let served = Served::device(lab.open().await, &socket).await;
    let exporter = client(&socket).await;
    let device = exporter.device();
    let node = device.node("lab").unwrap();
    assert_eq!(node.client(), "lab_driver.LabClient");
    assert_eq!(node.description(), Some("a lab"));
    assert_eq!(node.labels(), [("lab/greeting".to_owned(), "hi".to_owned())]);
    assert_eq!(node.interface_names(), None);

    let greeting = call(device, "lab", "greet", vec![json!("you"), json!("and you")]).await;
    assert_eq!(greeting.unwrap(), json!("hi you and you"));
    for value in [json!(null), json!([1, 2.5, "x", {"a": [true]}]), json!({"ä": -1e300})] {
        assert_eq!(call(device, "lab", "same", vec![value.clone()]).await.unwrap(), value);
    }
    let counted: Vec<_> =
        in_time(device.stream("lab", "count", vec![json!(1000)]).await.unwrap().collect()).await;
    assert_eq!(counted.len(), 1000);
    assert_eq!(counted[999].as_ref().unwrap(), &json!({"number": 999}));
    in_time(device.call("power", "on", vec![])).await.unwrap();

    in_time(device.close()).await.unwrap();
    served.shut_down().await;
    let marks = std::fs::read_to_string(lab.folder.path().join("marks")).unwrap();
    assert_eq!(marks, "hi closed");
}

#[tokio::test]
async fn python_hosts_streams_and_images_as_they_are() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, LAB);
    let socket = lab.folder.path().join("socket");
    let served = Served::device(lab.open().await, &socket).await;
    let exporter = client(&socket).await;
    let device = exporter.device();

    let sent: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let (mut reader, mut writer) = in_time(device.connect("lab", "connect")).await.unwrap().split();
    let length = sent.len();
    let receiving = async {
        let mut received = Vec::new();
        while received.len() < length {
            received.extend_from_slice(&reader.receive().await.unwrap().unwrap());
        }
        received
    };
    let (wrote, received) =
        in_time(async { tokio::join!(writer.send(sent.clone()), receiving) }).await;
    wrote.unwrap();
    assert!(received == sent, "{} bytes", received.len());

    // A driver of an unknown kind may give a meaning to the boundaries between its frames.
    let lengths = || (0..500).map(|number| 4000 + number);
    let sending = async {
        for length in lengths() {
            writer.feed(vec![7; length].into()).await.unwrap();
        }
        writer.flush().await.unwrap();
    };
    let receiving = async {
        for length in lengths() {
            assert_eq!(reader.receive().await.unwrap().unwrap().len(), length);
        }
    };
    in_time(async { tokio::join!(sending, receiving) }).await;
    drop((reader, writer));

    // A client of ours that believes that it is a flasher.
    let flasher = <dyn Flasher as Interface>::remote(device.node("lab").unwrap().caller().clone());
    in_time(flasher.flash(ImageSource::bytes(sent.clone()), None)).await.unwrap();
    let (sink, mut receiver) = tokio::io::duplex(64 * 1024);
    let mut dumped = Vec::new();
    let dumping = async {
        tokio::join!(flasher.dump(ImageSink::writer(sink), None), receiver.read_to_end(&mut dumped))
    };
    let (done, read) = in_time(dumping).await;
    done.unwrap();
    read.unwrap();
    assert!(dumped == sent, "{} bytes", dumped.len());
    served.shut_down().await;
}

#[tokio::test]
async fn python_hosts_and_errors_keep_their_kind() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, LAB);
    let device = lab.open().await;
    for (how, kind, text) in [
        ("value", ErrorKind::InvalidArgument, "a wrong value"),
        ("missing", ErrorKind::Unimplemented, "not here"),
        ("late", ErrorKind::DeadlineExceeded, "too late"),
        ("other", ErrorKind::Unknown, "whatever"),
    ] {
        let error = call(&device, "lab", "fail", vec![json!(how)]).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    }
    let error = call(&device, "lab", "no_such", vec![]).await.unwrap_err();
    assert!(error.is_refusal(), "{}", error.report());
    in_time(device.close()).await.unwrap();
}

#[tokio::test]
async fn python_hosts_each_driver_apart_and_a_reset_starts_one_that_died() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, &format!("{LAB}  other: {{type: lab_driver.Lab}}\n"));
    let device = lab.open().await;
    let pid = async |path: &str| call(&device, path, "pid", vec![]).await.unwrap();
    let (first, other) = (pid("lab").await, pid("other").await);
    assert_ne!(first, other);

    let waiting = device.clone();
    let waiting = tokio::spawn(async move { waiting.call("lab", "sleep", vec![json!(60)]).await });
    let error = call(&device, "lab", "die", vec![]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected =
        "the Python process of `lab` was killed by signal 9; its last words: the smoke is out";
    assert!(error.report().contains(expected), "{}", error.report());
    let error = in_time(waiting).await.unwrap().unwrap_err();
    assert!(error.report().contains("the smoke is out"), "{}", error.report());
    let error = call(&device, "lab", "pid", vec![]).await.unwrap_err();
    assert!(error.report().contains("a reset, or the next session, starts a new one"));
    assert_eq!(pid("other").await, other);

    // Between two sessions.
    in_time(device.renew()).await.unwrap();
    let second = pid("lab").await;
    assert_ne!(second, first);
    assert_eq!(pid("other").await, other);
    in_time(device.renew()).await.unwrap();
    assert_eq!(pid("lab").await, second, "what works stays");

    call(&device, "lab", "die", vec![]).await.unwrap_err();
    in_time(device.reset()).await.unwrap();
    assert_ne!(pid("lab").await, second);
    assert_eq!(pid("other").await, other);
    let resets = call(&device, "other", "how_often_reset", vec![]).await.unwrap();
    assert_eq!(resets, json!(2), "when it was opened, and now");
    in_time(device.close()).await.unwrap();
}

#[tokio::test]
async fn python_hosts_what_a_driver_refers_to_with_it() {
    let Some(python) = python() else { return };
    let entries = "
  pair: {type: lab_driver.Pair, children: {power: {ref: rack.mains}, own: {type: lab_driver.Lab}}}
  rack:
    children:
      mains: {ref: power}
      quiet: {type: mock-power}
  power: {type: mock-power}
  again: {ref: pair.own}
";
    let lab = Lab::new(&python, entries);
    let hosted: Vec<_> = lab.config().hosted().iter().map(|entry| entry.class.clone()).collect();
    let mock = "jumpstarter_driver_power.driver.MockPower";
    assert_eq!(hosted, ["lab_driver.Pair", "lab_driver.Lab", mock]);
    let device = lab.open().await;
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(
        paths,
        [
            "",
            "pair",
            "pair.power",
            "pair.own",
            "rack",
            "rack.mains",
            "rack.quiet",
            "power",
            "again"
        ]
    );
    assert_eq!(call(&device, "pair", "switch", vec![]).await.unwrap(), json!(["own", "power"]));
    // Typed, by references and through the mount.
    for path in ["rack.mains", "power", "rack.quiet", "pair.power"] {
        in_time(device.get::<dyn Power>(path).unwrap().on()).await.unwrap();
    }
    assert_eq!(
        call(&device, "again", "pid", vec![]).await.unwrap(),
        call(&device, "pair.own", "pid", vec![]).await.unwrap()
    );
    in_time(device.close()).await.unwrap();
}

#[tokio::test]
async fn python_hosts_nothing_that_is_wrong() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, "  lab: {type: lab_driver.Lab, config: {greeting: broken}}\n");
    let error = lab.fails().await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.report().contains("no lab greets so"), "{}", error.report());
    let error = Lab::new(&python, "  lab: {type: no_such.Lab}\n").fails().await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let report = error.report();
    assert!(report.contains("no_such.Lab") && report.contains("pip install no-such"), "{report}");
    let error = Lab::new(Path::new("no-such-python"), LAB).fails().await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("JMP_PYTHON"), "{}", error.report());
    // One without the packages.
    let plain = Path::new("/usr/bin/env");
    let error = Lab::new(plain, LAB).fails().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
}

#[tokio::test]
async fn python_hosts_again_within_a_moment() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, LAB);
    let began = std::time::Instant::now();
    in_time(lab.open().await.close()).await.unwrap();
    let first = began.elapsed();
    let mut second = Duration::MAX;
    // The best of some: a busy machine may hold one of them up.
    for _ in 0..5 {
        let began = std::time::Instant::now();
        in_time(lab.open().await.close()).await.unwrap();
        second = second.min(began.elapsed());
    }
    // Python's start, and the packages', is not paid again.
    assert!(second < first, "{second:?} after {first:?}");
    assert!(second < Duration::from_secs(5), "{second:?}");
}

#[test]
fn python_hosts_what_it_says_it_can() {
    let Some(python) = python() else { return };
    let lab = Lab::new(&python, LAB);
    let folder = Some(lab.folder.path());
    let python = python.to_str();
    let classes =
        ["lab_driver.Lab", "lab_driver.Lba", "lab_driver.MODULE", "no_such.Lab", "os.path.X"];
    let classes = classes.map(str::to_owned);
    let looked = look(python, folder, &classes).unwrap();
    let said = |index: usize| match &looked[index] {
        Looked::Missing { message, hint } => {
            format!("{message}; {}", hint.as_deref().unwrap_or(""))
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(&looked[0], Looked::Found(fields) if !fields["greeting"]));
    assert_eq!(looked[0].unknown_fields(&["greting".to_owned()]).len(), 1);
    let expected = "the module `lab_driver` has no class `Lba`; did you mean `Lab`?";
    assert!(said(1).starts_with(expected), "{}", said(1));
    assert!(said(3).contains("-m pip install no-such"), "{}", said(3));
    // The module has changed, and Python is asked again.
    let module = MODULE.replace("class Lab(", "class Lba(");
    std::fs::write(lab.folder.path().join("lab_driver.py"), module).unwrap();
    let looked = look(python, folder, &classes).unwrap();
    assert!(matches!(&looked[1], Looked::Found(_)), "{looked:?}");
    // A module that ends Python is a fault of that class alone.
    lab.write("exits.py", "import os, sys\nprint('I leave', file=sys.stderr)\nos._exit(7)\n");
    let classes = ["lab_driver.Lba", "exits.Lab"].map(str::to_owned);
    let looked = look(python, folder, &classes).unwrap();
    let [Looked::Found(_), Looked::Missing { message, .. }] = &looked[..] else {
        panic!("{looked:?}");
    };
    let expected = "the module `exits` cannot be imported";
    assert!(message.starts_with(expected) && message.contains("I leave"), "{message}");
    let error = look(Some("/no/such/python"), folder, &classes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
