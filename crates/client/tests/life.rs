//! The life of a connection: independent calls, its end, and the notification.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Response};
use jumpstarter_client::{ConnectOptions, ExporterState, connect};
use jumpstarter_driver_core::Device;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_exporter::Access;
use jumpstarter_protocol::labels::INTERFACES;
use jumpstarter_protocol::v1::{DriverInstanceReport, GetReportResponse};
use prost::Message;
use support::stub::Stub;
use support::{Served, in_time};

async fn served(stub: &Stub, tcp: bool) -> Served {
    Served::at(Device::of_driver(stub.clone()), tcp.then_some("127.0.0.1"), Access::default()).await
}

/// Waits until so many of the driver's calls are under way.
async fn running(stub: &Stub, count: i32) {
    in_time(stub.running.subscribe().wait_for(|running| *running == count)).await.unwrap();
}

#[tokio::test]
async fn streams_that_nobody_reads_hold_up_nothing() {
    let stub = Stub::default();
    let served = served(&stub, true).await;
    let exporter = served.connect().await;
    let network = exporter.device().get::<dyn Network>("").unwrap();
    let mut channels = Vec::new();
    for _ in 0..6 {
        channels.push(in_time(network.connect()).await.unwrap());
    }
    // More than two of them hold.
    in_time(stub.flooded.subscribe().wait_for(|bytes| *bytes > 40 << 20)).await.unwrap();
    in_time(exporter.device().call("", "off", vec![])).await.unwrap();
    in_time(exporter.status()).await.unwrap();
    let mut another = in_time(network.connect()).await.unwrap();
    for _ in 0..100 {
        in_time(another.receive()).await.unwrap().unwrap();
    }
    drop((channels, another));
    served.shut_down().await;
}

#[tokio::test]
async fn what_was_sent_before_closing_arrives() {
    for tcp in [false, true] {
        for round in 0..20 {
            let stub = Stub { quiet: true, ..Stub::default() };
            let served = served(&stub, tcp).await;
            let exporter = served.connect().await;
            let network = exporter.device().get::<dyn Network>("").unwrap();
            let mut channel = in_time(network.connect()).await.unwrap();
            let words = vec![round; 500_000];
            in_time(channel.send(words.clone())).await.unwrap();
            in_time(exporter.device().close()).await.unwrap();
            in_time(stub.heard.subscribe().wait_for(|heard| *heard == words)).await.unwrap();
            drop(channel);
            served.shut_down().await;
        }
    }
}

#[tokio::test]
async fn dropping_what_is_under_way_cancels_it_on_the_exporter() {
    let stub = Stub::default();
    let served = served(&stub, false).await;
    let exporter = served.connect().await;
    let device = exporter.device().clone();
    let (power, flasher) =
        (device.get::<dyn Power>("").unwrap(), device.get::<dyn Flasher>("").unwrap());
    let call = tokio::spawn(async move { power.on().await });
    running(&stub, 1).await;
    call.abort();
    running(&stub, 0).await;

    let mut readings = in_time(device.stream("", "read", vec![])).await.unwrap();
    in_time(readings.next()).await.unwrap().unwrap();
    assert_eq!(*stub.running.borrow(), 1);
    drop(readings);
    running(&stub, 0).await;

    for target in ["hangs in the middle", "hangs at the end"] {
        let flasher = flasher.clone();
        let flash =
            async move { flasher.flash(ImageSource::bytes("image"), Some(target.into())).await };
        let call = tokio::spawn(flash);
        running(&stub, 1).await;
        call.abort();
        running(&stub, 0).await;
    }
    let dump = async move {
        flasher.dump(ImageSink::writer(tokio::io::sink()), Some("hangs at the start".into())).await
    };
    let call = tokio::spawn(dump);
    running(&stub, 1).await;
    call.abort();
    running(&stub, 0).await;
    served.shut_down().await;
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up_and_cancelled() {
    let stub = Stub::default();
    let served = served(&stub, false).await;
    let options = served.options().call_timeout(Duration::from_millis(300));
    let exporter = in_time(connect(&options)).await.unwrap();
    let error = in_time(exporter.device().call("", "on", vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    insta::assert_snapshot!(error.report().replace(&served.address, "ADDRESS"), @r"
    calling `on`: the exporter at ADDRESS did not answer within 300ms
    hint: check whether the driver is busy or hangs, or set a longer limit for the connection
    ");
    running(&stub, 0).await;
    served.shut_down().await;
}

#[tokio::test]
async fn an_orderly_end_is_told_to_all_who_ask() {
    let stub = Stub::default();
    let served = served(&stub, false).await;
    let exporter = served.connect().await;
    let address = served.address.clone();
    assert_eq!(in_time(exporter.status()).await.unwrap().state, ExporterState::Ready);
    let logs = in_time(exporter.logs()).await.unwrap();
    let waiting = exporter.clone();
    let lost = tokio::spawn(async move { waiting.lost().await });
    served.shut_down().await;
    let error = in_time(logs.collect::<Vec<_>>()).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    insta::assert_snapshot!(error.report().replace(&address, "ADDRESS"), @r"
    following the exporter's log: the exporter at ADDRESS went away
    hint: connect again when it is back: it has ended, or the network to it failed
    ");
    let error = in_time(lost).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let options = ConnectOptions::new(address.parse().unwrap());
    assert_eq!(in_time(connect(&options)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_closed_device_says_so() {
    let served = served(&Stub::default(), false).await;
    let exporter = served.connect().await;
    let mut logs = in_time(exporter.logs()).await.unwrap();
    in_time(exporter.device().close()).await.unwrap();
    let told = |error: Error| error.report().replace(&served.address, "ADDRESS");
    insta::assert_snapshot!(told(in_time(exporter.lost()).await), @r"the connection to the exporter at ADDRESS is closed");
    let call = in_time(exporter.device().call("", "off", vec![])).await.unwrap_err();
    insta::assert_snapshot!(told(call), @r"calling `off`: the connection to the exporter at ADDRESS is closed");
    while let Some(record) = in_time(logs.next()).await {
        if let Err(error) = record {
            assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        }
    }
    served.shut_down().await;
}

#[tokio::test]
async fn the_log_is_followed() {
    let served = Served::file(support::FILE).await;
    let exporter = served.connect().await;
    let mut logs = in_time(exporter.logs()).await.unwrap();
    served.log("the mains are on");
    loop {
        let record = in_time(logs.next()).await.unwrap().unwrap();
        if record.message == "the mains are on" {
            assert_eq!((record.severity.as_str(), record.source), ("WARNING", Some("system")));
            assert!(record.timestamp.is_some());
            break;
        }
    }
    served.shut_down().await;
}

/// An exporter that answers nothing but the first call, and sends HTTP/2 pings every so often, a
/// number of times.
async fn pinging(
    interval: Duration,
    times: usize,
) -> (ConnectOptions, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options =
        ConnectOptions::new(listener.local_addr().unwrap().to_string().parse().unwrap()).insecure();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut ping = connection.ping_pong().unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let node = DriverInstanceReport {
            uuid: "root".to_owned(),
            labels: [(INTERFACES.to_owned(), "power".to_owned())].into(),
            ..DriverInstanceReport::default()
        };
        let report = GetReportResponse { reports: vec![node], ..GetReportResponse::default() };
        let mut message = vec![0];
        message.extend_from_slice(&u32::try_from(report.encoded_len()).unwrap().to_be_bytes());
        report.encode(&mut message).unwrap();
        let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut sending = respond.send_response(head, false).unwrap();
        sending.send_data(Bytes::from(message), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        sending.send_trailers(trailers).unwrap();
        let pings = async {
            for _ in 0..times {
                tokio::time::sleep(interval).await;
                ping.ping(h2::Ping::opaque()).await.expect("the connection lives");
            }
        };
        let mut unanswered = Vec::new();
        tokio::pin!(pings);
        loop {
            tokio::select! {
                () = &mut pings => return,
                call = connection.accept() => unanswered.push(call.expect("the connection lives").unwrap()),
            }
        }
    });
    (options, server)
}

#[tokio::test]
async fn any_byte_is_a_sign_of_life() {
    let (options, server) = pinging(Duration::from_secs(5), 2).await;
    let options = options.keepalive(Duration::from_secs(4));
    let exporter = in_time(connect(&options)).await.unwrap();
    in_time(server).await.unwrap();
    drop(exporter);
}
