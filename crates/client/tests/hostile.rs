//! Exporters that answer what none should: each is refused, soon, with an error that says who did
//! it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use jumpstarter_client::{ConnectOptions, Exporter, connect};
use jumpstarter_driver_core::{Error, ErrorKind, Result};
use jumpstarter_protocol::Value;
use jumpstarter_protocol::v1::{DriverCallResponse, GetReportResponse, GetStatusResponse};
use jumpstarter_test_support::hostile::{Answer, Hostile, driver, report};
use prost::Message;

/// More than a loaded machine needs.
const LONG: Duration = Duration::from_secs(60);

async fn connected(exporter: &Hostile) -> Result<Exporter> {
    connected_within(exporter, LONG).await
}

/// Connected, with this limit for each call.
async fn connected_within(exporter: &Hostile, limit: Duration) -> Result<Exporter> {
    let options = ConnectOptions::to(&exporter.socket().to_string_lossy()).expect("an address");
    connect(&options.connect_timeout(LONG).call_timeout(limit)).await
}

/// Connecting fails within seconds, with an error that names the exporter and is not long.
async fn refused(report: GetReportResponse) -> String {
    let exporter = Hostile::device(report, |_| Answer::Never);
    let begin = Instant::now();
    let error = connected(&exporter).await.expect_err("this is no device");
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    named(&exporter, &error)
}

#[track_caller]
fn named(exporter: &Hostile, error: &Error) -> String {
    let (text, socket) = (error.report(), exporter.socket().display().to_string());
    assert!(text.contains(&socket) && text.len() < 500, "{text}");
    text.replace(&socket, "SOCKET")
}

#[tokio::test]
async fn reports_that_are_no_device_are_refused_at_once() {
    let flat = |count: usize| {
        report(
            (0..count).map(|id| driver(id, (id > 0).then_some(0), &format!("n{id}"), "")).collect(),
        )
    };
    assert!(connected(&Hostile::device(flat(2_000), |_| Answer::Never)).await.is_ok());
    let chain = (0..2_000).map(|id| driver(id, id.checked_sub(1), "x", "")).collect();
    let text = refused(report(chain)).await;
    assert_eq!(
        text,
        "reading the report of the exporter at SOCKET: the device's tree is deeper than 60 levels"
    );
    let text = refused(flat(20_000)).await;
    assert_eq!(
        text,
        "reading the report of the exporter at SOCKET: it has 20000 drivers; 10000 are the most"
    );
    // Cheap to send, and expensive to hold: drivers without fields, in two bytes each.
    let hollow = Bytes::from([0x1a, 0].repeat(2_500_000));
    let exporter = Hostile::serve(move |_| Answer::Messages(vec![hollow.clone()], Ok(())));
    let text = named(&exporter, &connected(&exporter).await.expect_err("this is no device"));
    assert!(text.contains("more than the 4194304 bytes that are accepted"), "{text}");
    let long = report(vec![driver(0, None, "", ""), driver(1, Some(0), &"n".repeat(70_000), "")]);
    assert!(refused(long).await.contains("has 70000 bytes; 255 are the most"));
    let mut stray = driver(1, None, "x", "");
    stray.parent_uuid = Some("u".repeat(70_000));
    assert!(
        refused(report(vec![driver(0, None, "", ""), stray]))
            .await
            .contains("that does not come before")
    );
    assert!(
        refused(report(vec![driver(0, Some(0), "", "")]))
            .await
            .contains("that does not come before")
    );
    assert!(
        refused(report(vec![driver(0, None, "", ""), driver(1, None, "y", "")]))
            .await
            .contains("second root")
    );
    let twins =
        vec![driver(0, None, "", ""), driver(1, Some(0), "x", ""), driver(2, Some(0), "x", "")];
    assert!(refused(report(twins)).await.contains("two drivers at `x`"));
    assert!(refused(report(Vec::new())).await.contains("no root"));
    let mut endless = driver(0, None, "", "");
    endless.labels =
        (0..1_000).map(|label| (format!("label-{label}"), "x".repeat(5_000))).collect();
    assert!(refused(report(vec![endless])).await.contains("bytes that are accepted"));
}

#[tokio::test]
async fn one_uuid_for_all_is_one_driver_with_many_names() {
    let drivers =
        (0..50).map(|id| driver(7, (id > 0).then_some(7), &format!("n{id}"), "")).collect();
    let exporter = Hostile::device(report(drivers), |_| Answer::Never);
    let device = connected(&exporter).await.unwrap().device().clone();
    assert!(device.nodes().iter().all(|node| node.id() == 0));
    assert_eq!(device.nodes()[49].path().matches('.').count(), 48);
}

/// A value in so many lists, as the answer of a call.
fn nested(levels: usize) -> Bytes {
    let mut value = Vec::new();
    for _ in 0..levels {
        // Value { list_value: ListValue { values: [value] } }, by hand: its encoder recurses.
        let mut list = vec![0x0a];
        prost::encoding::encode_varint(value.len() as u64, &mut list);
        list.append(&mut value);
        value.push(0x32);
        prost::encoding::encode_varint(list.len() as u64, &mut value);
        value.append(&mut list);
    }
    let mut answer = vec![0x12];
    prost::encoding::encode_varint(value.len() as u64, &mut answer);
    answer.append(&mut value);
    answer.into()
}

#[tokio::test]
async fn answers_that_cannot_be_read_name_their_exporter() {
    let lamp = || report(vec![driver(0, None, "", "")]);
    // DriverCallResponse { result: Value { number_value: NaN } }
    let nan = [&[0x12, 9, 0x11][..], &f64::NAN.to_le_bytes()].concat();
    for (what, messages, expected) in [
        ("10,000 levels", vec![nested(10_000)], "recursion limit"),
        ("60 levels", vec![nested(60)], "recursion limit"),
        ("no message", vec![Bytes::from_static(b"\xff\xff\xff")], "cannot be read"),
        ("not a number", vec![Bytes::from(nan)], "NaN"),
        ("nothing", Vec::new(), "answered nothing"),
        ("33 MiB", vec![Bytes::from(vec![0; 33 << 20])], "bytes that are accepted"),
    ] {
        let exporter = Hostile::device(lamp(), move |_| Answer::Messages(messages.clone(), Ok(())));
        let connected = connected(&exporter).await.unwrap();
        let begin = Instant::now();
        let error = connected.device().call("", "blink", vec![]).await.unwrap_err();
        let text = named(&exporter, &error);
        assert!(text.contains(expected) && begin.elapsed() < LONG / 2, "{what}: {text}");
    }
    // As deep as arguments may be.
    let exporter = Hostile::device(lamp(), |_| Answer::Messages(vec![nested(30)], Ok(())));
    assert!(connected(&exporter).await.unwrap().device().call("", "blink", vec![]).await.is_ok());
}

#[tokio::test]
async fn a_peer_that_never_answers_is_named_in_time() {
    let lamp = report(vec![driver(0, None, "", "power,serial,flasher")]);
    let exporter = Hostile::device(lamp, |_| Answer::Never);
    let connected = connected_within(&exporter, Duration::from_secs(2)).await.unwrap();
    let device = connected.device();
    let begin = Instant::now();
    let outcomes = [
        device.call("", "on", vec![]).await.map(drop),
        device.reset().await,
        connected.status().await.map(drop),
        device.connect("", "connect").await.map(drop),
        match device.stream("", "read", vec![]).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        },
        connected.logs().await.map(drop),
    ];
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.expect_err(&index.to_string());
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{index}: {error:?}");
        named(&exporter, &error);
    }
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    // Nor does one that does not even report.
    let exporter = Hostile::serve(|_| Answer::Never);
    let options = ConnectOptions::to(&exporter.socket().to_string_lossy()).unwrap();
    let error = connect(&options.connect_timeout(Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    named(&exporter, &error);
}

#[tokio::test]
async fn an_endless_stream_holds_up_nothing_and_ends_when_it_is_dropped() {
    let value = DriverCallResponse { uuid: String::new(), result: Some(Value { kind: None }) };
    let messages = vec![Bytes::from(value.encode_to_vec()); 50_000];
    let exporter =
        Hostile::device(report(vec![driver(0, None, "", "")]), move |method| match method {
            "StreamingDriverCall" => Answer::Open(messages.clone()),
            "GetStatus" => Answer::one(&GetStatusResponse::default()),
            _ => Answer::Never,
        });
    let connected = connected(&exporter).await.unwrap();
    let mut values = connected.device().stream("", "read", vec![]).await.unwrap();
    assert!(values.next().await.unwrap().is_ok());
    connected.status().await.unwrap();
    drop(values);
    connected.status().await.unwrap();
}
