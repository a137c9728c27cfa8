//! Flashing, dumping and what becomes of the guest's writes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{ask, can_run, pico_machine};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{Machine, Qemu, QemuConfig, RootWrites};
use jumpstarter_driver_testkit::pico;

/// Writes in the guest, cuts the power, and tells what the guest reads after the next power-on.
async fn written_then_read(change: impl FnOnce(&mut QemuConfig)) -> (bool, Vec<u8>) {
    let fixture = pico_machine(change).await;
    fixture.vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, &pico::command::write(40, "kept"), "wrote sector 40").await;
    fixture.vm.cut().await.unwrap();
    fixture.vm.start().await.unwrap();
    common::log_in(&mut console).await;
    console.send_line(pico::command::read(40)).await.unwrap();
    let answer = console.wait_for_regex(r"sector 40: ?(.*)\r\n", common::SOON).await.unwrap();
    let kept = answer.group(1).as_deref() == Some("kept");
    fixture.vm.stop().await.unwrap();
    (kept, std::fs::read(&fixture.image).unwrap())
}

#[tokio::test]
async fn an_overlay_keeps_the_guests_writes_and_the_image_stays() {
    if can_run() {
        assert_eq!(written_then_read(|_| {}).await, (true, pico::image().to_vec()));
    }
}

#[tokio::test]
async fn discarded_writes_are_gone_and_the_image_stays() {
    if can_run() {
        let discard = written_then_read(|config| config.root_writes = RootWrites::Discard).await;
        assert_eq!(discard, (false, pico::image().to_vec()));
    }
}

#[tokio::test]
async fn persisted_writes_are_in_the_image() {
    if can_run() {
        let (kept, image) = written_then_read(|config| config.root_writes = RootWrites::Persist).await;
        assert!(kept);
        assert_eq!(&image[40 * 512..40 * 512 + 4], b"kept");
    }
}

#[tokio::test]
async fn flash_boot_dump() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.default_partitions.root = None).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let dump = async || {
        let path = fixture.image.with_extension("dump");
        let dumped = flasher.dump(ImageSink::path(&path), None).await;
        dumped.map(|()| std::fs::read(path).unwrap())
    };
    assert_eq!(dump().await.unwrap_err().kind(), ErrorKind::FailedPrecondition);
    flasher.flash(ImageSource::bytes(pico::image()), None).await.unwrap();
    assert_eq!(dump().await.unwrap(), pico::image());

    fixture.vm.start().await.unwrap();
    let refused = flasher.flash(ImageSource::bytes(pico::image()), None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    let mut console = fixture.logged_in().await;
    ask(&mut console, &pico::command::digest(1024), &pico::digest_line(pico::image())).await;
    ask(&mut console, &pico::command::write(40, "written"), "wrote sector 40").await;
    fixture.vm.stop().await.unwrap();

    let mut expected = pico::image().to_vec();
    expected[40 * 512..40 * 512 + 7].copy_from_slice(b"written");
    assert_eq!(dump().await.unwrap(), expected);

    let wrong = ImageSource::bytes(vec![7; 4096]).expect_sha256("0".repeat(64)).unwrap();
    assert_eq!(flasher.flash(wrong, None).await.unwrap_err().kind(), ErrorKind::DataLoss);
    assert_eq!(dump().await.unwrap(), expected);

    flasher.flash(ImageSource::path(&fixture.image), Some("root".into())).await.unwrap();
    assert_eq!(dump().await.unwrap(), pico::image());
    let nowhere = flasher.flash(ImageSource::bytes("x"), Some("roots".into())).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::InvalidArgument);
    assert!(nowhere.report().contains("did you mean `root`?"), "{nowhere:?}");
}

#[tokio::test]
async fn the_disk_grows_and_does_not_shrink() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    device.call("", "set_disk_size", vec!["1M".into()]).await.unwrap();
    device.call("", "set_memory_size", vec!["32M".into()]).await.unwrap();
    fixture.vm.start().await.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, "disk", "disk 2048 sectors").await;
    ask(&mut console, "mem", "mem 32 MiB").await;
    fixture.vm.cut().await.unwrap();
    device.call("", "set_disk_size", vec!["2M".into()]).await.unwrap();
    fixture.vm.start().await.unwrap();
    common::log_in(&mut console).await;
    ask(&mut console, "disk", "disk 4096 sectors").await;
    fixture.vm.cut().await.unwrap();
    device.call("", "set_disk_size", vec!["100K".into()]).await.unwrap();
    let error = fixture.vm.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.report().contains("less than the root image's 512 KiB"), "{error:?}");
}
