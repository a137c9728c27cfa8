//! On the way: lengths, digests, progress, holes, stalls and failing sources.

use crate::support::{Bench, image, stuck, tool};
use bytes::Bytes;
use futures_util::stream;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{WriteOptions, read_image, write_image};
use jumpstarter_driver_testkit::eventually;
use proptest::prelude::{Strategy, proptest};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

async fn flash(
    bench: &Bench,
    source: ImageSource,
) -> Result<jumpstarter_driver_flasher::WriteReport> {
    write_image(source, &bench.disk(), WriteOptions::default()).await
}

fn sha256(bench: &Bench, bytes: &[u8]) -> String {
    let file = bench.file("digested", bytes);
    let output = jumpstarter_supervise::Command::new("sha256sum").arg(&file);
    let output = jumpstarter_supervise::run_blocking(output, crate::support::DEADLINE).unwrap();
    output.stdout_text()[..64].to_owned()
}

#[tokio::test]
async fn the_digest_is_that_of_the_delivered_file() {
    let bench = Bench::new();
    let plain = image(1 << 20);
    let packed = tool("gzip", &[], &bench.file("plain", &plain));
    let digest = sha256(&bench, &packed);
    let path = bench.file("packed", &packed);
    for source in [ImageSource::path(&path), ImageSource::bytes(packed.clone())] {
        let (source, report) = source.expect_sha256(digest.to_uppercase()).unwrap().report_sha256();
        assert_eq!(flash(&bench, source).await.unwrap().sha256.as_ref(), Some(&digest));
        assert_eq!(report.sha256(), Some(digest.clone()));
    }
    std::fs::write(bench.disk(), "old").unwrap();
    // The digest of what it decompresses to is not the one that publishers list.
    for wrong in [sha256(&bench, &plain), "0".repeat(64)] {
        let (source, report) =
            ImageSource::path(&path).expect_sha256(&wrong).unwrap().report_sha256();
        let error = flash(&bench, source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss);
        assert!(error.report().contains(&digest) && error.report().contains(&wrong), "{error:?}");
        assert_eq!(report.sha256(), Some(digest.clone()), "what was found helps to see why");
        bench.assert_untouched();
    }
    for nonsense in ["", "abc", &"g".repeat(64)] {
        let error = ImageSource::bytes("x").expect_sha256(nonsense).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn the_digest_of_a_sparse_file_counts_its_holes() {
    let bench = Bench::new();
    let file = std::fs::File::create(bench.path("sparse")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(b"in the middle", 1 << 20).unwrap();
    let bytes = std::fs::read(bench.path("sparse")).unwrap();
    let source =
        ImageSource::path(bench.path("sparse")).expect_sha256(sha256(&bench, &bytes)).unwrap();
    let report = flash(&bench, source).await.unwrap();
    assert_eq!((report.bytes_read, report.bytes_written), (3 << 20, 3 << 20));
    assert!(std::fs::read(bench.disk()).unwrap() == bytes);
    assert!(std::fs::metadata(bench.disk()).unwrap().blocks() * 512 <= 64 * 1024);
}

#[tokio::test]
async fn zeros_become_holes() {
    let bench = Bench::new();
    let mut plain = vec![0; 8 << 20];
    plain[5_000_000..5_100_000].copy_from_slice(&image(100_000)[..]);
    let raw = bench.file("plain", &plain);
    let packed = bench.file("packed", &tool("zstd", &["-q"], &raw));
    for source in
        [ImageSource::path(&raw), ImageSource::path(&packed), ImageSource::bytes(plain.clone())]
    {
        flash(&bench, source).await.unwrap();
        let metadata = std::fs::metadata(bench.disk()).unwrap();
        assert_eq!(metadata.len(), 8 << 20);
        assert!(metadata.blocks() * 512 <= 200 * 1024, "{} blocks", metadata.blocks());
        assert!(std::fs::read(bench.disk()).unwrap() == plain);
    }
}

proptest! {
    #[test]
    fn any_pieces_make_the_same_image(
        pieces in proptest::collection::vec((0..9000_usize).prop_flat_map(|length| {
            proptest::bool::ANY.prop_map(move |zeros| if zeros { vec![0; length] } else { vec![7; length] })
        }), 1..20),
    ) {
        let whole = pieces.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bench = Bench::new();
        let length = whole.len() as u64;
        let source = ImageSource::stream(stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece)))), Some(length));
        let flashed = runtime.block_on(flash(&bench, source));
        if whole.is_empty() {
            flashed.unwrap_err();
        } else {
            flashed.unwrap();
            assert!(std::fs::read(bench.disk()).unwrap() == whole);
        }
    }
}

#[tokio::test]
async fn progress_comes_in_order_and_ends_with_everything() {
    let bench = Bench::new();
    let plain = image(6 << 20);
    let path = bench.file("plain", &plain);
    let whole = plain.len() as u64;
    for source in
        [ImageSource::path(&path), ImageSource::reader(std::io::Cursor::new(plain), Some(whole))]
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let started = Instant::now();
        let watcher = seen.clone();
        let source = source.with_observer(move |progress| watcher.lock().unwrap().push(progress));
        flash(&bench, source).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.is_sorted_by_key(|progress| progress.transferred_bytes));
        assert!(seen.iter().all(|progress| progress.total_bytes == Some(whole)));
        assert_eq!(seen.last().unwrap().transferred_bytes, whole);
        let at_most = 2 + started.elapsed().as_millis() / 50;
        assert!((seen.len() as u128) <= at_most, "{} in {:?}", seen.len(), started.elapsed());
    }
}

#[tokio::test]
async fn a_source_of_another_length_than_announced() {
    let bench = Bench::new();
    for announced in [999_999, 1_000_001, 5_000_000] {
        let source = ImageSource::reader(std::io::Cursor::new(image(1_000_000)), Some(announced));
        let error = flash(&bench, source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
        bench.assert_untouched();
    }
}

#[tokio::test]
async fn a_source_that_fails_midway_says_why() {
    let bench = Bench::new();
    let plain = image(300_000);
    let packed = tool("xz", &["-1"], &bench.file("plain", &plain));
    for start in [Bytes::from(plain), Bytes::from(packed), Bytes::new()] {
        let failure =
            std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the line went dead");
        let half = start.slice(..start.len() / 2);
        let source = ImageSource::stream(stream::iter([Ok(half), Err(failure)]), None);
        let error = flash(&bench, source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.report().contains("the line went dead"), "{error:?}");
        bench.assert_untouched();
    }
}

#[tokio::test]
async fn a_source_that_stalls_is_given_up() {
    let bench = Bench::new();
    let options = WriteOptions::default().stall_timeout(Duration::from_millis(100));
    let error = write_image(stuck(image(1 << 20)), &bench.disk(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
    bench.assert_untouched();
}

#[tokio::test]
async fn a_failure_ends_the_flash_though_the_source_hangs() {
    let bench = Bench::new();
    let mut packed = tool("gzip", &[], &bench.file("plain", &image(1 << 20)));
    let middle = packed.len() / 2;
    packed[middle..middle + 2000].fill(0xff);
    let flashed =
        tokio::time::timeout(crate::support::DEADLINE, flash(&bench, stuck(packed))).await;
    assert_eq!(flashed.expect("waited for the source").unwrap_err().kind(), ErrorKind::DataLoss);
    bench.assert_untouched();
}

#[tokio::test]
async fn reading_back_into_a_file_and_a_writer() {
    let bench = Bench::new();
    let plain = image(3_000_000);
    let source = bench.file("plain", &plain);
    assert_eq!(read_image(&source, ImageSink::path(bench.disk())).await.unwrap(), 3_000_000);
    assert!(std::fs::read(bench.disk()).unwrap() == plain);

    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut received).await.map(|_| received)
    });
    read_image(&source, ImageSink::writer(near)).await.unwrap();
    assert!(receiving.await.unwrap().unwrap() == plain);

    // A receiver that goes away, and one that stops: nothing hangs, nothing stays.
    let (near, far) = tokio::io::duplex(1024);
    drop(far);
    assert_eq!(
        read_image(&source, ImageSink::writer(near)).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let error =
        read_image(&bench.path("missing"), ImageSink::path(bench.disk())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_unfinished_sink_leaves_the_old_file() {
    let bench = Bench::new();
    let mut sink = ImageSink::path(bench.disk());
    sink.write("half").await.unwrap();
    assert!(bench.partial());
    drop(sink);
    eventually("no staged file", || !bench.partial()).await;
    bench.assert_untouched();
    ImageSink::path(bench.disk()).finish().await.unwrap();
    assert_eq!(std::fs::read(bench.disk()).unwrap(), b"");
}
