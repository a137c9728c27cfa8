//! What the machine is given to boot from; nothing here runs QEMU.

use jumpstarter_driver_testkit::guest::qemu_img_available;

use super::*;
use crate::host::{Accelerator, AcceleratorKind, QemuVersion, Vsock};

fn facts(target: Architecture) -> HostFacts {
    HostFacts {
        host: Some(target),
        target,
        binary: "/usr/bin/qemu".into(),
        version: QemuVersion::new(7, 2, 0),
        accelerator: Accelerator { kind: AcceleratorKind::Tcg, reason: "for the test".into() },
        vsock: Vsock::Unusable("for the test".into()),
        firmware: None,
    }
}

/// A storage in a folder, beside which there is room for configured files.
fn storage() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("machine")).unwrap();
    let storage = Storage::new(&folder.path().join("machine"));
    (folder, storage)
}

fn with_root(path: &Path) -> QemuConfig {
    let mut config = QemuConfig::default();
    config.default_partitions.root = Some(path.into());
    config
}

async fn dumped(storage: &Storage, partition: Partition, config: &QemuConfig) -> Result<Vec<u8>> {
    let path = storage.folder.join("../dump");
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
    let Boot::Bios(used) = storage.prepare(&config, &facts).await.unwrap().boot else { panic!("no BIOS") };
    assert_eq!(used, bios);
    storage.flash(ImageSource::bytes("flashed"), Partition::Bios).await.unwrap();
    let Boot::Bios(used) = storage.prepare(&config, &facts).await.unwrap().boot else { panic!("no BIOS") };
    assert_eq!(std::fs::read(used).unwrap(), b"flashed");
    assert_eq!(dumped(&storage, Partition::Bios, &config).await.unwrap(), b"flashed");
}

#[tokio::test]
async fn firmware_is_raw_or_qcow2_and_its_variables_follow_it() {
    let (folder, storage) = storage();
    let (config, facts) = (QemuConfig::default(), facts(Architecture::X86_64));
    let image = folder.path().join("firmware.qcow2");
    QemuImage::create(&image, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    storage.flash(ImageSource::path(&image), Partition::OvmfCode).await.unwrap();
    storage.flash(ImageSource::bytes(vec![1; 4096]), Partition::OvmfVars).await.unwrap();
    let formats = async || match storage.prepare(&config, &facts).await.unwrap().boot {
        Boot::Uefi { code, vars } => (code.format(), vars.unwrap()),
        other => panic!("{other:?}"),
    };
    let (code, vars) = formats().await;
    assert_eq!((code, vars.format()), (DiskFormat::Qcow2, DiskFormat::Qcow2));
    assert_eq!(vars.virtual_size().await.unwrap(), 4096);

    // The overlay stays for the next power-on, and goes with the next flash.
    let made = std::fs::metadata(vars.path()).unwrap().ino();
    let (_, vars) = formats().await;
    assert_eq!(std::fs::metadata(vars.path()).unwrap().ino(), made);
    storage.flash(ImageSource::path(&image), Partition::OvmfVars).await.unwrap();
    let (_, vars) = formats().await;
    assert_eq!(vars.virtual_size().await.unwrap(), 1 << 20);

    let over = folder.path().join("over.qcow2");
    QemuImage::open(&image, References::Refuse).unwrap().overlay(&over, None).await.unwrap();
    let refused = storage.flash(ImageSource::path(&over), Partition::OvmfCode).await.unwrap_err();
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
    let first = storage.prepare(&config, &facts).await.unwrap().root.unwrap();
    assert_eq!(first.virtual_size().await.unwrap(), 4096);
    assert_eq!(dumped(&storage, Partition::Root, &with_root(&path)).await.unwrap(), vec![1; 4096]);

    // Another image, of another format, in its place.
    std::fs::remove_file(&path).unwrap();
    QemuImage::create(&path, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    assert_eq!(storage.root(&config).unwrap().unwrap().format(), DiskFormat::Qcow2);
    let second = storage.prepare(&config, &facts).await.unwrap().root.unwrap();
    assert_eq!(second.virtual_size().await.unwrap(), 1 << 20);

    // A dump does not show what the guest had written over the old one.
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
    // What a guest can write to its first sectors.
    let evil = folder.path().join("evil");
    QemuImage::create(&evil, DiskFormat::Qcow2, 1 << 20).await.unwrap();
    std::fs::write(&path, std::fs::read(&evil).unwrap()).unwrap();
    assert_eq!(storage.root(&config).unwrap().unwrap().format(), DiskFormat::Raw);
}

#[tokio::test]
async fn a_disk_does_not_shrink_below_what_the_guest_has_seen() {
    let (folder, storage) = storage();
    let facts = facts(Architecture::X86_64);
    let path = folder.path().join("root");
    std::fs::write(&path, vec![0; 4096]).unwrap();
    let sized = |size: u64| QemuConfig { disk_size: Some(ByteSize::bytes(size)), ..with_root(&path) };
    storage.prepare(&sized(1 << 20), &facts).await.unwrap();
    let error = storage.prepare(&sized(8192), &facts).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(
        error.report().contains("8 KiB is less than the size that the guest has seen, 1 MiB"),
        "{error:?}"
    );
    storage.prepare(&sized(1 << 20), &facts).await.unwrap();
    storage.flash(ImageSource::bytes(vec![3; 4096]), Partition::Root).await.unwrap();
    let root = storage.prepare(&sized(8192), &facts).await.unwrap().root.unwrap();
    assert_eq!(root.virtual_size().await.unwrap(), 8192);
}
