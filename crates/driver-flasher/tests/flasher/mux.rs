//! The multiplexer that programs switch: scripts move a file as if it were a card.

use crate::drivers::open;
use crate::support::{Bench, image, stuck};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{StorageMuxConfig, StorageMuxDriver};
use jumpstarter_driver_testkit::eventually;
use serde_json::json;

/// More than a program takes on a busy machine.
const LONG: &str = "60s";
/// For what does not come in time: a program has this long, too.
const SHORT: &str = "10s";

/// The host has the card as `card`, the device as `in-device`.
async fn mux(bench: &Bench, host: &str, timeout: &str) -> StorageMuxDriver {
    bench.file("in-device", b"old card");
    let (card, device) = (bench.path("card"), bench.path("in-device"));
    let (card, device) = (card.display().to_string(), device.display().to_string());
    let give = format!(
        "echo dut >> '{}'; mv -f '{card}' '{device}' 2>/dev/null; true",
        bench.path("log").display()
    );
    let host = host.replace("TAKE", &format!("mv '{device}' '{card}'"));
    let config = json!({
        "host": ["sh", "-c", host], "dut": ["sh", "-c", give], "off": ["false"],
        "path": card, "timeout": timeout, "verify": true,
    });
    open::<StorageMuxConfig>(config).await.unwrap()
}

#[tokio::test]
async fn a_flash_takes_the_card_and_gives_it_back() {
    let bench = Bench::new();
    let mux = mux(&bench, "TAKE", LONG).await;
    let plain = image(3 << 20);
    mux.flash(ImageSource::bytes(plain.clone()), None).await.unwrap();
    assert!(std::fs::read(bench.path("in-device")).unwrap() == plain);
    assert!(!bench.path("card").exists());
    mux.dump(ImageSink::path(bench.path("back")), None).await.unwrap();
    assert!(std::fs::read(bench.path("back")).unwrap() == plain);
    assert!(bench.path("in-device").exists());

    let error = mux.write(ImageSource::bytes("new")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error:?}");
    mux.host().await.unwrap();
    std::fs::remove_file(bench.path("card")).unwrap();
    let error = mux.write(ImageSource::bytes("new")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!bench.path("card").exists(), "no file in the card's place");
}

#[tokio::test]
async fn a_card_that_appears_late_is_awaited_and_one_that_does_not_is_an_error() {
    let bench = Bench::new();
    // The program ends, and then the card comes.
    let switched = bench.path("switched");
    let late = mux(&bench, &format!("echo >'{}'", switched.display()), LONG).await;
    let inserting = async {
        eventually("the program ran", || switched.exists()).await;
        std::fs::rename(bench.path("in-device"), bench.path("card")).unwrap();
    };
    let (flashed, ()) = tokio::join!(late.flash(ImageSource::bytes("new"), None), inserting);
    flashed.unwrap();
    assert_eq!(std::fs::read(bench.path("in-device")).unwrap(), b"new");
    let without = mux(&bench, "true", SHORT).await;
    let error = without.flash(ImageSource::bytes("new"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.report().contains("is not there after 10s"), "{error:?}");
}

#[tokio::test]
async fn what_a_program_says_is_in_the_error() {
    let bench = Bench::new();
    let failing = mux(&bench, "echo no such relay; exit 3", LONG).await;
    let error = failing.flash(ImageSource::bytes("new"), None).await.unwrap_err();
    assert!(error.report().contains("exit code 3): no such relay"), "{error:?}");
    assert_eq!(std::fs::read_to_string(bench.path("log")).unwrap(), "dut\n", "given back");
    let error = failing.off().await.unwrap_err();
    assert!(error.report().contains("running `off`"), "{error:?}");
    let started = bench.path("started");
    let script = format!("sleep 600 & echo $! >'{}'; wait", started.display());
    let slow = mux(&bench, &script, SHORT).await;
    let error = slow.host().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error:?}");
    let started = std::fs::read_to_string(started).unwrap();
    let process = std::path::Path::new("/proc").join(started.trim());
    eventually("what it started is killed, too", || !process.exists()).await;
}

#[tokio::test]
async fn a_cancelled_flash_gives_the_card_back() {
    let bench = Bench::new();
    let mux = mux(&bench, "TAKE", LONG).await;
    let flashing = tokio::spawn(async move { mux.flash(stuck(image(2 << 20)), None).await });
    eventually("the host has the card", || bench.path("card").exists()).await;
    flashing.abort();
    eventually("the device has the card", || bench.path("in-device").exists()).await;
}

#[tokio::test]
async fn a_card_that_is_removed_before_the_first_byte_gets_no_file_in_its_place() {
    let bench = Bench::new();
    let mux = mux(&bench, "TAKE", LONG).await;
    mux.host().await.unwrap();
    let card = bench.path("card");
    let removed = card.clone();
    let source = futures_util::stream::once(async move {
        std::fs::remove_file(removed).unwrap();
        Ok(bytes::Bytes::from_static(b"new"))
    });
    let error = mux.write(ImageSource::stream(source, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!card.exists());
}
