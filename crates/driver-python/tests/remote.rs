//! `remote`: a client sees the same device through another exporter as directly.
#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use jumpstarter_client::Exporter;
use jumpstarter_config::ExporterConfig;
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::prelude::*;
use serde_json::json;
use support::{Served, client, in_time};
use tokio::io::AsyncReadExt;

const FAR: &str = "
export:
  power: {type: mock-power, description: the mains, methods_description: {on: lights up}}
  echo: {type: echo}
  flasher: {type: mock-flasher}
  rack: {children: {power: {type: mock-power}}}
  alias: {ref: rack}
";

/// The exporter that has the drivers, and one that mounts its device.
struct Chain {
    folder: tempfile::TempDir,
    far: Served,
    near: Served,
    exporter: Exporter,
}

impl Chain {
    async fn new(entries: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let far = Served::file(FAR, &folder.path().join("far")).await;
        let address = folder.path().join("far").display().to_string();
        let text = format!("export:\n{}", entries.replace("FAR", &address));
        let near = Served::file(&text, &folder.path().join("near")).await;
        let exporter = client(&folder.path().join("near")).await;
        Self { folder, far, near, exporter }
    }

    async fn end(self) {
        self.exporter.device().close().await.unwrap();
        self.near.shut_down().await;
        self.far.shut_down().await;
    }
}

#[tokio::test]
async fn the_tree_is_that_of_the_other_exporter() {
    let chain = Chain::new("  lab: {type: remote, config: {address: FAR}}\n").await;
    let direct = client(&chain.folder.path().join("far")).await;
    let through = chain.exporter.device().nodes();
    let direct = direct.device().nodes();
    assert_eq!(through.len(), direct.len() + 1);
    for (through, direct) in through[1..].iter().zip(direct) {
        let path = match direct.path() {
            "" => "lab".to_owned(),
            path => format!("lab.{path}"),
        };
        assert_eq!(through.path(), path);
        assert_eq!(through.client(), direct.client());
        assert_eq!(through.labels(), direct.labels());
        assert_eq!(through.description(), direct.description());
        assert_eq!(through.methods_description(), direct.methods_description());
        assert_eq!(through.interface_names(), direct.interface_names());
    }
    let id = |path: &str| chain.exporter.device().node(path).unwrap().id();
    assert_eq!(id("lab.alias.power"), id("lab.rack.power"));
    chain.end().await;
}

#[tokio::test]
async fn calls_streams_channels_and_images_pass() {
    let chain = Chain::new("  lab: {type: remote, config: {address: FAR}}\n").await;
    let device = chain.exporter.device();
    let power = device.get::<dyn Power>("lab.power").unwrap();
    in_time(power.on()).await.unwrap();
    let readings: Vec<_> = in_time(power.read().await.unwrap().take(2).collect()).await;
    assert!(readings.iter().all(Result::is_ok), "{readings:?}");

    let echo = in_time(device.connect("lab.echo", "connect")).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
    let (mut reader, mut writer) = echo.split();
    let (wrote, received) = in_time(async {
        tokio::join!(
            async {
                writer.send(sent.clone()).await?;
                writer.finish().await
            },
            async {
                let mut received = Vec::new();
                while let Some(frame) = reader.receive().await? {
                    received.extend_from_slice(&frame);
                }
                Ok::<_, Error>(received)
            }
        )
    })
    .await;
    wrote.unwrap();
    assert_eq!(received.unwrap(), sent);

    let image: Vec<u8> = (0..3_000_000u32).map(|number| (number / 7) as u8).collect();
    let flasher = device.get::<dyn Flasher>("lab.flasher").unwrap();
    in_time(flasher.flash(ImageSource::bytes(image.clone()), None)).await.unwrap();
    assert_eq!(dumped(&*flasher, None).await, image);
    let compressed = dumped(&*flasher, Some(Encoding::Zstd)).await;
    assert!(compressed.len() < image.len() / 10, "{} bytes", compressed.len());
    chain.end().await;
}

async fn dumped(flasher: &dyn Flasher, encoding: Option<Encoding>) -> Vec<u8> {
    let (sink, mut receiver) = tokio::io::duplex(64 * 1024);
    let mut sink = ImageSink::writer(sink);
    if let Some(encoding) = encoding {
        sink = sink.with_encoding(encoding);
    }
    let mut bytes = Vec::new();
    let (dumped, read) =
        in_time(async { tokio::join!(flasher.dump(sink, None), receiver.read_to_end(&mut bytes)) })
            .await;
    dumped.unwrap();
    read.unwrap();
    bytes
}

#[tokio::test]
async fn an_image_that_breaks_off_is_not_whole() {
    let chain = Chain::new("  lab: {type: remote, config: {address: FAR}}\n").await;
    let flasher = chain.exporter.device().get::<dyn Flasher>("lab.flasher").unwrap();
    in_time(flasher.flash(ImageSource::bytes(b"old".to_vec()), None)).await.unwrap();
    let pieces = futures_util::stream::iter([
        Ok(bytes_of(b"new")),
        Err(std::io::Error::other("the disk is gone")),
    ]);
    let broken = in_time(flasher.flash(ImageSource::stream(pieces, None), None)).await;
    assert!(broken.unwrap_err().report().contains("the disk is gone"));
    assert_eq!(dumped(&*flasher, None).await, b"old");
    chain.end().await;
}

fn bytes_of(text: &'static [u8]) -> bytes::Bytes {
    bytes::Bytes::from_static(text)
}

#[tokio::test]
async fn errors_keep_their_kind_and_their_text() {
    let chain = Chain::new("  lab: {type: remote, config: {address: FAR}}\n").await;
    let direct = client(&chain.folder.path().join("far")).await;
    let sink = || ImageSink::writer(tokio::io::sink());
    for (path, method, arguments) in [
        ("power", "dim", vec![]),
        ("power", "on", vec![json!(1)]),
        ("echo", "address", vec![]),
        ("flasher", "flash", vec![json!("text")]),
    ] {
        let there = in_time(direct.device().call(path, method, arguments.clone())).await;
        let path = format!("lab.{path}");
        let here = in_time(chain.exporter.device().call(&path, method, arguments)).await;
        let (there, here) = (there.unwrap_err(), here.unwrap_err());
        assert_eq!((here.kind(), here.report()), (there.kind(), there.report()));
        assert_eq!(here.is_refusal(), there.is_refusal());
    }
    let there = direct.device().get::<dyn Flasher>("flasher").unwrap();
    let here = chain.exporter.device().get::<dyn Flasher>("lab.flasher").unwrap();
    let there = in_time(there.dump(sink(), None)).await.unwrap_err();
    let here = in_time(here.dump(sink(), None)).await.unwrap_err();
    assert_eq!((here.kind(), here.report()), (there.kind(), there.report()));
    chain.end().await;
}

#[tokio::test]
async fn a_branch_beside_drivers_of_ones_own_and_references_into_it() {
    let chain = Chain::new(
        "  own: {type: mock-power}
  board: {type: remote, description: a rack, config: {address: FAR, path: rack}}
  mains: {ref: board.power}
",
    )
    .await;
    let device = chain.exporter.device();
    let paths: Vec<&str> = device.nodes().iter().map(|node| node.path()).collect();
    assert_eq!(paths, ["", "own", "board", "board.power", "mains"]);
    assert_eq!(device.node("board").unwrap().description(), Some("a rack"));
    assert_eq!(device.node("mains").unwrap().id(), device.node("board.power").unwrap().id());
    in_time(device.call("mains", "on", vec![])).await.unwrap();
    chain.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_configuration() {
    let faults = |config: &str| {
        let text = format!("export: {{lab: {{type: remote, config: {config}}}}}");
        ExporterConfig::parse(&text, "f").unwrap_err().to_string()
    };
    assert!(faults("{address: lab}").contains("`lab` is not the address of an exporter"));
    assert!(faults("{address: /s, tls: {insecure: true}}").contains("a Unix socket has no TLS"));
    assert!(faults("{address: 'l:1', tls: {key: k}}").contains("its key go together"));
    let folder = tempfile::tempdir().unwrap();
    let far = Served::file(FAR, &folder.path().join("far")).await;
    let address = folder.path().join("far").display().to_string();
    let open = |config: String| async move {
        let text = format!("export: {{lab: {{type: remote, config: {config}}}}}");
        let config = ExporterConfig::parse(&text, "f").unwrap();
        in_time(config.open()).await.unwrap_err()
    };
    let error = open(format!("{{address: {address}, path: rack.pwr}}")).await;
    assert!(error.report().contains("did you mean `rack.power`?"), "{}", error.report());
    let error = open(format!("{{address: {address}no}}")).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().starts_with("opening `lab` (driver remote)"), "{}", error.report());
    far.shut_down().await;
}

#[tokio::test]
async fn an_exporter_that_goes_away_is_said_and_found_again_at_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("far");
    let far = Served::file(FAR, &socket).await;
    let text =
        format!("export: {{lab: {{type: remote, config: {{address: {}}}}}}}", socket.display());
    let device = ExporterConfig::parse(&text, "f").unwrap().open().await.unwrap();
    device.call("lab.power", "on", vec![]).await.unwrap();
    far.shut_down().await;
    let error = in_time(device.call("lab.power", "on", vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = error.report();
    assert!(report.contains("mounted at `lab`, went away") && report.contains("reset"), "{report}");
    // The exporter is still down.
    in_time(device.reset()).await.unwrap_err();
    in_time(device.renew()).await.unwrap_err();
    let far = Served::file(FAR, &socket).await;
    in_time(device.reset()).await.unwrap();
    in_time(device.call("lab.power", "on", vec![])).await.unwrap();
    far.shut_down().await;
    // A connection that is not known to be lost is not made anew.
    in_time(device.call("lab.power", "on", vec![])).await.unwrap_err();
    let far = Served::file(FAR, &socket).await;
    in_time(device.renew()).await.unwrap();
    in_time(device.call("lab.power", "on", vec![])).await.unwrap();
    device.close().await.unwrap();
    far.shut_down().await;
}

#[tokio::test]
async fn a_stream_that_its_client_drops_ends_at_the_far_end() {
    let chain = Chain::new("  lab: {type: remote, config: {address: FAR}}\n").await;
    let mut echo = in_time(chain.exporter.device().connect("lab.echo", "connect")).await.unwrap();
    in_time(echo.send("hello")).await.unwrap();
    in_time(echo.receive()).await.unwrap();
    let open = || chain.far.session.counts().open_streams;
    assert_eq!(open(), 1);
    drop(echo);
    let ended = async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    in_time(ended).await;
    chain.end().await;
}
