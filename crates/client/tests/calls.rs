//! What a device of an exporter does is what a local one does.

mod support;

use futures_util::StreamExt;
use jumpstarter_client::ExporterState;
use jumpstarter_driver_core::prelude::*;
use serde_json::json;
use support::{FILE, Served, in_time};

#[tokio::test]
async fn the_tree_is_the_exporters() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    assert_eq!((exporter.name(), exporter.motd()), (Some("lab"), Some("be kind")));
    let shown: Vec<String> =
        exporter.device().nodes().iter().map(|node| format!("{node:?}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    the root []
    power ["power"]
    echo ["network"]
    serial ["serial"]
    flasher ["flasher"]
    rack []
    rack.power ["power"]
    alias []
    alias.power ["power"]
    "#);
    let local: Vec<String> =
        served.session.device().nodes().iter().map(|node| format!("{node:?}")).collect();
    assert_eq!(shown, local);
    let of = |path: &str| exporter.device().node(path).unwrap().id();
    assert_eq!(of("alias.power"), of("rack.power"));
    assert_ne!(of("power"), of("rack.power"));
    served.shut_down().await;
}

#[tokio::test]
async fn calls_streams_and_channels_work_typed_and_untyped() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let device = exporter.device().clone();
    let power = device.get::<dyn Power>("power").unwrap();
    in_time(power.on()).await.unwrap();
    let reading = in_time(in_time(power.read()).await.unwrap().next()).await.unwrap().unwrap();
    assert!(reading.voltage >= 0.0);
    assert_eq!(in_time(device.call("power", "off", vec![])).await.unwrap(), json!(null));
    assert_eq!(
        in_time(device.call("power", "of", vec![])).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );

    let mut echo = in_time(device.get::<dyn Network>("echo").unwrap().connect()).await.unwrap();
    echo.send("ping").await.unwrap();
    echo.finish().await.unwrap();
    assert_eq!(in_time(echo.receive()).await.unwrap().as_deref(), Some(&b"ping"[..]));
    assert_eq!(in_time(echo.receive()).await.unwrap(), None);

    let status = in_time(exporter.status()).await.unwrap();
    assert_eq!(
        (status.state, status.message.as_str()),
        (ExporterState::Ready, "Ready for commands")
    );
    in_time(exporter.wait_ready(support::DEADLINE)).await.unwrap();
    in_time(device.reset()).await.unwrap();
    in_time(device.close()).await.unwrap();
    let closed = in_time(device.call("power", "on", vec![])).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::FailedPrecondition, "{closed:?}");
    served.shut_down().await;
}

#[tokio::test]
async fn an_image_is_flashed_and_dumped() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = exporter.device().get::<dyn Flasher>("flasher").unwrap();
    let image: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    in_time(flasher.flash(ImageSource::bytes(image.clone()), None)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    in_time(flasher.dump(ImageSink::path(&path), None)).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == image);
    served.shut_down().await;
}
