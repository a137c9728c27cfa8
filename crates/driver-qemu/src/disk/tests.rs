//! Images against the real qemu-img, and one in use by a real QEMU.

use std::fs;

use jumpstarter_driver_testkit::guest::{Arch, qemu_available, qemu_img_available};
use jumpstarter_supervise::{Command, StopPlan};

use super::*;

const MIB: u64 = 1 << 20;
const LONG: Duration = Duration::from_secs(120);

/// `text` at the start of a raw image of `size` bytes.
fn raw(folder: &Path, name: &str, size: u64, text: &[u8]) -> QemuImage {
    let path = folder.join(name);
    overlay::write_raw(&path, size).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &fs::File::options().write(true).open(&path).unwrap(),
        text,
        0,
    )
    .unwrap();
    QemuImage::with_format(path, DiskFormat::Raw)
}

#[tokio::test]
async fn every_format_is_created_and_recognised() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for format in DiskFormat::ALL {
        let path = folder.path().join(format.name());
        let image = QemuImage::create(&path, format, 5 * MIB).await.unwrap();
        assert_eq!(QemuImage::open(&path, References::Refuse).unwrap(), image);
        let info = image.info().await.unwrap();
        assert_eq!(info.format, format.name());
        assert!(info.virtual_size >= 5 * MIB, "{info:?}");
        assert_eq!(image.virtual_size().await.unwrap(), info.virtual_size);
        let error = QemuImage::create(&path, format, MIB).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
    }
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, DiskFormat::ALL.len(), "nothing else is left");
}

#[tokio::test]
async fn what_we_write_is_what_qemu_img_reads() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = raw(folder.path(), "base, with: a comma", 3 * MIB, b"hello");
    for (size, expected) in [
        (None, 3 * MIB),
        (Some(MIB), 3 * MIB),
        (Some(20 << 30), 20 << 30),
        (Some(9 << 40), 9 << 40),
    ] {
        let at = folder.path().join("overlay");
        let overlay = base.overlay(&at, size).await.unwrap();
        overlay.check(LONG).await.unwrap();
        let info = overlay.info().await.unwrap();
        assert_eq!(info.virtual_size, expected);
        assert_eq!(info.backing_filename.as_deref(), base.path().to_str());
        assert_eq!(info.backing_filename_format.as_deref(), Some("raw"));
        assert!(info.actual_size < MIB, "{info:?}");
        fs::remove_file(at).unwrap();
    }
    let over = base.overlay(folder.path().join("one"), Some(4 * MIB + 1)).await.unwrap();
    let over = over.overlay(folder.path().join("two"), None).await.unwrap();
    let saved = Save { format: DiskFormat::Raw, compressed: false };
    let flat = over.save(&folder.path().join("flat"), saved, LONG).await.unwrap();
    let bytes = fs::read(flat.path()).unwrap();
    assert_eq!((bytes.len() as u64, &bytes[..6]), (4 * MIB + 512, &b"hello\0"[..]));

    let empty = QemuImage::create(folder.path().join("empty"), DiskFormat::Qcow2, 0).await.unwrap();
    empty.check(LONG).await.unwrap();
    let error = write_qcow2(&folder.path().join("huge"), 3 << 50, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let far = Backing { path: "x".repeat(1024).into(), format: DiskFormat::Raw };
    assert_eq!(
        write_qcow2(&folder.path().join("far"), MIB, Some(&far)).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    assert!(!folder.path().join("huge").exists() && !folder.path().join("far").exists());
}

#[tokio::test]
async fn an_image_that_refers_to_the_hosts_files_is_refused() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, expected: &str| {
        let error = QemuImage::open(path, References::Refuse).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.report().contains(expected) && error.hint().is_some(), "{error:?}");
        QemuImage::open(path, References::Allow).unwrap()
    };
    // What a guest may write to its raw disk: the header of an image over a file of the host.
    let disk = raw(folder.path(), "disk", MIB, b"");
    let trap = folder.path().join("trap");
    let secret = Backing { path: "/etc/passwd".into(), format: DiskFormat::Raw };
    write_qcow2(&trap, MIB, Some(&secret)).unwrap();
    fs::write(disk.path(), fs::read(&trap).unwrap()).unwrap();
    assert_eq!(refused(disk.path(), "/etc/passwd").format(), DiskFormat::Qcow2);
    // A reader that knows the format sees the guest's bytes, and nothing of the host's.
    assert_eq!(disk.info().await.unwrap().format, "raw");
    let overlay = disk.overlay(folder.path().join("overlay"), None).await.unwrap();
    let saved = Save { format: DiskFormat::Raw, compressed: false };
    let flat = overlay.save(&folder.path().join("flat"), saved, LONG).await.unwrap();
    assert!(fs::read(flat.path()).unwrap().starts_with(b"QFI\xfb"));

    let descriptor = folder.path().join("descriptor");
    fs::write(&descriptor, "# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n")
        .unwrap();
    refused(&descriptor, "extents");
    let external = folder.path().join("external");
    let data = format!("data_file={}", folder.path().join("data").display());
    run(
        qemu_img("create", None).args(["-q", "-f", "qcow2", "-o", &data]).arg(&external).arg("1M"),
        LONG,
    )
    .await
    .unwrap();
    refused(&external, "external data file");
    let old = folder.path().join("old");
    let over = ["-q", "-f", "qcow", "-F", "raw", "-b", "/etc/passwd"];
    run(qemu_img("create", None).args(over).arg(&old), LONG).await.unwrap();
    refused(&old, "backing file");
}

#[tokio::test]
async fn sizes_change_and_nothing_is_cut_off_unasked() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = raw(folder.path(), "disk", 2 * MIB, b"x");
    let qcow2 =
        QemuImage::create(folder.path().join("qcow2"), DiskFormat::Qcow2, 2 * MIB).await.unwrap();
    for image in [&disk, &qcow2] {
        image.resize(4 * MIB, Shrink::Refuse).await.unwrap();
        assert_eq!(image.virtual_size().await.unwrap(), 4 * MIB);
        let error = image.resize(MIB, Shrink::Refuse).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(image.virtual_size().await.unwrap(), 4 * MIB);
    }
    assert_eq!(
        qcow2.resize(MIB, Shrink::CutOff).await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    disk.resize(MIB, Shrink::CutOff).await.unwrap();
    assert_eq!(disk.virtual_size().await.unwrap(), MIB);
}

#[tokio::test]
async fn saved_in_other_formats() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = raw(folder.path(), "disk", 2 * MIB, &b"compressible ".repeat(50_000));
    let mut sizes = Vec::new();
    for (format, compressed) in
        [(DiskFormat::Qcow2, false), (DiskFormat::Qcow2, true), (DiskFormat::Vmdk, false)]
    {
        let to = folder.path().join("saved");
        let saved = disk.save(&to, Save { format, compressed }, LONG).await.unwrap();
        assert_eq!(QemuImage::open(&to, References::Refuse).unwrap(), saved);
        sizes.push(fs::metadata(&to).unwrap().len());
        let raw = Save { format: DiskFormat::Raw, compressed: false };
        let back = saved.save(&folder.path().join("back"), raw, LONG).await.unwrap();
        assert!(fs::read(back.path()).unwrap() == fs::read(disk.path()).unwrap());
    }
    assert!(sizes[1] < sizes[0], "{sizes:?}");
    let wrong = Save { format: DiskFormat::Raw, compressed: true };
    let error = disk.save(&folder.path().join("no"), wrong, LONG).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = disk
        .save(
            &folder.path().join("none/x"),
            Save { format: DiskFormat::Raw, compressed: false },
            LONG,
        )
        .await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "disk, saved and back");
}

#[tokio::test]
async fn what_is_missing_or_damaged() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = QemuImage::with_format(folder.path().join("missing"), DiskFormat::Qcow2);
    assert_eq!(missing.info().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        QemuImage::open(folder.path(), References::Allow).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    let cut = folder.path().join("cut");
    fs::write(&cut, b"QFI\xfb\0\0\0\x03").unwrap();
    assert_eq!(QemuImage::open(&cut, References::Refuse).unwrap_err().kind(), ErrorKind::DataLoss);
    let error = QemuImage::with_format(&cut, DiskFormat::Qcow2).info().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Internal && error.to_string().contains("qemu-img"),
        "{error:?}"
    );

    let damaged =
        QemuImage::create(folder.path().join("damaged"), DiskFormat::Qcow2, MIB).await.unwrap();
    let file = fs::File::options().write(true).open(damaged.path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 2 << 16).unwrap();
    assert_eq!(damaged.check(LONG).await.unwrap_err().kind(), ErrorKind::DataLoss);
}

#[tokio::test]
async fn an_image_in_use_is_refused() {
    if !qemu_img_available() || !qemu_available(Arch::X86_64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image =
        QemuImage::create(folder.path().join("disk"), DiskFormat::Qcow2, MIB).await.unwrap();
    let (ready, qemu_end) = std::os::unix::net::UnixStream::pair().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&qemu_end);
    let drive = format!(
        "driver=qcow2,node-name=disk,file.driver=file,file.filename={}",
        image.path().display()
    );
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-M", "none", "-nodefaults", "-display", "none", "-blockdev", &drive])
        .args([
            "-chardev",
            &format!("socket,id=qmp,fd={number}"),
            "-mon",
            "chardev=qmp,mode=control",
        ])
        .keep_fd(qemu_end.into())
        .spawn()
        .await
        .unwrap();
    // The greeting comes once the disks are open.
    ready.set_nonblocking(true).unwrap();
    let mut ready = tokio::net::UnixStream::from_std(ready).unwrap();
    let greeting =
        tokio::time::timeout(LONG, tokio::io::AsyncReadExt::read_u8(&mut ready)).await.unwrap();
    assert_eq!(greeting.unwrap(), b'{');
    for error in [
        image.info().await.map(drop).unwrap_err(),
        image.resize(2 * MIB, Shrink::Refuse).await.unwrap_err(),
        image.check(LONG).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
        assert!(format!("{error:#}").contains("lock") && error.hint().is_some(), "{error:?}");
    }
    qemu.stop(StopPlan::new()).await.unwrap();
    image.info().await.unwrap();
}

/// The files that QEMU opens for an image of a given format, as it reports them: only the image's
/// path.
#[tokio::test]
async fn what_is_accepted_refers_to_nothing_as_qemu_reads_it() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, vec![7; 4096]).unwrap();
    let secret = secret.to_str().unwrap();
    let mut seeds = Vec::new();
    for format in
        [DiskFormat::Qcow2, DiskFormat::Qcow, DiskFormat::Vmdk, DiskFormat::Vdi, DiskFormat::Vpc]
    {
        let path = folder.path().join(format.name());
        QemuImage::create(&path, format, MIB).await.unwrap();
        seeds.push((format, fs::read(&path).unwrap()));
    }
    let insertions = [
        format!("RW 8 FLAT \"{secret}\" 0\n"),
        format!("\nparentFileNameHint=\"{secret}\"\n"),
        format!(" \tparentFileNameHint=\"{secret}\"\0"),
        format!("\nparentCID=00000000\nRDONLY 8 ZERO\nRW 8 VMFS \"{secret}\"\n"),
        "\0\0\0\0\0\0\0\x08".to_owned(),
        "\0\0\0\0".to_owned(),
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let path = folder.path().join("mutated");
    let mut accepted = 0;
    for round in 0..400 {
        let (format, seed) = &seeds[round % seeds.len()];
        let mut image = seed.clone();
        let header = image.len().min(if *format == DiskFormat::Vmdk { 1100 } else { 512 });
        for _ in 0..=next(3) {
            let insertion = insertions[next(insertions.len())].as_bytes();
            let at = next(header).min(image.len() - insertion.len());
            image[at..at + insertion.len()].copy_from_slice(insertion);
        }
        fs::write(&path, &image).unwrap();
        let Ok(opened) = QemuImage::open(&path, References::Refuse) else { continue };
        accepted += 1;
        let command =
            qemu_img("info", None).args(["--output=json", "-f", opened.format().name()]).arg(&path);
        // QEMU reads nothing of a refused image.
        let Ok(output) = run(command, LONG).await else { continue };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!said.contains(secret), "round {round}: {said}");
        let info: ImageInfo = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(info.backing_filename, None, "round {round}");
        // And the converted image has nothing of the other file.
        if opened.format() == DiskFormat::Vmdk {
            let raw = folder.path().join("raw");
            let save = Save { format: DiskFormat::Raw, compressed: false };
            if opened.save(&raw, save, LONG).await.is_ok() {
                assert!(
                    !fs::read(&raw).unwrap().windows(64).any(|part| part == [7; 64]),
                    "round {round}"
                );
            }
        }
    }
    assert!(accepted > 20, "only {accepted} were accepted: nothing was shown");
}

/// A guest's header does not count in the middle of a chain either.
#[tokio::test]
async fn what_is_saved_is_read_with_the_formats_of_its_chain() {
    if !qemu_img_available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let save = async |image: &QemuImage| {
        let save = Save { format: DiskFormat::Raw, compressed: false };
        image.save(&folder.path().join("saved"), save, LONG).await
    };
    let secret = folder.path().join("secret");
    fs::write(&secret, vec![7; MIB as usize]).unwrap();
    let base = raw(folder.path(), "base, with: a comma", MIB, b"");
    let trap = folder.path().join("trap");
    write_qcow2(&trap, MIB, Some(&Backing { path: secret, format: DiskFormat::Raw })).unwrap();
    fs::write(base.path(), fs::read(&trap).unwrap()).unwrap();
    // With its format recorded it is raw, whatever its header.
    let middle = base.overlay(folder.path().join("middle"), None).await.unwrap();
    let top = middle.overlay(folder.path().join("top"), None).await.unwrap();
    let saved = save(&top).await.unwrap();
    assert!(fs::read(saved.path()).unwrap().starts_with(b"QFI\xfb"));
    // Without it, it must be complete; qemu-img alone would show the other file.
    let mut header = fs::read(middle.path()).unwrap();
    let at = header.windows(4).position(|bytes| bytes == 0xe279_2aca_u32.to_be_bytes()).unwrap();
    header[at..at + 4].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
    fs::write(middle.path(), header).unwrap();
    let error = save(&top).await.unwrap_err();
    assert!(error.report().contains("refers to the backing file"), "{error:?}");
}
