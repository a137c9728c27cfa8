//! The old image or the new one, never anything between, whatever interrupts.

use crate::support::{Bench, DEADLINE, image, stuck, tool};
use futures_util::FutureExt;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, write_image};
use jumpstarter_driver_testkit::{eventually, skip};
use jumpstarter_supervise::{Command, run_blocking};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

async fn flash(bench: &Bench, source: ImageSource) -> Result<()> {
    write_image(source, &bench.disk(), WriteOptions::default()).await.map(drop)
}

#[tokio::test]
async fn cancelled_while_the_source_hangs() {
    let bench = Bench::new();
    let flashing = tokio::spawn({
        let disk = bench.disk();
        async move { write_image(stuck(image(2 << 20)), &disk, WriteOptions::default()).await }
    });
    eventually("a staged file", || bench.partial()).await;
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"old");
    flashing.abort();
    assert!(flashing.await.unwrap_err().is_cancelled());
    eventually("no staged file", || !bench.partial()).await;
    bench.assert_untouched();
    flash(&bench, ImageSource::bytes("new")).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_at_any_moment() {
    let bench = Bench::new();
    let plain = image(2 << 20);
    let file = bench.file("plain", &plain);
    let packed = bench.file("packed", &tool("gzip", &["-1"], &file));
    let (mut cancelled, mut late) = (0, 0);
    for step in 0..60_u64 {
        let source = ImageSource::path(if step % 2 == 0 { &file } else { &packed });
        let limit = Duration::from_micros(step * step * 10);
        let outcome = tokio::time::timeout(limit, flash(&bench, source)).await;
        let now = std::fs::read(bench.disk()).unwrap();
        match outcome {
            Ok(done) => {
                done.unwrap();
                assert!(now == plain);
            }
            // The last step may have come just before.
            Err(_) => {
                cancelled += 1;
                assert!(now == b"old" || now == plain, "step {step}: {} bytes", now.len());
            }
        }
        // A flash that was given up replaces nothing afterwards, unless its last step ran already:
        // a moment that a thread has to be stopped in, for the caller to see the old image.
        eventually("no staged file", || !bench.partial()).await;
        let settled = std::fs::read(bench.disk()).unwrap();
        if settled != now {
            assert!(now == b"old" && settled == plain, "step {step}: {} bytes", settled.len());
            late += 1;
        }
        std::fs::write(bench.disk(), "old").unwrap();
    }
    assert!(cancelled > 0);
    assert!(
        late <= std::cmp::max(2, cancelled / 4),
        "{late} of {cancelled} flashes replaced the image after they were cancelled"
    );
    bench.assert_untouched();
}

#[tokio::test]
async fn dropped_before_it_was_polled_and_after_once() {
    let bench = Bench::new();
    drop(flash(&bench, ImageSource::bytes("new")));
    assert!(flash(&bench, stuck(b"never whole".to_vec())).now_or_never().is_none());
    eventually("no staged file", || !bench.partial()).await;
    bench.assert_untouched();
}

/// Run in a separate process by the next test, which kills it.
#[tokio::test]
async fn hanging_helper() {
    if let Ok(disk) = std::env::var("FLASHER_TEST_HANG") {
        drop(write_image(stuck(image(1 << 20)), disk.as_ref(), WriteOptions::default()).await);
    }
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not() {
    let bench = Bench::new();
    let helper = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "atomic::hanging_helper", "--nocapture"])
        .env("FLASHER_TEST_HANG", bench.disk());
    let helper = helper.spawn().await.unwrap();
    // With bytes in it: then it is locked, too.
    let is_written = |name: &String| {
        name.ends_with(".partial")
            && std::fs::metadata(bench.path(name)).is_ok_and(|found| found.len() > 0)
    };
    eventually("a staged file", || bench.others().iter().any(is_written)).await;
    flash(&bench, ImageSource::bytes("while it lives")).await.unwrap();
    assert!(bench.partial(), "the living process lost its file");
    helper.kill();
    tokio::time::timeout(DEADLINE, helper.wait_gone()).await.unwrap();
    assert!(bench.partial(), "a killed process cannot tidy up");
    let strangers =
        [bench.file(".disk.img.partial", b"x"), bench.file(".other.img.1-1.partial", b"x")];
    flash(&bench, ImageSource::bytes("new")).await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
    assert_eq!(bench.others(), [".disk.img.partial", ".other.img.1-1.partial"]);
    assert!(strangers.iter().all(|stranger| stranger.exists()));
}

/// On one thread: whatever waits for a file there holds up everything.
#[tokio::test]
async fn a_pipe_named_like_a_leftover_holds_nothing_up() {
    let bench = Bench::new();
    let pipe = bench.path(".disk.img.1-1.partial");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for _ in 0..3 {
        let flashing = flash(&bench, stuck(image(2 << 20)));
        assert!(tokio::time::timeout(Duration::from_millis(50), flashing).await.is_err());
    }
    tokio::time::timeout(DEADLINE, flash(&bench, ImageSource::bytes("new")))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
    assert!(pipe.exists(), "it is nothing of ours");
}

#[tokio::test]
async fn the_mode_is_kept_and_links_are_followed() {
    let bench = Bench::new();
    std::fs::set_permissions(bench.disk(), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(bench.disk(), bench.path("link")).unwrap();
    write_image(ImageSource::bytes("new"), &bench.path("link"), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"new");
    assert_eq!(std::fs::metadata(bench.disk()).unwrap().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(bench.path("link")).unwrap().is_symlink());
    write_image(ImageSource::bytes("new"), &bench.path("fresh"), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(std::fs::metadata(bench.path("fresh")).unwrap().mode() & 0o777, 0o644);
}

#[tokio::test]
async fn a_link_to_a_file_that_is_not_there_yet_is_followed() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("second", bench.path("first")).unwrap();
    std::os::unix::fs::symlink("third", bench.path("second")).unwrap();
    write_image(ImageSource::bytes("new"), &bench.path("first"), WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(std::fs::read(bench.path("third")).unwrap(), b"new");
    for link in ["first", "second"] {
        assert!(std::fs::symlink_metadata(bench.path(link)).unwrap().is_symlink());
    }
}

#[tokio::test]
async fn the_owner_is_kept_where_that_is_allowed() {
    let bench = Bench::new();
    let owner = (std::fs::metadata(bench.disk()).unwrap().uid() + 1234, 4321);
    if let Err(error) = std::os::unix::fs::chown(bench.disk(), Some(owner.0), Some(owner.1)) {
        jumpstarter_driver_testkit::skip(&format!("only root may give files away: {error}"));
        return;
    }
    std::fs::set_permissions(bench.disk(), std::fs::Permissions::from_mode(0o2750)).unwrap();
    flash(&bench, ImageSource::bytes("new")).await.unwrap();
    let now = std::fs::metadata(bench.disk()).unwrap();
    // The bit for the group was given to the old content.
    assert_eq!(((now.uid(), now.gid()), now.mode() & 0o7777), (owner, 0o750));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flashes_of_one_file_at_once_end_in_one_of_their_images() {
    let bench = Bench::new();
    let images: Vec<Vec<u8>> = (1..=8_u8).map(|number| vec![number; 1 << 20]).collect();
    let flashes = images.iter().map(|image| flash(&bench, ImageSource::bytes(image.clone())));
    for done in futures_util::future::join_all(flashes).await {
        done.unwrap();
    }
    let now = std::fs::read(bench.disk()).unwrap();
    assert!(images.contains(&now));
    assert_eq!(bench.others(), Vec::<String>::new());
}

#[tokio::test]
async fn what_holds_no_image_is_refused() {
    let bench = Bench::new();
    for (destination, kind) in [
        (bench.path(""), ErrorKind::InvalidArgument),
        ("/dev/null".into(), ErrorKind::InvalidArgument),
        (bench.path("missing/disk.img"), ErrorKind::NotFound),
    ] {
        let flashed =
            write_image(ImageSource::bytes("new"), &destination, WriteOptions::default()).await;
        assert_eq!(flashed.unwrap_err().kind(), kind, "{}", destination.display());
    }
    for source in [ImageSource::path(bench.path("missing")), ImageSource::path(bench.path(""))] {
        let kind = flash(&bench, source).await.unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidArgument), "{kind:?}");
    }
    bench.assert_untouched();
}

/// Runs a tool that only root may use; `None` comes after a skip.
pub(crate) fn as_root(program: &str, arguments: &[&str]) -> Option<String> {
    match run_blocking(Command::new(program).args(arguments), DEADLINE) {
        Ok(output) => Some(output.stdout_text().trim().to_owned()),
        Err(error) => {
            skip(&format!("{program} does not work here: {error}"));
            None
        }
    }
}

pub(crate) struct Undo(pub(crate) &'static str, pub(crate) Vec<String>);

impl Drop for Undo {
    fn drop(&mut self) {
        as_root(self.0, &self.1.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// A file system in memory, of that size.
pub(crate) struct SmallDisk {
    pub(crate) path: std::path::PathBuf,
    _unmount: Undo,
}

pub(crate) fn small_disk(bench: &Bench, size: &str) -> Option<SmallDisk> {
    let path = bench.path("full");
    std::fs::create_dir(&path).unwrap();
    let mount = path.to_str().unwrap().to_owned();
    as_root("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "none", &mount])?;
    Some(SmallDisk { path, _unmount: Undo("umount", vec!["-l".to_owned(), mount]) })
}

#[tokio::test]
async fn a_full_disk() {
    let bench = Bench::new();
    let Some(full) = small_disk(&bench, "1m") else { return };
    let mounted = &full.path;
    let disk = mounted.join("disk.img");
    std::fs::write(&disk, "old").unwrap();
    let error = write_image(ImageSource::bytes(image(4 << 20)), &disk, WriteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
    assert!(error.hint().unwrap().contains("free space"), "{error:?}");
    assert_eq!(std::fs::read(&disk).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(mounted).unwrap().count(), 1);
}
