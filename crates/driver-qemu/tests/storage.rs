//! Flashing, dumping and what becomes of the guest's writes.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{ask, can_run, pico_machine};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_qemu::{
    DiskFormat, Machine, Phase, Qemu, QemuConfig, QemuImage, RootWrites, Save, StopOutcome, Vm,
};
use jumpstarter_driver_testkit::guest::qemu_img_available;
use jumpstarter_driver_testkit::pico;
use jumpstarter_supervise::{Command, run_blocking};

/// Writes in the guest, cuts the power, and returns what the guest reads after the next power-on.
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
        let (kept, image) =
            written_then_read(|config| config.root_writes = RootWrites::Persist).await;
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
    let refused = dump().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.report().contains("is running"), "{refused:?}");
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
    insta::assert_snapshot!(nowhere.report(), @r"
    there is no partition `roots`
    hint: did you mean `root`? There are `root`, `bios`, `OVMF_CODE.fd` and `OVMF_VARS.fd`
    ");
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

/// In a separate process, because the temporary folder is process-wide.
#[test]
fn images_stay_in_a_temporary_folder_that_is_too_long_for_sockets() {
    const INNER: &str = "JUMPSTARTER_QEMU_INNER";
    let own = "images_stay_in_a_temporary_folder_that_is_too_long_for_sockets";
    if std::env::var_os(INNER).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(with_a_long_temporary_folder());
    }
    if !can_run() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let long = place.path().join("x".repeat(100));
    let abandoned = long.join("jmp-qemu-killed");
    std::fs::create_dir_all(&abandoned).unwrap();
    std::fs::write(abandoned.join("lock"), "").unwrap();
    std::fs::write(abandoned.join("flashed-root"), "").unwrap();
    let command = Command::new(std::env::current_exe().unwrap())
        .args([own, "--exact", "--nocapture"])
        .env(INNER, "1")
        .env("TMPDIR", &long)
        .env("XDG_RUNTIME_DIR", place.path());
    let output = run_blocking(command, 4 * common::SOON).unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(
        std::fs::read_dir(long).unwrap().count(),
        0,
        "it is removed, and so is what was abandoned"
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
}

async fn with_a_long_temporary_folder() {
    let mut config = common::config("");
    config.default_partitions.root = None;
    let vm = Vm::create("long", config).await.unwrap();
    let device = Device::of_driver(Qemu::new(vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    flasher.flash(ImageSource::bytes(pico::image()), None).await.unwrap();
    vm.start().await.unwrap();
    let folders: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [folder] = &folders[..] else { panic!("{folders:?}") };
    assert!(folder.join("flashed-root").exists() && folder.join("root-overlay.qcow2").exists());
    let sockets = vm.vnc_path();
    assert!(sockets.exists() && !sockets.starts_with(std::env::temp_dir()));
    let mut console = jumpstarter_console::Console::new(vm.open_console().unwrap());
    common::log_in(&mut console).await;
    device.close().await.unwrap();
    assert!(!sockets.exists());
}

/// What a guest can write to its raw disk: the header of an image over a file of the host.
#[tokio::test]
async fn a_raw_disk_stays_raw_over_a_restart_whatever_the_guest_wrote() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.root_writes = RootWrites::Persist).await;
    if rustix::fs::setxattr(&fixture.image, "user.test", b"x", rustix::fs::XattrFlags::empty())
        .is_err()
    {
        return jumpstarter_driver_testkit::skip("this file system keeps no attributes");
    }
    fixture.vm.start().await.unwrap();
    fixture.logged_in().await;
    fixture.vm.destroy().await.unwrap();
    let secret = fixture.image.with_extension("secret");
    std::fs::write(&secret, vec![7; 64 << 10]).unwrap();
    let evil = fixture.image.with_extension("evil");
    QemuImage::with_format(secret, DiskFormat::Raw).overlay(&evil, None).await.unwrap();
    // Over the old contents, as the guest writes: the file stays the same one.
    let header = std::fs::read(&evil).unwrap();
    let disk = std::fs::File::options().write(true).open(&fixture.image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&disk, &header[..512], 0).unwrap();

    for writes in [RootWrites::Persist, RootWrites::Overlay] {
        let mut config = common::config(&fixture.image);
        config.root_writes = writes;
        let vm = Vm::create("again", config).await.unwrap();
        vm.start().await.unwrap();
        vm.cut().await.unwrap();
        let device = Device::of_driver(Qemu::new(vm));
        let path = fixture.image.with_extension("dump");
        device
            .get::<dyn Flasher>("flasher")
            .unwrap()
            .dump(ImageSink::path(&path), None)
            .await
            .unwrap();
        let dumped = std::fs::read(&path).unwrap();
        assert!(
            dumped.starts_with(b"QFI\xfb") && dumped.len() == pico::image().len(),
            "{writes:?}"
        );
        device.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_block_device_is_a_disk_by_its_descriptor() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("pico.img");
    pico::write_to(&image).unwrap();
    let losetup = Command::new("losetup").args(["--find", "--show"]).arg(&image);
    let device = match run_blocking(losetup, common::SOON) {
        Ok(output) => output.stdout_text().trim().to_owned(),
        Err(error) => return jumpstarter_driver_testkit::skip(&format!("no loop device: {error}")),
    };
    let outcome = async {
        let mut config = common::config(&device);
        config.root_writes = RootWrites::Persist;
        let vm = Vm::create("device", config).await?;
        vm.start().await?;
        let mut console = jumpstarter_console::Console::new(vm.open_console()?);
        common::log_in(&mut console).await;
        ask(&mut console, &pico::command::write(40, "kept"), "wrote sector 40").await;
        vm.destroy().await
    };
    let outcome = tokio::time::timeout(4 * common::SOON, outcome).await;
    run_blocking(Command::new("losetup").args(["--detach", &device]), common::SOON).unwrap();
    outcome.unwrap().unwrap();
    assert_eq!(&std::fs::read(&image).unwrap()[40 * 512..40 * 512 + 4], b"kept");
}

/// Pico's image in another format.
async fn converted(fixture: &common::Fixture, format: DiskFormat) -> std::path::PathBuf {
    let path = fixture.image.with_extension(format.name());
    let save = Save::new(format);
    QemuImage::with_format(&fixture.image, DiskFormat::Raw)
        .save(&path, save, common::SOON)
        .await
        .unwrap();
    path
}

/// Flashes an image of that format, lets the guest see a larger disk and write to it, and dumps
/// what comes of it.
async fn flashed_grown_dumped(format: DiskFormat, writes: RootWrites) {
    let fixture = pico_machine(|config| {
        config.default_partitions.root = None;
        config.root_writes = writes;
    })
    .await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let image = converted(&fixture, format).await;
    flasher.flash(ImageSource::path(&image), None).await.unwrap();
    device.call("", "set_disk_size", vec!["1M".into()]).await.unwrap();
    let started = fixture.vm.start().await;
    if (format, writes) == (DiskFormat::Vmdk, RootWrites::Persist) {
        // QEMU cannot.
        let error = started.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.report().contains("cannot be resized"), "{error:?}");
        device.close().await.unwrap();
        return;
    }
    started.unwrap();
    let mut console = fixture.logged_in().await;
    ask(&mut console, "disk", "disk 2048 sectors").await;
    ask(&mut console, &pico::command::write(40, "written"), "wrote sector 40").await;
    fixture.vm.stop().await.unwrap();

    let path = fixture.image.with_extension("dump");
    flasher.dump(ImageSink::path(&path), None).await.unwrap();
    let mut expected = pico::image().to_vec();
    expected[40 * 512..40 * 512 + 7].copy_from_slice(b"written");
    expected.resize(1 << 20, 0);
    assert!(std::fs::read(&path).unwrap() == expected, "{format} {writes:?}");
    device.close().await.unwrap();
}

#[tokio::test]
async fn qcow2_and_vmdk_are_flashed_grown_and_dumped() {
    if !can_run() || !qemu_img_available() {
        return;
    }
    for format in [DiskFormat::Qcow2, DiskFormat::Vmdk] {
        for writes in [RootWrites::Overlay, RootWrites::Persist] {
            flashed_grown_dumped(format, writes).await;
        }
    }
}

#[tokio::test]
async fn a_dump_shows_persisted_writes_and_no_discarded_ones() {
    if !can_run() {
        return;
    }
    for (writes, kept) in [(RootWrites::Discard, false), (RootWrites::Persist, true)] {
        let fixture = pico_machine(|config| config.root_writes = writes).await;
        let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
        fixture.vm.start().await.unwrap();
        let mut console = fixture.logged_in().await;
        ask(&mut console, &pico::command::write(40, "kept"), "wrote sector 40").await;
        fixture.vm.cut().await.unwrap();
        let path = fixture.image.with_extension("dump");
        let flasher = device.get::<dyn Flasher>("flasher").unwrap();
        flasher.dump(ImageSink::path(&path), None).await.unwrap();
        let mut expected = pico::image().to_vec();
        if kept {
            expected[40 * 512..40 * 512 + 4].copy_from_slice(b"kept");
        }
        assert!(std::fs::read(&path).unwrap() == expected, "{writes:?}");
    }
}

#[tokio::test]
async fn bios_and_variables_are_flashed_used_and_dumped() {
    if !can_run() {
        return;
    }
    // The machine is paused from the start: any firmware will do.
    let fixture = pico_machine(|config| config.extra_args = vec!["-S".to_owned()]).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let dump = async |partition: &str| {
        let path = fixture.image.with_extension("dump");
        let dumped = flasher.dump(ImageSink::path(&path), Some(partition.to_owned())).await;
        dumped.map(|()| std::fs::read(path).unwrap())
    };
    let flash = async |partition: &str, byte: u8, length: usize| {
        let source = ImageSource::bytes(vec![byte; length]);
        flasher.flash(source, Some(partition.to_owned())).await.unwrap();
    };
    for partition in ["bios", "OVMF_CODE.fd", "OVMF_VARS.fd"] {
        let nothing = dump(partition).await.unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::FailedPrecondition);
        assert!(nothing.report().contains(&format!("no image in `{partition}`")), "{nothing:?}");
    }
    flash("bios", 1, 64 << 10).await;
    fixture.vm.start().await.unwrap();
    fixture.vm.cut().await.unwrap();
    assert!(dump("bios").await.unwrap() == vec![1; 64 << 10]);

    flash("OVMF_CODE.fd", 2, 1 << 20).await;
    flash("OVMF_VARS.fd", 3, 256 << 10).await;
    assert!(dump("OVMF_VARS.fd").await.unwrap() == vec![3; 256 << 10]);
    fixture.vm.start().await.unwrap();
    fixture.vm.cut().await.unwrap();
    // Now by way of the overlay, which takes the guest's writes.
    assert!(dump("OVMF_VARS.fd").await.unwrap() == vec![3; 256 << 10]);
    assert!(dump("OVMF_CODE.fd").await.unwrap() == vec![2; 1 << 20]);
}

/// A source that never ends; and whether somebody has begun to read it.
fn endless() -> (ImageSource, tokio::sync::oneshot::Receiver<()>) {
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let stream = futures_util::stream::poll_fn(move |_| {
        if let Some(begun) = begun.take() {
            begun.send(()).unwrap();
        }
        std::task::Poll::Pending
    });
    (ImageSource::stream(stream, Some(1 << 20)), has_begun)
}

#[tokio::test]
async fn a_flash_that_takes_too_long_ends_and_the_old_image_stays() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|config| config.flash_timeout = Span::milliseconds(200)).await;
    let device = Device::of_driver(Qemu::new(fixture.vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let late = flasher.flash(endless().0, None).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
    assert!(late.report().contains("200 ms\nhint: raise `flash_timeout`"), "{late:?}");
    fixture.vm.start().await.unwrap();
    fixture.logged_in().await;
}

#[tokio::test]
async fn off_does_not_wait_for_a_flash_and_destroy_ends_it() {
    if !can_run() {
        return;
    }
    let fixture = pico_machine(|_| {}).await;
    let vm = fixture.vm.clone();
    let device = Device::of_driver(Qemu::new(vm.clone()));
    let flasher = device.get::<dyn Flasher>("flasher").unwrap();
    let (source, has_begun) = endless();
    let flashing = tokio::spawn(async move { flasher.flash(source, None).await });
    has_begun.await.unwrap();
    let quick = async {
        assert_eq!(vm.cut().await.unwrap(), StopOutcome::AlreadyOff);
        assert_eq!(vm.stop().await.unwrap(), StopOutcome::AlreadyOff);
        device.get::<dyn Power>("power").unwrap().off().await.unwrap();
        assert!(!flashing.is_finished());
        device.close().await.unwrap();
        let ended = flashing.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::FailedPrecondition);
        assert!(ended.report().contains("is destroyed"), "{ended:?}");
    };
    tokio::time::timeout(common::SOON, quick).await.unwrap();
    let refused = vm.wait_for(Phase::Running, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(vm.events().await.is_err());
    assert_eq!(vm.stop().await.unwrap(), StopOutcome::AlreadyOff);
}
