//! A file system that hangs, as a dead NFS server's does: a FUSE program that is stopped.

use crate::support::{Bench, DEADLINE, image, stuck};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use jumpstarter_driver_testkit::{FuseMount, eventually, skip};
use std::time::Duration;

/// On one thread: whatever waits for a file there holds up everything.
#[tokio::test]
async fn it_holds_up_its_own_flash_alone() {
    let bench = Bench::new();
    let (behind, mounted) = (bench.path("behind"), bench.path("mounted"));
    std::fs::create_dir(&mounted).unwrap();
    std::fs::create_dir(&behind).unwrap();
    std::fs::write(behind.join("disk.img"), "old").unwrap();
    let mount = match FuseMount::new(&behind, &mounted, &[]) {
        Ok(mount) => mount,
        Err(obstacle) => return skip(&obstacle),
    };
    let (disk, elsewhere) = (mounted.join("disk.img"), bench.disk());
    let files = || std::fs::read_dir(&behind).unwrap().count();
    // Stopped before the flash begins, and in the middle of one.
    for begun in [false, true] {
        let flash = || write_image(stuck(image(4 << 20)), &disk, WriteOptions::default());
        let outcome = if begun {
            let flashing = flash();
            tokio::pin!(flashing);
            tokio::select! {
                _ = &mut flashing => panic!("it cannot end"),
                () = eventually("a staged file", || files() > 1) => {}
            }
            mount.freeze();
            tokio::time::timeout(Duration::from_millis(200), &mut flashing).await
        } else {
            mount.freeze();
            tokio::time::timeout(Duration::from_millis(200), flash()).await
        };
        assert!(outcome.is_err());
        // The caller was dropped, and this thread's other work continues.
        let other = write_image(ImageSource::bytes("new"), &elsewhere, WriteOptions::default());
        tokio::time::timeout(DEADLINE, other).await.expect("another flash is held up").unwrap();
        mount.thaw();
        eventually("no staged file", || files() == 1).await;
        assert_eq!(std::fs::read(&disk).unwrap(), b"old");
    }
    // Once the file system answers again, so does the flasher.
    write_image(ImageSource::bytes("new"), &disk, WriteOptions::default()).await.unwrap();
    assert_eq!(std::fs::read(&disk).unwrap(), b"new");
    // The same for a dump to a file there.
    let mut sink = ImageSink::path(&disk);
    sink.write("half").await.unwrap();
    mount.freeze();
    drop(sink);
    tokio::time::timeout(DEADLINE, tokio::task::yield_now()).await.unwrap();
    mount.thaw();
    eventually("no staged file", || files() == 1).await;
    assert_eq!(std::fs::read(&disk).unwrap(), b"new");
}
