//! The disks that the machine boots from; no test here runs QEMU.

use jumpstarter_driver_testkit::guest::qemu_img_available;

use super::*;
use crate::config::RootWrites;
use crate::disk::write_qcow2;
use crate::host::{Accelerator, AcceleratorKind, Place, QemuVersion, Sandbox, Vsock};

fn facts(target: Architecture) -> HostFacts {
    HostFacts {
        host: Some(target),
        target,
        binary: "/usr/bin/qemu".into(),
        version: QemuVersion::new(7, 2, 0),
        accelerator: Accelerator { kind: AcceleratorKind::Tcg, reason: "for the test".into() },
        vsock: Vsock::Unusable("for the test".into()),
        sandbox: Sandbox::Usable,
        firmware: None,
        place: Place::Here,
    }
}

/// A storage in a folder, beside which there is room for configured files.
fn storage() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("machine")).unwrap();
    let storage = Storage::new(&folder.path().join("machine"), &Place::Here);
    (folder, storage)
}

async fn flash(storage: &Storage, source: ImageSource, partition: Partition) -> Result<()> {
    // A BIOS may have any size on aarch64, where the first test needs it.
    let target =
        if partition == Partition::Bios { Architecture::Aarch64 } else { Architecture::X86_64 };
    storage.flash(source, partition, &QemuConfig::default(), target).await
}

/// The image that the guest writes to.
fn top(disk: &Disk) -> QemuImage {
    disk.layers[0].image.clone()
}

fn with_root(path: &Path) -> QemuConfig {
    let mut config = QemuConfig::default();
    config.default_partitions.root = Some(path.into());
    config
}

async fn dumped(storage: &Storage, partition: Partition, config: &QemuConfig) -> Result<Vec<u8>> {
    let path = storage.0.folder.join("../dump");
    storage.dump(ImageSink::path(&path), partition, config).await?;
    Ok(std::fs::read(path).unwrap())
}

#[tokio::test]
async fn a_bios_is_used_on_aarch64_too_and_needs_no_uefi() {
    let (folder, storage) = storage();
    let (mut config, facts) = (QemuConfig::default(), facts(Architecture::Aarch64));
    let error = storage.prepare(&config, &facts).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(error.hint().unwrap().contains("qemu-efi-aarch64"), "{error:?}");

    let bios = folder.path().join("bios");
    std::fs::write(&bios, "configured").unwrap();
    config.default_partitions.bios = Some(bios.clone().into());
    let Boot::Bios(used) = storage.prepare(&config, &facts).await.unwrap().boot else {
        panic!("no BIOS")
    };
    assert_eq!(used, bios);
    flash(&storage, ImageSource::bytes("flashed"), Partition::Bios).await.unwrap();
    let Boot::Bios(used) = storage.prepare(&config, &facts).await.unwrap().boot else {
        panic!("no BIOS")
    };
    assert_eq!(std::fs::read(used).unwrap(), b"flashed");
    assert_eq!(dumped(&storage, Partition::Bios, &config).await.unwrap(), b"flashed");
}

#[tokio::test]
async fn firmware_is_raw_or_qcow2_and_its_variables_follow_it() {
    let (folder, storage) = storage();
    let (config, facts) = (QemuConfig::default(), facts(Architecture::X86_64));
    let image = folder.path().join("firmware.qcow2");
    QemuImage::create(&image, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    flash(&storage, ImageSource::path(&image), Partition::OvmfCode).await.unwrap();
    flash(&storage, ImageSource::bytes(vec![1; 4096]), Partition::OvmfVars).await.unwrap();
    let formats = async || match storage.prepare(&config, &facts).await.unwrap().boot {
        Boot::Uefi { code, vars } => (top(&code).format(), top(&vars.unwrap())),
        other => panic!("{other:?}"),
    };
    let (code, vars) = formats().await;
    assert_eq!((code, vars.format()), (DiskFormat::Qcow2, DiskFormat::Qcow2));
    assert_eq!(vars.virtual_size().await.unwrap(), 4096);

    // The overlay stays for the next power-on, and goes with the next flash.
    let made = std::fs::metadata(vars.path()).unwrap().ino();
    let (_, vars) = formats().await;
    assert_eq!(std::fs::metadata(vars.path()).unwrap().ino(), made);
    flash(&storage, ImageSource::path(&image), Partition::OvmfVars).await.unwrap();
    let (_, vars) = formats().await;
    assert_eq!(vars.virtual_size().await.unwrap(), 1 << 20);

    let over = folder.path().join("over.qcow2");
    QemuImage::open(&image, References::Refuse).unwrap().overlay(&over, None).await.unwrap();
    let refused = flash(&storage, ImageSource::path(&over), Partition::OvmfCode).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn a_changed_root_file_is_looked_at_anew() {
    if !qemu_img_available() {
        return;
    }
    let (folder, storage) = storage();
    let facts = facts(Architecture::X86_64);
    let path = folder.path().join("root");
    let config = with_root(&path);
    std::fs::write(&path, vec![1; 4096]).unwrap();
    let first = storage.prepare(&config, &facts).await.unwrap().root.as_ref().map(top).unwrap();
    assert_eq!(first.virtual_size().await.unwrap(), 4096);
    assert_eq!(dumped(&storage, Partition::Root, &with_root(&path)).await.unwrap(), vec![1; 4096]);

    // Another image, of another format, in its place.
    std::fs::remove_file(&path).unwrap();
    QemuImage::create(&path, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    assert_eq!(storage.root(&config).unwrap().unwrap().format(), DiskFormat::Qcow2);
    let second = storage.prepare(&config, &facts).await.unwrap().root.as_ref().map(top).unwrap();
    assert_eq!(second.virtual_size().await.unwrap(), 1 << 20);

    // A dump does not show the guest's writes to the old image.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![2; 8192]).unwrap();
    assert_eq!(dumped(&storage, Partition::Root, &config).await.unwrap(), vec![2; 8192]);
}

#[tokio::test]
async fn a_guest_that_writes_to_its_image_does_not_choose_the_format() {
    let (folder, storage) = storage();
    let path = folder.path().join("root");
    let config = QemuConfig { root_writes: RootWrites::Persist, ..with_root(&path) };
    std::fs::write(&path, vec![0; 4096]).unwrap();
    assert_eq!(storage.root(&config).unwrap().unwrap().format(), DiskFormat::Raw);
    // A header that a guest can write to its first sectors.
    let evil = folder.path().join("evil");
    QemuImage::create(&evil, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    std::fs::write(&path, std::fs::read(&evil).unwrap()).unwrap();
    assert_eq!(storage.root(&config).unwrap().unwrap().format(), DiskFormat::Raw);
}

#[tokio::test]
async fn what_refers_to_the_hosts_files_is_refused_and_the_old_image_stays() {
    let (folder, storage) = storage();
    let config = QemuConfig::default();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    flash(&storage, ImageSource::bytes(vec![1; 4096]), Partition::Root).await.unwrap();
    // QEMU reads the contents of a VMDK without a capacity from the files that its text names.
    let mut vmdk = vec![0; 65536];
    vmdk[..8].copy_from_slice(b"KDMV\x01\0\0\0");
    vmdk[28] = 1;
    let text = format!(
        "# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"{}\" 0\n",
        secret.display()
    );
    vmdk[512..512 + text.len()].copy_from_slice(text.as_bytes());
    let refused = flash(&storage, ImageSource::bytes(vmdk), Partition::Root).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.report().contains("`qemu-img convert -f vmdk -O qcow2"), "{refused:?}");
    assert_eq!(dumped(&storage, Partition::Root, &config).await.unwrap(), vec![1; 4096]);
    let names: Vec<_> = std::fs::read_dir(&storage.0.folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["flashed-root"]);
}

#[tokio::test]
async fn a_fixed_vhd_keeps_its_last_bytes_whoever_made_it() {
    if !qemu_img_available() {
        return;
    }
    let (folder, storage) = storage();
    // 21 cylinders of 16 heads and 63 sectors, and 10,752 bytes: a size that no geometry has.
    let size = 21 * 16 * 63 * 512 + 10_752_usize;
    let plain: Vec<u8> = (0..size).map(|at| (at / 512) as u8 | 1).collect();
    let raw = folder.path().join("plain");
    std::fs::write(&raw, &plain).unwrap();
    let vhd = folder.path().join("fixed.vhd");
    let arguments = ["convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on"];
    let command =
        jumpstarter_supervise::Command::new("qemu-img").args(arguments).arg(&raw).arg(&vhd);
    jumpstarter_supervise::run(command, Duration::from_secs(60)).await.unwrap();
    let mut image = std::fs::read(&vhd).unwrap();
    // With VirtualBox's signature, and the geometry for that size.
    let footer = image.len() - 512;
    image[footer + 28..footer + 32].copy_from_slice(b"vbox");
    image[footer + 56..footer + 60].copy_from_slice(&[0, 21, 16, 63]);
    image[footer + 64..footer + 68].fill(0);
    let sum = image[footer..].iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
    image[footer + 64..footer + 68].copy_from_slice(&(!sum).to_be_bytes());
    flash(&storage, ImageSource::bytes(image), Partition::Root).await.unwrap();
    let facts = facts(Architecture::X86_64);
    let root = storage.prepare(&QemuConfig::default(), &facts).await.unwrap().root.unwrap();
    assert_eq!(top(&root).virtual_size().await.unwrap(), size as u64);
    assert!(dumped(&storage, Partition::Root, &QemuConfig::default()).await.unwrap() == plain);
}

#[tokio::test]
async fn what_qemu_cannot_open_is_refused_when_it_arrives() {
    if !qemu_img_available() {
        return;
    }
    let (folder, storage) = storage();
    let image = folder.path().join("image");
    write_qcow2(&image, 1 << 20, None).unwrap();
    let mut bytes = std::fs::read(&image).unwrap();
    // The first-level table lies outside of what QEMU accepts.
    bytes[40..48].fill(0xff);
    let refused = flash(&storage, ImageSource::bytes(bytes), Partition::Root).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::FailedPrecondition);
    assert!(refused.report().contains("QEMU does not open the qcow2 image"), "{refused:?}");
    let mut encrypted = std::fs::read(&image).unwrap();
    encrypted[35] = 2;
    let refused =
        flash(&storage, ImageSource::bytes(encrypted), Partition::Root).await.unwrap_err();
    assert!(refused.report().contains("encrypted") && refused.hint().is_some(), "{refused:?}");
}

#[tokio::test]
async fn an_overlay_is_never_shown_over_another_image() {
    if !qemu_img_available() {
        return;
    }
    let (folder, storage) = storage();
    let (config, facts) = (QemuConfig::default(), facts(Architecture::X86_64));
    flash(&storage, ImageSource::bytes(vec![1; 4096]), Partition::Root).await.unwrap();
    let disks = storage.prepare(&config, &facts).await.unwrap();
    let overlay = top(&disks.root.unwrap()).path().to_owned();
    // The guest's writes.
    let command = jumpstarter_supervise::Command::new("qemu-io");
    let command = command.args(["-f", "qcow2", "-c", "write -P 9 0 512"]).arg(&overlay);
    jumpstarter_supervise::run(command, Duration::from_secs(60)).await.unwrap();
    assert!(dumped(&storage, Partition::Root, &config).await.unwrap().starts_with(&[9; 512]));
    let (kept, then) = lock(&storage.0.known).overlay.clone().unwrap();

    // The overlay cannot be removed, as on a failing file system: a folder is at its path. That is
    // not a failure of the flash.
    let aside = folder.path().join("aside");
    std::fs::rename(&overlay, &aside).unwrap();
    std::fs::create_dir(&overlay).unwrap();
    flash(&storage, ImageSource::bytes(vec![2; 4096]), Partition::Root).await.unwrap();
    assert_eq!(dumped(&storage, Partition::Root, &config).await.unwrap(), vec![2; 4096]);
    std::fs::remove_dir(&overlay).unwrap();

    // The flash was cancelled right after the new image took its place: nothing was forgotten yet.
    std::fs::rename(&aside, &overlay).unwrap();
    lock(&storage.0.known).overlay = Some((kept, then));
    assert_eq!(dumped(&storage, Partition::Root, &config).await.unwrap(), vec![2; 4096]);
    storage.prepare(&config, &facts).await.unwrap();
    assert_eq!(dumped(&storage, Partition::Root, &config).await.unwrap(), vec![2; 4096]);
}

#[tokio::test]
async fn a_disk_becomes_smaller_again_where_the_guest_wrote_nothing() {
    if !qemu_img_available() {
        return;
    }
    let (_folder, storage) = storage();
    let facts = facts(Architecture::X86_64);
    flash(&storage, ImageSource::bytes(vec![1; 4096]), Partition::Root).await.unwrap();
    let sized =
        |size: u64| QemuConfig { disk_size: Some(ByteSize::bytes(size)), ..QemuConfig::default() };
    let size = async |wanted: u64| {
        let disks = storage.prepare(&sized(wanted), &facts).await?;
        top(&disks.root.unwrap()).virtual_size().await
    };
    assert_eq!(size(10 << 40).await.unwrap(), 10 << 40);
    assert_eq!(size(1 << 20).await.unwrap(), 1 << 20, "a slip is taken back");
    let overlay =
        QemuImage::with_format(storage.0.folder.join("root-overlay.qcow2"), DiskFormat::Qcow2);
    overlay.check(Duration::from_secs(60)).await.unwrap();
    assert_eq!(size(8 << 20).await.unwrap(), 8 << 20);
    let error = size(512).await.unwrap_err();
    assert!(error.report().contains("512 B is less than the root image's 4 KiB"), "{error:?}");
    let command = jumpstarter_supervise::Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", "write 4M 64k"])
        .arg(overlay.path());
    jumpstarter_supervise::run(command, Duration::from_secs(60)).await.unwrap();
    assert_eq!(size(6 << 20).await.unwrap(), 6 << 20);
    let error = size(2 << 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    overlay.check(Duration::from_secs(60)).await.unwrap();
    assert!(
        error.report().contains("up to which the guest has written")
            && error.report().contains("flash the image again"),
        "{error:?}"
    );
}

#[tokio::test]
async fn firmware_that_is_no_pair_is_refused_at_power_on_with_both_names() {
    let (folder, storage) = storage();
    let volume = |kind: [u8; 2], length: usize| {
        let mut volume = vec![0xff; length];
        volume[..0x28].fill(0);
        volume[0x10..0x12].copy_from_slice(&kind);
        if kind == [0x8d, 0x2b] {
            volume[0x10..0x20].copy_from_slice(
                b"\x8d\x2b\xf1\xff\x96\x76\x8b\x4c\xa9\x85\x27\x47\x07\x5b\x4f\x50",
            );
        }
        volume[0x28..0x2c].copy_from_slice(b"_FVH");
        ImageSource::bytes(volume)
    };
    let (config, facts) = (QemuConfig::default(), facts(Architecture::X86_64));
    flash(&storage, volume([0x78, 0xe5], 3_653_632), Partition::OvmfCode).await.unwrap();
    flash(&storage, volume([0x8d, 0x2b], 131_072), Partition::OvmfVars).await.unwrap();
    let error = storage.prepare(&config, &facts).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error.report().contains("flashed-OVMF_CODE.fd")
            && error.report().contains("flashed-OVMF_VARS.fd"),
        "{error:?}"
    );
    flash(&storage, volume([0x8d, 0x2b], 540_672), Partition::OvmfVars).await.unwrap();
    storage.prepare(&config, &facts).await.unwrap();
    let odd =
        flash(&storage, volume([0x78, 0xe5], 1_966_081), Partition::OvmfCode).await.unwrap_err();
    assert_eq!(odd.kind(), ErrorKind::InvalidArgument);
    storage.prepare(&config, &facts).await.unwrap();
    // A configured pair is checked, too.
    let file = folder.path().join("odd.fd");
    std::fs::write(&file, vec![0; 4097]).unwrap();
    let (_other, storage) = self::storage();
    let mut config = QemuConfig::default();
    config.default_partitions.ovmf_code = Some(file.into());
    let odd = storage.prepare(&config, &facts).await.unwrap_err();
    assert!(
        odd.report().contains("odd.fd") && odd.report().contains("multiple of 4 KiB"),
        "{odd:?}"
    );
}

#[tokio::test]
async fn compressed_defaults_are_refused_when_the_machine_is_made() {
    let (folder, storage) = storage();
    let path = folder.path().join("root.img.xz");
    std::fs::write(&path, b"\xfd7zXZ\0\0\x04 and so on").unwrap();
    let error = storage.inspect_defaults(&with_root(&path)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.report().contains("default_partitions.root") && error.report().contains("xz"),
        "{error:?}"
    );
}

/// A file operation that does not return delays the machine's other file work, and nothing else.
#[tokio::test]
async fn a_file_system_that_hangs_holds_up_no_thread_of_the_runtime() {
    let (_folder, storage) = storage();
    let (resume, hang) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let hanging = storage.clone();
    let first = tokio::spawn(async move {
        let work = async move {
            begun.send(()).unwrap();
            hang.recv_timeout(Duration::from_secs(60)).unwrap();
            Ok(())
        };
        hanging.alone(work).await
    });
    // On the one thread of this runtime.
    has_begun.await.unwrap();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled(), "giving it up waits for nothing");
    let facts = facts(Architecture::X86_64);
    let error = storage.prepare(&QemuConfig::default(), &facts).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.report().contains("file system"), "{error:?}");
    resume.send(()).unwrap();
    let mut prepared = storage.prepare(&QemuConfig::default(), &facts).await;
    for _ in 0..100 {
        if prepared.is_ok() {
            break;
        }
        prepared = storage.prepare(&QemuConfig::default(), &facts).await;
    }
    prepared.unwrap();
}
