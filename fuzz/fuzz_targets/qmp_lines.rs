//! QEMU's messages over QMP, from any bytes: a guest that broke out of it writes them. Nothing
//! panics or waits for ever, splitting the bytes changes nothing, and what is understood is
//! bounded.
#![no_main]

use std::time::Duration;

use jumpstarter_driver_qemu::qmp::{Qmp, QmpEvent};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;

const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 8}}, \"capabilities\": []}}\n";
/// The answer to the first command, which leaves the mode in which there are no others.
const READY: &[u8] = b"{\"return\": {}, \"id\": 1}\n";
/// Longer than any connection here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What came of a connection: its events, and the answer to one command; or why there is none.
#[derive(Debug, PartialEq)]
struct Heard {
    events: Vec<QmpEvent>,
    lost: u64,
    end: String,
}

/// A connection on which the bytes arrive in pieces of that size, after QEMU's greeting if
/// `greets`.
async fn connection(bytes: &[u8], piece: usize, greets: bool) -> Heard {
    let (ours, mut qemus) = tokio::io::duplex(64 * 1024);
    let bytes = bytes.to_vec();
    let qemu = tokio::spawn(async move {
        if greets {
            qemus.write_all(GREETING).await.ok();
            let mut byte = 0;
            while byte != b'\n' {
                byte = qemus.read_u8().await.unwrap_or(b'\n');
            }
            qemus.write_all(READY).await.ok();
        }
        for part in bytes.chunks(piece) {
            if qemus.write_all(part).await.is_err() {
                return;
            }
        }
        // Then it ends.
    });
    let mut heard = Heard { events: Vec::new(), lost: 0, end: String::new() };
    match Qmp::start(ours, DEADLINE).await {
        Err(error) => {
            assert!(!error.report().is_empty());
            heard.end = format!("{:?}", error.kind());
        }
        Ok(qmp) => {
            let mut events = qmp.events();
            loop {
                match events.recv().await {
                    Ok(event) => heard.events.push(event),
                    Err(RecvError::Lagged(count)) => heard.lost += count,
                    Err(RecvError::Closed) => break,
                }
            }
            heard.end = qmp.closed().await.to_string();
        }
    }
    qemu.abort();
    heard
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (greets, piece, said) = input;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let whole = tokio::time::timeout(2 * DEADLINE, connection(said, usize::MAX, greets)).await.expect("an end");
        let parts = connection(said, usize::from(piece.max(1)), greets);
        let parts = tokio::time::timeout(2 * DEADLINE, parts).await.expect("an end");
        // Else an answer may come before its question.
        if greets {
            assert_eq!(whole, parts, "where it is split changes nothing");
        }
        assert!(whole.events.iter().all(|event| event.name.len() <= said.len()));
    });
});
