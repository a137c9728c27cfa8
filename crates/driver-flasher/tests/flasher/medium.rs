//! A driver's own medium: what it is asked for, in which order, and what it gets.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_flasher::{CopyImage, ImageMedium, Turn, WriteOptions, write_image_to};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;

use crate::support::{Bench, image, stuck, tool};

const DEADLINE: Duration = Duration::from_secs(60);

/// The image that was put in place.
type Committed = Arc<Mutex<Option<Vec<u8>>>>;
/// What a medium was asked for, beside writing.
type Steps = mpsc::UnboundedReceiver<&'static str>;

/// Keeps an image in memory.
struct Memory {
    staged: Vec<u8>,
    refuses: bool,
    committed: Committed,
    steps: mpsc::UnboundedSender<&'static str>,
}

impl Memory {
    fn new() -> (Self, Committed, Steps) {
        let (steps, seen) = mpsc::unbounded_channel();
        let committed = Committed::default();
        let memory =
            Self { staged: Vec::new(), refuses: false, committed: committed.clone(), steps };
        (memory, committed, seen)
    }
}

impl ImageMedium for Memory {
    fn begin(&mut self) -> Result<()> {
        self.steps.send("begin").ok();
        Ok(())
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        assert_eq!(offset, self.staged.len() as u64, "in order and without gaps");
        self.staged.extend_from_slice(bytes);
        Ok(())
    }
    fn inspect(&mut self, length: u64) -> Result<()> {
        assert_eq!(length, self.staged.len() as u64);
        self.steps.send("inspect").ok();
        match self.refuses {
            true => Err(Error::invalid_argument("no firmware")),
            false => Ok(()),
        }
    }
    fn commit(self, _: u64, turn: &Turn) -> Result<()> {
        assert!(turn.is_wanted());
        self.steps.send("commit").ok();
        *self.committed.lock().unwrap() = Some(self.staged);
        Ok(())
    }
    fn discard(self) {
        self.steps.send("discard").ok();
    }
}

async fn all(mut seen: Steps) -> Vec<&'static str> {
    let mut steps = Vec::new();
    let collect = async {
        while let Some(step) = seen.recv().await {
            steps.push(step);
        }
    };
    tokio::time::timeout(DEADLINE, collect).await.unwrap();
    steps
}

#[tokio::test]
async fn an_image_is_staged_inspected_and_committed() {
    let bench = Bench::new();
    let mut plain = image(3 << 20);
    plain[1 << 20..2 << 20].fill(0);
    let packed = tool("gzip", &["-c"], &bench.file("plain", &plain));
    for delivered in [plain.clone(), packed] {
        let (memory, committed, seen) = Memory::new();
        let (told, mut progress) = mpsc::unbounded_channel();
        let length = delivered.len() as u64;
        let source = ImageSource::bytes(delivered).with_observer(move |progress| {
            told.send(progress.transferred_bytes).ok();
        });
        let (source, digest) = source.report_sha256();
        let report = write_image_to(source, memory, WriteOptions::default()).await.unwrap();
        assert_eq!((report.bytes_read, report.bytes_written), (length, plain.len() as u64));
        assert_eq!(digest.sha256(), report.sha256);
        assert!(committed.lock().unwrap().as_ref() == Some(&plain));
        assert_eq!(all(seen).await, ["begin", "inspect", "commit"]);
        let mut last = None;
        while let Some(bytes) = progress.recv().await {
            last = Some(bytes);
        }
        assert_eq!(last, Some(length));
    }
}

#[tokio::test]
async fn what_is_wrong_is_discarded() {
    let wrong_digest = ImageSource::bytes("firmware").expect_sha256("0".repeat(64)).unwrap();
    let source = || ImageSource::bytes("firmware");
    let limited = WriteOptions::default().limit_bytes(4);
    for (source, refuses, options, kind, expected) in [
        (
            wrong_digest,
            false,
            WriteOptions::default(),
            ErrorKind::DataLoss,
            &["begin", "discard"][..],
        ),
        (
            source(),
            true,
            WriteOptions::default(),
            ErrorKind::InvalidArgument,
            &["begin", "inspect", "discard"],
        ),
        (source(), false, limited, ErrorKind::ResourceExhausted, &[]),
        (ImageSource::bytes(""), false, WriteOptions::default(), ErrorKind::DataLoss, &[]),
    ] {
        let (mut memory, committed, seen) = Memory::new();
        memory.refuses = refuses;
        let error = write_image_to(source, memory, options).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(all(seen).await, expected, "{error:?}");
        assert!(committed.lock().unwrap().is_none());
    }
}

#[tokio::test]
async fn what_is_cancelled_is_discarded() {
    let (memory, committed, mut seen) = Memory::new();
    let write = write_image_to(stuck(image(1 << 20)), memory, WriteOptions::default());
    let mut write = Box::pin(write);
    tokio::select! {
        ended = &mut write => panic!("{ended:?}"),
        step = tokio::time::timeout(DEADLINE, seen.recv()) => assert_eq!(step.unwrap(), Some("begin")),
    }
    drop(write);
    assert_eq!(all(seen).await, ["discard"]);
    assert!(committed.lock().unwrap().is_none());
}

/// Notes what it gets, and whether it was shut down.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<(Vec<u8>, bool)>>);

impl AsyncWrite for Receiver {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().1 = true;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_copy_is_decompressed_and_shut_down_only_when_it_is_whole() {
    let bench = Bench::new();
    let plain = image(3 << 20);
    let packed = tool("gzip", &["-c"], &bench.file("plain", &plain));
    let receiver = Receiver::default();
    let source = ImageSource::bytes(packed.clone());
    source.copy_to(receiver.clone(), WriteOptions::default()).await.unwrap();
    assert!(*receiver.0.lock().unwrap() == (plain, true));

    let receiver = Receiver::default();
    let source = ImageSource::bytes(packed).expect_sha256("0".repeat(64)).unwrap();
    let error = source.copy_to(receiver.clone(), WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DataLoss);
    assert!(!receiver.0.lock().unwrap().1);
}

#[tokio::test]
async fn a_cancelled_copy_lets_go_of_a_writer_that_takes_nothing() {
    let (writer, mut reader) = tokio::io::duplex(16);
    let copy = ImageSource::bytes(image(1 << 20)).copy_to(writer, WriteOptions::default());
    let mut copy = Box::pin(copy);
    let mut first = [0; 16];
    tokio::select! {
        ended = &mut copy => panic!("{ended:?}"),
        read = tokio::time::timeout(DEADLINE, reader.read_exact(&mut first)) => drop(read.unwrap().unwrap()),
    }
    drop(copy);
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, reader.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.len() < 1 << 20, "{}", rest.len());
}
