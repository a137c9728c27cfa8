//! What keeps a flash from filling the disk, and from writing what is no image.

use crate::support::{Bench, image, tool};
use bytes::Bytes;
use futures_util::StreamExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{Compression, WriteOptions, write_image};
use rustix::fs::statvfs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn free(folder: &Path) -> u64 {
    let system = statvfs(folder).unwrap();
    system.f_bavail * system.f_frsize
}

/// Noise for ever; what was free in `folder` at least while it was delivered.
fn endless(folder: &Path) -> (ImageSource, Arc<AtomicU64>) {
    let least = Arc::new(AtomicU64::new(u64::MAX));
    let (piece, folder, seen) =
        (Bytes::from(vec![0xa5; 256 << 10]), folder.to_owned(), least.clone());
    let stream = futures_util::stream::repeat_with(move || {
        seen.fetch_min(free(&folder), Ordering::Relaxed);
        Ok(piece.clone())
    });
    (ImageSource::stream(stream, None), least)
}

#[tokio::test]
async fn an_endless_image_ends_while_there_is_room() {
    let bench = Bench::new();
    let Some(full) = crate::atomic::small_disk(&bench, "64m") else { return };
    let disk = full.path.join("disk.img");
    std::fs::write(&disk, "old").unwrap();
    let (source, least) = endless(&full.path);
    let error = write_image(source, &disk, WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.hint().unwrap().contains("free space"), "{error:?}");
    // A twentieth of 64 MiB.
    let least = least.load(Ordering::Relaxed);
    assert!((3 << 20..8 << 20).contains(&least), "{least} bytes were free");
    assert_eq!(std::fs::read(&disk).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(&full.path).unwrap().count(), 1);
}

#[tokio::test]
async fn a_bomb_ends_while_there_is_room() {
    let bench = Bench::new();
    let Some(full) = crate::atomic::small_disk(&bench, "32m") else { return };
    let bomb = tool("zstd", &["-q"], &bench.file("plain", &vec![0x5a; 256 << 20]));
    assert!(bomb.len() < 1 << 20);
    let disk = full.path.join("disk.img");
    let error =
        write_image(ImageSource::bytes(bomb), &disk, WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert_eq!(std::fs::read_dir(&full.path).unwrap().count(), 0);
}

#[tokio::test]
async fn a_limit_is_a_setting_and_the_error_names_it() {
    let bench = Bench::new();
    let options = WriteOptions::default().limit_bytes(1 << 20);
    for source in [ImageSource::bytes(vec![1; (1 << 20) + 1]), ImageSource::bytes(vec![0; 2 << 20])]
    {
        let error = write_image(source, &bench.disk(), options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        assert!(
            error.report().contains("1 MiB") && error.report().contains("flash_limit"),
            "{error:?}"
        );
        bench.assert_untouched();
    }
    // One that announces itself is refused before it is transferred.
    let announced = futures_util::stream::iter([Ok(vec![1; 512].into())])
        .chain(futures_util::stream::pending());
    let announced = ImageSource::stream(announced, Some(2 << 20));
    let error = write_image(announced, &bench.disk(), options.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    write_image(ImageSource::bytes(vec![1; 1 << 20]), &bench.disk(), options).await.unwrap();
}

#[tokio::test]
async fn a_look_at_the_new_image_may_refuse_or_change_it() {
    let bench = Bench::new();
    let refuse =
        WriteOptions::default().inspect(|_| Err(Error::failed_precondition("not this one")));
    let error = write_image(ImageSource::bytes("new"), &bench.disk(), refuse).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    bench.assert_untouched();
    let cut = WriteOptions::default().inspect(|new| {
        let mut all = [0; 8];
        new.file.read_exact_at(&mut all, 0)?;
        assert_eq!(&all, b"new\0tail");
        assert_eq!(std::fs::read(new.path).unwrap(), all);
        Ok(new.file.set_len(3)?)
    });
    write_image(ImageSource::bytes("new\0tail"), &bench.disk(), cut).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
}

#[tokio::test]
async fn what_looks_like_no_image_is_refused_by_name() {
    let bench = Bench::new();
    let plain = bench.file("plain", &image(100_000));
    let gzip = bench.file("once", &tool("gzip", &[], &plain));
    let zip = [b"PK\x03\x04", &[0x55; 4096][..]].concat();
    for (bytes, expected) in [
        (tool("gzip", &[], &gzip), "os.img is gzip compressed data (in gzip), not an image"),
        (
            tool("xz", &["-1"], &bench.file("zip", &zip)),
            "os.img is a zip archive (in xz), not an image",
        ),
        (zip.clone(), "os.img is a zip archive, not an image"),
    ] {
        let source = ImageSource::bytes(bytes).with_name("os.img");
        let error = write_image(source, &bench.disk(), WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.report().contains(expected), "{}", error.report());
        assert!(error.report().contains("`decompress: false`"), "{}", error.report());
        bench.assert_untouched();
    }
    let options = WriteOptions::default().compression(Compression::Raw);
    write_image(ImageSource::bytes(zip.clone()), &bench.disk(), options).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), zip);
}
