//! The drivers: from a configuration, through the interface.

use crate::support::{Bench, image, tool};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{FileFlasherConfig, MockFlasherConfig};
use jumpstarter_driver_testkit::eventually;

pub(crate) async fn open<C: DriverConfig>(config: serde_json::Value) -> Result<C::Driver> {
    let config: C = serde_json::from_value(config)
        .map_err(|error| Error::invalid_argument(error.to_string()))?;
    config.open(OpenContext::at("flasher")).await
}

#[tokio::test]
async fn the_mock_remembers_by_target() {
    let bench = Bench::new();
    let plain = image(200_000);
    let packed = tool("gzip", &[], &bench.file("plain", &plain));
    let mock = open::<MockFlasherConfig>(serde_json::json!({})).await.unwrap();
    let kind = mock.dump(ImageSink::path(bench.disk()), None).await.unwrap_err().kind();
    assert_eq!(kind, ErrorKind::NotFound);
    bench.assert_untouched();

    mock.flash(ImageSource::bytes(packed.clone()), None).await.unwrap();
    mock.flash(ImageSource::bytes("boot"), Some("../boot/../x".to_owned())).await.unwrap();
    mock.dump(ImageSink::path(bench.disk()), None).await.unwrap();
    assert!(
        std::fs::read(bench.disk()).unwrap() == packed,
        "a compressed file stays one, as in Python"
    );
    mock.dump(ImageSink::path(bench.disk()), Some("../boot/../x".to_owned())).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"boot");

    mock.reset().await.unwrap();
    assert_eq!(
        mock.dump(ImageSink::path(bench.disk()), None).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    mock.close().await.unwrap();
    mock.close().await.unwrap();
    let kind = mock.flash(ImageSource::bytes("x"), None).await.unwrap_err().kind();
    assert_eq!(kind, ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn the_mock_removes_what_a_killed_one_left() {
    let left = std::env::temp_dir().join(format!("jmp-mock-flasher-{}", std::process::id()));
    let making = tempfile::tempdir().unwrap();
    let made = making.path().join("made");
    std::fs::create_dir(&made).unwrap();
    // Its lock went with its process.
    std::fs::write(made.join("lock"), "").unwrap();
    std::fs::write(made.join("1.img"), "an image").unwrap();
    std::fs::rename(made, &left).unwrap();
    let mock = open::<MockFlasherConfig>(serde_json::json!({})).await.unwrap();
    // A mock of another process may be removing it just now.
    eventually("it is removed", || !left.exists()).await;
    mock.close().await.unwrap();
}

#[tokio::test]
async fn files_by_path_and_by_target() {
    let bench = Bench::new();
    let config =
        serde_json::json!({ "path": bench.disk(), "targets": { "boot": bench.path("boot.img") } });
    let flasher = open::<FileFlasherConfig>(config).await.unwrap();
    flasher.flash(ImageSource::bytes("root"), None).await.unwrap();
    flasher.flash(ImageSource::bytes("boot"), Some("boot".to_owned())).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"root");
    assert_eq!(std::fs::read(bench.path("boot.img")).unwrap(), b"boot");
    flasher.dump(ImageSink::path(bench.path("back")), Some("boot".to_owned())).await.unwrap();
    assert_eq!(std::fs::read(bench.path("back")).unwrap(), b"boot");
    let error = flasher.flash(ImageSource::bytes("x"), Some("bot".to_owned())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.hint().unwrap().contains("did you mean `boot`?"), "{error:?}");
}

#[tokio::test]
async fn a_folder_of_partitions_is_not_left() {
    let bench = Bench::new();
    let folder = bench.path("partitions");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(bench.disk(), folder.join("link")).unwrap();
    let config = serde_json::json!({ "folder": folder, "targets": { "disk": bench.disk() } });
    let flasher = open::<FileFlasherConfig>(config).await.unwrap();
    let flash = async |name: Option<&str>| {
        flasher.flash(ImageSource::bytes("new"), name.map(str::to_owned)).await
    };
    flash(Some("boot.img")).await.unwrap();
    assert_eq!(std::fs::read(folder.join("boot.img")).unwrap(), b"new");
    for name in ["", ".", "..", "../disk.img", "a/b", "/etc/x", ".hidden", "a\0b", "link"] {
        let error = flash(Some(name)).await.unwrap_err();
        let kinds = [ErrorKind::InvalidArgument, ErrorKind::PermissionDenied];
        assert!(kinds.contains(&error.kind()), "{name}: {error:?}");
    }
    let error = flash(None).await.unwrap_err();
    assert!(error.hint().unwrap().contains("name a file in"), "{error:?}");
    bench.assert_untouched();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
    flash(Some("disk")).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
    let missing = flasher.dump(ImageSink::path(bench.path("x")), Some("root.img".into())).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn targets_are_listed() {
    let bench = Bench::new();
    let folder = bench.path("partitions");
    std::fs::create_dir(&folder).unwrap();
    for name in ["root.img", "boot.img", ".hidden"] {
        std::fs::write(folder.join(name), "old").unwrap();
    }
    std::os::unix::fs::symlink(bench.disk(), folder.join("link")).unwrap();
    let targets = async |config: serde_json::Value| {
        let targets = open::<FileFlasherConfig>(config).await.unwrap().targets().await.unwrap();
        let names: Vec<_> = targets.names().map(str::to_owned).collect();
        (names.join(" "), targets.known.first().and_then(|it| it.capacity_bytes))
    };
    let disk = bench.disk();
    let both = serde_json::json!({ "folder": folder, "targets": { "disk": disk } });
    assert_eq!(targets(both).await.0, "disk boot.img root.img");
    let limited = serde_json::json!({ "targets": { "disk": disk }, "flash_limit": "1M" });
    assert_eq!(targets(limited).await, ("disk".to_owned(), Some(1 << 20)));
    assert_eq!(targets(serde_json::json!({ "folder": bench.path("none") })).await.0, "");
    let Some(device) = crate::devices::Loop::new(&crate::devices::ones(&bench, 4)) else { return };
    let card = serde_json::json!({ "targets": { "card": device.path } });
    assert_eq!(targets(card).await, ("card".to_owned(), Some(4 << 20)));
}

#[tokio::test]
async fn through_a_device() {
    let device = Device::of_driver(open::<MockFlasherConfig>(serde_json::json!({})).await.unwrap());
    let bench = Bench::new();
    let flasher = device.get::<dyn Flasher>("").unwrap();
    flasher.flash(ImageSource::bytes("new"), None).await.unwrap();
    flasher.dump(ImageSink::path(bench.disk()), None).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
    device.close().await.unwrap();
}

#[test]
fn a_file_flasher_needs_a_file() {
    let config: FileFlasherConfig = serde_json::from_value(serde_json::json!({})).unwrap();
    assert_eq!(config.check().len(), 1);
    assert!(
        serde_json::from_value::<FileFlasherConfig>(serde_json::json!({ "pth": "x" })).is_err()
    );
}
