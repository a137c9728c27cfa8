//! Block devices: loop devices stand in for cards and disks.

use crate::atomic::{Undo, as_root, small_disk};
use crate::support::{Bench, image, tool};
use bytes::Bytes;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A loop device; dropping it detaches it.
pub(crate) struct Loop {
    pub(crate) path: String,
    _detach: Undo,
}

impl Loop {
    /// `None` comes after a skip.
    pub(crate) fn new(backing: &Path) -> Option<Self> {
        let path =
            as_root("losetup", &["--partscan", "--find", "--show", backing.to_str().unwrap()])?;
        let _detach = Undo("losetup", vec!["--detach".to_owned(), path.clone()]);
        Some(Self { path, _detach })
    }
}

async fn flash(source: ImageSource, device: &Loop) -> Result<()> {
    write_image(source, device.path.as_ref(), WriteOptions::default()).await.map(drop)
}

/// A source that says whether it was read.
fn watched() -> (ImageSource, Arc<AtomicBool>) {
    let is_read = Arc::new(AtomicBool::new(false));
    let seen = is_read.clone();
    let stream = futures_util::stream::once(async move {
        seen.store(true, Ordering::Relaxed);
        Ok(Bytes::from_static(b"new"))
    });
    (ImageSource::stream(stream, None), is_read)
}

pub(crate) fn ones(bench: &Bench, mebibytes: usize) -> PathBuf {
    bench.file("backing", &vec![0xff; mebibytes << 20])
}

#[tokio::test]
async fn a_block_device_is_written_in_place() {
    let bench = Bench::new();
    let Some(device) = Loop::new(&ones(&bench, 4)) else { return };
    let plain = image(1 << 20);
    let packed = tool("zstd", &["-q"], &bench.file("plain", &plain));
    let options = WriteOptions::default().verify(true);
    let report =
        write_image(ImageSource::bytes(packed), device.path.as_ref(), options).await.unwrap();
    assert_eq!(report.bytes_written, plain.len() as u64);
    let now = std::fs::read(&device.path).unwrap();
    assert!(now[..plain.len()] == plain, "zeros must be written, too");
    assert!(
        now[plain.len()..].iter().all(|byte| *byte == 0xff),
        "nothing behind the image changes"
    );
}

#[tokio::test]
async fn zeros_are_discarded() {
    let bench = Bench::new();
    let backing = ones(&bench, 4);
    let Some(device) = Loop::new(&backing) else { return };
    let mut holes = vec![0; 4 << 20];
    holes[5] = 1;
    flash(ImageSource::bytes(holes.clone()), &device).await.unwrap();
    assert!(std::fs::read(&device.path).unwrap() == holes);
    let stored = std::fs::metadata(&backing).unwrap().blocks() * 512;
    assert!(stored <= 256 << 10, "{stored} bytes are stored");
}

#[tokio::test]
async fn one_that_is_in_use_is_refused_before_the_image_is_fetched() {
    let bench = Bench::new();
    let backing = ones(&bench, 8);
    let Some(device) = Loop::new(&backing) else { return };
    if as_root("mkfs.ext2", &["-q", &device.path]).is_none() {
        return;
    }
    let at = bench.path("mount");
    std::fs::create_dir(&at).unwrap();
    if as_root("mount", &[&device.path, at.to_str().unwrap()]).is_none() {
        return;
    }
    let unmount = Undo("umount", vec![at.to_str().unwrap().to_owned()]);
    let (source, is_read) = watched();
    let error = flash(source, &device).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.report().contains(" is in use; nothing was written"), "{error:?}");
    let expected = format!("it is mounted at {}", at.display());
    assert!(error.hint().unwrap().contains(&expected), "{error:?}");
    assert!(!is_read.load(Ordering::Relaxed));
    drop(unmount);
    flash(ImageSource::bytes("new"), &device).await.unwrap();
}

#[tokio::test]
async fn one_with_a_partition_in_use_is_refused() {
    let bench = Bench::new();
    let Some(device) = Loop::new(&ones(&bench, 8)) else { return };
    if as_root("addpart", &[&device.path, "1", "2048", "8192"]).is_none() {
        return;
    }
    let _gone = Undo("delpart", vec![device.path.clone(), "1".to_owned()]);
    let partition = format!("{}p1", device.path);
    let made = as_root("mkswap", &[&partition]);
    if made.is_none() || as_root("swapon", &[&partition]).is_none() {
        return;
    }
    let _off = Undo("swapoff", vec![partition.clone()]);
    let error = flash(ImageSource::bytes("new"), &device).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.hint().unwrap().contains(&partition), "{error:?}");
}

#[tokio::test]
async fn one_that_is_swapped_to_is_refused() {
    let bench = Bench::new();
    let Some(device) = Loop::new(&ones(&bench, 4)) else { return };
    let made = as_root("mkswap", &[&device.path]);
    if made.is_none() || as_root("swapon", &[&device.path]).is_none() {
        return;
    }
    let _off = Undo("swapoff", vec![device.path.clone()]);
    let error = flash(ImageSource::bytes("new"), &device).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    assert!(error.hint().unwrap().contains("swap"), "{error:?}");
}

#[tokio::test]
async fn an_image_that_is_too_large_is_refused_before_the_first_write() {
    let bench = Bench::new();
    let backing = ones(&bench, 4);
    let Some(device) = Loop::new(&backing) else { return };
    let plain = bench.file("plain", &vec![0; 5 << 20]);
    let stream_size = format!("--stream-size={}", 5 << 20);
    let mut sparse = b"\x3a\xff\x26\xed\x01\0\0\0\x1c\0\x0c\0".to_vec();
    for number in [4096_u32, 1280, 1, 0] {
        sparse.extend(number.to_le_bytes());
    }
    for source in [
        ImageSource::path(&plain),
        ImageSource::bytes(tool("zstd", &["-q", &stream_size], &plain)),
        ImageSource::bytes(tool("lz4", &["-q", "--content-size"], &plain)),
        ImageSource::bytes(tool("gzip", &[], &bench.file("sparse", &sparse))),
    ] {
        let error = flash(source, &device).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        let text = error.report();
        assert!(text.contains("the image needs 5 MiB, and the device has 4 MiB"), "{text}");
        assert!(!text.contains("torn"), "{text}");
        assert!(std::fs::read(&device.path).unwrap().iter().all(|byte| *byte == 0xff));
    }
    // No header holds it.
    let packed = tool("gzip", &[], &plain);
    let error = flash(ImageSource::bytes(packed), &device).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.report().contains("torn"), "{error}");
}

#[tokio::test]
async fn a_failure_after_the_first_write_says_that_the_device_is_torn() {
    let bench = Bench::new();
    let Some(device) = Loop::new(&ones(&bench, 4)) else { return };
    let broken = std::io::Error::other("the cable was pulled");
    let pieces = [Ok(Bytes::from(image(2 << 20))), Err(broken)];
    let source = ImageSource::stream(futures_util::stream::iter(pieces), None);
    let error = flash(source, &device).await.unwrap_err();
    let expected = format!("writing image to {}, which is torn now", device.path);
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.hint(), Some("flash it again"));

    let none = [Err(std::io::Error::other("no cable"))];
    let source = ImageSource::stream(futures_util::stream::iter(none), None);
    let error = flash(source, &device).await.unwrap_err();
    assert!(!error.report().contains("torn"), "{error}");
}

#[tokio::test]
async fn an_error_of_the_sync_fails_the_flash() {
    let bench = Bench::new();
    let Some(full) = small_disk(&bench, "1m") else { return };
    let backing = full.path.join("backing");
    std::fs::File::create(&backing).unwrap().set_len(8 << 20).unwrap();
    let Some(device) = Loop::new(&backing) else { return };
    let error = flash(ImageSource::bytes(image(4 << 20)), &device).await.unwrap_err();
    assert!(error.report().contains("syncing the device"), "{error:?}");
    assert!(error.report().contains("torn"), "{error:?}");
}
