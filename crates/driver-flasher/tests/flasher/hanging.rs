//! A file system that hangs, as a dead NFS server's does: a FUSE program that is stopped.

use crate::support::{Bench, DEADLINE, eventually, image, stuck};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use jumpstarter_driver_testkit::skip;
use jumpstarter_supervise::{Child, Command, Signal};
use std::path::PathBuf;
use std::time::Duration;

/// A folder seen through a FUSE program.
struct Mount {
    program: Child,
    at: PathBuf,
}

impl Mount {
    async fn of(bench: &Bench) -> Option<Self> {
        let at = bench.path("mounted");
        std::fs::create_dir(&at).unwrap();
        std::fs::create_dir(bench.path("behind")).unwrap();
        std::fs::write(bench.path("behind/disk.img"), "old").unwrap();
        let command = Command::new("bindfs").arg("-f").arg(bench.path("behind")).arg(&at);
        let Ok(program) = command.spawn().await else {
            skip("bindfs is not installed");
            return None;
        };
        let mount = Self { program, at };
        tokio::select! {
            () = eventually(|| mount.at.join("disk.img").exists()) => Some(mount),
            _ = mount.program.wait() => {
                skip("nothing can be mounted here");
                None
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.program.signal(Signal::CONT);
        // It is killed with its owner, and would leave the folder mounted.
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// On one thread: whatever waits for a file there holds up everything.
#[tokio::test]
async fn it_holds_up_its_own_flash_alone() {
    let bench = Bench::new();
    let Some(mount) = Mount::of(&bench).await else { return };
    let (disk, elsewhere) = (mount.at.join("disk.img"), bench.disk());
    // Stopped before the flash begins, and in the middle of one.
    for begun in [false, true] {
        let flash = || write_image(stuck(image(4 << 20)), &disk, WriteOptions::default());
        let outcome = if begun {
            let flashing = flash();
            tokio::pin!(flashing);
            tokio::select! {
                _ = &mut flashing => panic!("it cannot end"),
                () = eventually(|| std::fs::read_dir(bench.path("behind")).unwrap().count() > 1) => {}
            }
            mount.program.signal(Signal::STOP);
            tokio::time::timeout(Duration::from_millis(200), &mut flashing).await
        } else {
            mount.program.signal(Signal::STOP);
            tokio::time::timeout(Duration::from_millis(200), flash()).await
        };
        assert!(outcome.is_err());
        // The caller is gone, and what else this thread does goes on.
        let other = write_image(ImageSource::bytes("new"), &elsewhere, WriteOptions::default());
        tokio::time::timeout(DEADLINE, other).await.expect("another flash is held up").unwrap();
        mount.program.signal(Signal::CONT);
        eventually(|| std::fs::read_dir(bench.path("behind")).unwrap().count() == 1).await;
        assert_eq!(std::fs::read(&disk).unwrap(), b"old");
    }
    // Once the file system answers again, so does the flasher.
    write_image(ImageSource::bytes("new"), &disk, WriteOptions::default()).await.unwrap();
    assert_eq!(std::fs::read(&disk).unwrap(), b"new");
    // The same for a dump to a file there.
    let mut sink = ImageSink::path(&disk);
    sink.write("half").await.unwrap();
    mount.program.signal(Signal::STOP);
    drop(sink);
    tokio::time::timeout(DEADLINE, tokio::task::yield_now()).await.unwrap();
    mount.program.signal(Signal::CONT);
    eventually(|| std::fs::read_dir(bench.path("behind")).unwrap().count() == 1).await;
    assert_eq!(std::fs::read(&disk).unwrap(), b"new");
}
