//! Images: what arrives is what was sent, however it travels, and what breaks off is an error.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use jumpstarter_client::{Exporter, connect};
use jumpstarter_driver_core::image::Encoding;
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Device, Progress, flash_images};
use jumpstarter_supervise::{Command, run_blocking};
use support::stub::Stub;
use support::{FILE, Served, in_time};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// The SHA-256 of nothing.
const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn image() -> Vec<u8> {
    (0..3_000_000u32).map(|n| (n / 7) as u8).collect()
}

fn flasher(exporter: &Exporter, path: &str) -> Arc<dyn Flasher> {
    exporter.device().get::<dyn Flasher>(path).unwrap()
}

/// The bytes that a dump gives.
async fn dumped(flasher: &dyn Flasher, encoding: Option<Encoding>) -> Vec<u8> {
    let (sink, mut receiver) = tokio::io::duplex(64 * 1024);
    let mut sink = ImageSink::writer(sink);
    if let Some(encoding) = encoding {
        sink = sink.with_encoding(encoding);
    }
    let mut bytes = Vec::new();
    let (dumped, read) =
        in_time(async { tokio::join!(flasher.dump(sink, None), receiver.read_to_end(&mut bytes)) })
            .await;
    dumped.unwrap();
    read.unwrap();
    bytes
}

async fn encoded(encoding: Encoding, data: &[u8]) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut writer = jumpstarter_transfer::encode(encoding, Box::pin(near));
    let write = async {
        writer.write_all(data).await.unwrap();
        writer.shutdown().await.unwrap();
        drop(writer);
    };
    let mut encoded = Vec::new();
    let ((), read) = tokio::join!(write, far.read_to_end(&mut encoded));
    read.unwrap();
    encoded
}

async fn decoded(encoding: Encoding, data: bytes::Bytes) -> Vec<u8> {
    let pieces = jumpstarter_transfer::decode(encoding, futures_util::stream::iter([Ok(data)]));
    pieces.try_collect::<Vec<_>>().await.unwrap().concat()
}

#[tokio::test]
async fn files_readers_writers_and_bytes() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let image = image();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("os.img");
    std::fs::write(&file, &image).unwrap();
    let length = Some(image.len() as u64);
    for source in [
        ImageSource::path(&file),
        ImageSource::bytes(image.clone()),
        ImageSource::reader(std::io::Cursor::new(image.clone()), length),
        ImageSource::reader(std::io::Cursor::new(image.clone()), None),
    ] {
        in_time(flasher.flash(source, None)).await.unwrap();
        assert!(dumped(&*flasher, None).await == image);
        in_time(exporter.device().reset()).await.unwrap();
    }
    in_time(flasher.flash(ImageSource::path(&file), None)).await.unwrap();
    let target = folder.path().join("dump.img");
    in_time(flasher.dump(ImageSink::path(&target), None)).await.unwrap();
    assert!(std::fs::read(&target).unwrap() == image);
    served.shut_down().await;
}

#[tokio::test]
async fn the_four_encodings_are_passed_through() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let image = image();
    for encoding in Encoding::ALL {
        let file = encoded(encoding, &image).await;
        assert!(file.len() < image.len() / 2);
        // This flasher keeps what it gets; what is said to be encoded is decoded on its way.
        let source = ImageSource::bytes(file.clone());
        for (source, kept) in
            [(source, &file), (ImageSource::bytes(file.clone()).with_encoding(encoding), &image)]
        {
            in_time(flasher.flash(source, None)).await.unwrap();
            assert!(dumped(&*flasher, None).await == *kept, "{encoding}");
            in_time(exporter.device().reset()).await.unwrap();
        }
        in_time(flasher.flash(ImageSource::bytes(image.clone()), None)).await.unwrap();
        let compressed = dumped(&*flasher, Some(encoding)).await;
        assert_eq!(Encoding::of_signature(&compressed), Some(encoding));
        assert!(decoded(encoding, compressed.into()).await == image, "{encoding}");
    }
    served.shut_down().await;
}

#[tokio::test]
async fn the_digest_is_that_of_the_file() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let (source, report) = ImageSource::bytes(image()).report_sha256();
    in_time(flasher.flash(source, None)).await.unwrap();
    let digest = report.sha256().unwrap();
    let right = ImageSource::bytes(image()).with_name("os.img").expect_sha256(&digest).unwrap();
    in_time(flasher.flash(right, None)).await.unwrap();
    let wrong = ImageSource::bytes("other").with_name("os.img").expect_sha256(OF_NOTHING).unwrap();
    let error = in_time(flasher.flash(wrong, None)).await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DataLoss
    calling `flash`: sending os.img to the exporter at ADDRESS: its SHA-256 is d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, not e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    hint: compare the digest with the downloaded file, before decompression: the download is damaged, or is another file
    ");
    assert!(dumped(&*flasher, None).await == image(), "the old image stays");
    served.shut_down().await;
}

#[tokio::test]
async fn progress_is_told() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let observer = |told: &Arc<Mutex<Vec<Progress>>>| {
        let told = told.clone();
        move |progress| told.lock().unwrap().push(progress)
    };
    let source = ImageSource::bytes(image()).with_observer(observer(&told));
    in_time(flasher.flash(source, None)).await.unwrap();
    let length = image().len() as u64;
    let whole = Progress::new(length, Some(length));
    assert_eq!(std::mem::take(&mut *told.lock().unwrap()).last(), Some(&whole));
    let sink = ImageSink::writer(tokio::io::sink()).with_observer(observer(&told));
    in_time(flasher.dump(sink, None)).await.unwrap();
    assert_eq!(told.lock().unwrap().last().unwrap().transferred_bytes, length);
    served.shut_down().await;
}

/// A server that gives `body` to each GET, and keeps what was PUT.
async fn web(body: Vec<u8>) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img?token=s3cret", listener.local_addr().unwrap());
    let put: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = put.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut head, mut line) = (String::new(), String::new());
            while stream.read_line(&mut line).await.unwrap() > 2 {
                head.push_str(&std::mem::take(&mut line).to_ascii_lowercase());
            }
            if head.starts_with("get") {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&body).await.unwrap();
                continue;
            }
            // In chunks: their sizes, in lines, each before its data.
            assert!(head.contains("transfer-encoding: chunked"), "{head}");
            loop {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
                let length = usize::from_str_radix(line.trim(), 16).unwrap();
                let mut chunk = vec![0; length + 2];
                stream.read_exact(&mut chunk).await.unwrap();
                if length == 0 {
                    break;
                }
                kept.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    });
    (url, put)
}

#[tokio::test]
async fn images_at_urls() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let (url, put) = web(image()).await;
    // The exporter fetches and sends them; it says how far they are.
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let observer = |told: &Arc<Mutex<Vec<Progress>>>| {
        let told = told.clone();
        move |progress| told.lock().unwrap().push(progress)
    };
    let whole = image().len() as u64;
    let source = ImageSource::url(&url).unwrap().with_observer(observer(&told));
    in_time(flasher.flash(source, None)).await.unwrap();
    let last = std::mem::take(&mut *told.lock().unwrap()).pop();
    assert_eq!(last, Some(Progress::new(whole, Some(whole))));
    assert!(dumped(&*flasher, None).await == image());
    let sink = ImageSink::url(&url).unwrap().with_observer(observer(&told));
    in_time(flasher.dump(sink, None)).await.unwrap();
    assert_eq!(told.lock().unwrap().last().map(|last| last.transferred_bytes), Some(whole));
    assert!(std::mem::take(&mut *put.lock().unwrap()) == image());
    // These have to come by here.
    let wrong = ImageSource::url(&url).unwrap().expect_sha256(OF_NOTHING).unwrap();
    let error = in_time(flasher.flash(wrong, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
    assert!(!format!("{error:?}").contains("s3cret"));
    let sink = ImageSink::url(&url).unwrap().with_encoding(Encoding::Gzip);
    in_time(flasher.dump(sink, None)).await.unwrap();
    let packed = bytes::Bytes::from(std::mem::take(&mut *put.lock().unwrap()));
    assert!(decoded(Encoding::Gzip, packed).await == image());
    served.shut_down().await;
}

#[tokio::test]
async fn an_exporter_that_fetches_says_how_far_it_is() {
    let served = Served::file(FILE).await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "flasher");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/os.img?token=s3cret", listener.local_addr().unwrap());
    let (told, mut telling) = tokio::sync::watch::channel(None);
    // It sends slowly until its client was notified, and then the rest.
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let total = 1 << 20;
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut sent = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while telling.borrow_and_update().is_none() && sent < total {
            stream.write_all(&[7; 1024]).await.unwrap();
            sent += 1024;
            tick.tick().await;
        }
        assert!(sent < total, "nothing was reported meanwhile");
        stream.write_all(&vec![7; total - sent]).await.unwrap();
    };
    let source = ImageSource::url(&url).unwrap().with_observer(move |progress| {
        told.send_replace(Some(progress));
    });
    let ((), flashed) = tokio::join!(in_time(serving), in_time(flasher.flash(source, None)));
    flashed.unwrap();
    let last = telling.borrow().unwrap();
    assert_eq!(last, Progress::new(1 << 20, Some(1 << 20)));
    served.shut_down().await;
}

async fn stub(stall: Duration, work: Duration) -> (Served, Exporter) {
    let served = Served::unix(Device::of_driver(Stub::default())).await;
    let options = served.options().stall_timeout(stall).image_timeout(work);
    let exporter = in_time(connect(&options)).await.unwrap();
    (served, exporter)
}

const LONG: Duration = support::DEADLINE;
const SHORT: Duration = Duration::from_millis(300);

fn told(served: &Served, error: &Error) -> String {
    format!("{:?}\n{}", error.kind(), error.report().replace(&served.address, "ADDRESS"))
}

#[tokio::test]
async fn a_dump_that_breaks_off_is_no_success_whatever_the_call_answers() {
    let (served, exporter) = stub(LONG, LONG).await;
    let flasher = flasher(&exporter, "");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump.img");
    let dump =
        |partition: &str| in_time(flasher.dump(ImageSink::path(&path), Some(partition.to_owned())));
    let error = dump("breaks off").await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DataLoss
    calling `dump`: receiving the image from the exporter at ADDRESS: it broke off after 14 bytes
    hint: dump it again; the exporter's log may say why
    ");
    let error = dump("gives nothing").await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DataLoss
    calling `dump`: receiving the image from the exporter at ADDRESS: it broke off after 0 bytes
    hint: dump it again; the exporter's log may say why
    ");
    // Another thread removes the staged file.
    let is_empty = || std::fs::read_dir(folder.path()).unwrap().count() == 0;
    jumpstarter_driver_testkit::eventually("an empty folder", is_empty).await;
    served.shut_down().await;
}

#[tokio::test]
async fn a_digest_that_was_not_checked_is_no_success() {
    let (served, exporter) = stub(LONG, LONG).await;
    let flasher = flasher(&exporter, "");
    let image = vec![7; 16 << 20];
    // With the stream's end, and without one.
    for target in ["reads a little", "keeps the stream"] {
        let source = || ImageSource::bytes(image.clone()).with_name("os.img");
        let flash = |source| in_time(flasher.flash(source, Some(target.to_owned())));
        let error = flash(source().expect_sha256(OF_NOTHING).unwrap()).await.unwrap_err();
        insta::allow_duplicates!(insta::assert_snapshot!(told(&served, &error), @r"
        DataLoss
        calling `flash`: sending os.img to the exporter at ADDRESS: it finished before it had all of it: the SHA-256 of the image was not checked
        hint: the device may hold another image now: flash it again
        "));
        // A caller without a digest gets the exporter's answer at once.
        flash(source()).await.unwrap();
    }
    // All was delivered when the exporter, which needed less, answered.
    let source = ImageSource::bytes("all").expect_sha256(OF_NOTHING).unwrap();
    let error = in_time(flasher.flash(source, Some("keeps the stream".into()))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss, "{error:?}");
    served.shut_down().await;
}

#[tokio::test]
async fn what_does_not_move_is_given_up() {
    let (served, exporter) = stub(SHORT, LONG).await;
    let flasher = flasher(&exporter, "");
    let source = ImageSource::bytes(vec![7; 16 << 20]).with_name("os.img");
    let error =
        in_time(flasher.flash(source, Some("hangs in the middle".into()))).await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DeadlineExceeded
    calling `flash`: sending os.img to the exporter at ADDRESS: it took nothing for 300ms
    hint: check its driver and its disk, or set a longer limit for the connection
    ");
    let sink = || ImageSink::writer(tokio::io::sink());
    let error =
        in_time(flasher.dump(sink(), Some("hangs in the middle".into()))).await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DeadlineExceeded
    calling `dump`: receiving the image from the exporter at ADDRESS: it sent nothing for 300ms
    hint: check its driver and its disk, or set a longer limit for the connection
    ");
    in_time(exporter.device().call("", "off", vec![])).await.unwrap();
    served.shut_down().await;
}

#[tokio::test]
async fn an_exporter_that_does_not_end_its_work_is_given_up() {
    let (served, exporter) = stub(LONG, SHORT).await;
    let flasher = flasher(&exporter, "");
    let error =
        in_time(flasher.flash(ImageSource::bytes("all"), Some("hangs at the end".into()))).await;
    insta::assert_snapshot!(told(&served, &error.unwrap_err()), @r"
    DeadlineExceeded
    calling `flash`: the exporter at ADDRESS did not answer within 300ms
    hint: check whether the driver is busy or hangs, or set a longer limit for the connection
    ");
    let sink = ImageSink::writer(tokio::io::sink());
    let error = in_time(flasher.dump(sink, Some("hangs at the start".into()))).await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DeadlineExceeded
    calling `dump`: receiving the image from the exporter at ADDRESS: it sent nothing for 300ms
    hint: check its driver and its disk, or set a longer limit for the connection
    ");
    let url = ImageSource::url(web(b"image".to_vec()).await.0).unwrap();
    let error = in_time(flasher.flash(url, Some("hangs at the end".into()))).await.unwrap_err();
    insta::assert_snapshot!(told(&served, &error), @r"
    DeadlineExceeded
    calling `flash`: the exporter at ADDRESS did not answer within 300ms
    hint: check whether the driver is busy or hangs, or set a longer limit for the connection
    ");
    served.shut_down().await;
}

/// A loop device; dropping it detaches it.
struct Loop(String);

impl Loop {
    /// `None` comes after a skip.
    fn new(backing: &std::path::Path) -> Option<Self> {
        let losetup = Command::new("losetup").args(["--find", "--show"]).arg(backing);
        match run_blocking(losetup, support::DEADLINE) {
            Ok(output) => Some(Self(output.stdout_text().trim().to_owned())),
            Err(error) => {
                jumpstarter_driver_testkit::skip(&format!("losetup does not work: {error}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        drop(run_blocking(Command::new("losetup").args(["--detach", &self.0]), support::DEADLINE));
    }
}

#[tokio::test]
async fn a_raw_image_that_is_too_large_for_a_remote_device_is_refused_before_the_first_write() {
    let folder = tempfile::tempdir().unwrap();
    let (backing, file) = (folder.path().join("backing"), folder.path().join("os.img"));
    std::fs::write(&backing, vec![0xff; 1 << 20]).unwrap();
    std::fs::write(&file, vec![7; 2 << 20]).unwrap();
    let Some(card) = Loop::new(&backing) else { return };
    let served = Served::file(&format!(
        "export: {{card: {{type: file-flasher, config: {{path: {}, targets: {{card: {0}}}}}}}}}",
        card.0
    ))
    .await;
    let exporter = served.connect().await;
    let flasher = flasher(&exporter, "card");
    let announced = |bytes: Vec<u8>| {
        let length = bytes.len() as u64;
        ImageSource::reader(std::io::Cursor::new(bytes), Some(length))
    };
    let untouched = || std::fs::read(&card.0).unwrap().iter().all(|byte| *byte == 0xff);
    for source in [ImageSource::path(&file), announced(vec![7; 2 << 20])] {
        let error = in_time(flasher.flash(source, None)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error:?}");
        let text = error.report();
        assert!(text.contains("the image needs 2 MiB, and the device has 1 MiB"), "{text}");
        assert!(!text.contains("torn") && untouched(), "{text}");
    }
    // Of several targets, the first is not written either.
    let both = [("card", ImageSource::path(&file))];
    let error = in_time(flash_images(&*flasher, both)).await.unwrap_err();
    let expected = "nothing was written: os.img needs 2 MiB, and the target `card` has 1 MiB";
    assert_eq!(format!("{error:#}"), expected);
    // One that fits is announced, too.
    in_time(flasher.flash(announced(vec![9; 1 << 20]), None)).await.unwrap();
    assert!(std::fs::read(&card.0).unwrap().iter().all(|byte| *byte == 9));
}
