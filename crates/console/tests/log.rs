//! Shared consoles.

use std::sync::Arc;

use jumpstarter_console::{Console, ConsoleLog, ReadFrom};
use jumpstarter_driver_core::{ByteSize, Channel, ErrorKind, Framing, Serial};
use jumpstarter_driver_serial::{SerialAddress, SerialConfig, SerialPort};
use jumpstarter_driver_testkit::serial::{LONG, Pty, ended, receive, timely};
use jumpstarter_driver_testkit::{eventually, eventually_some};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc};

#[tokio::test]
async fn several_clients_share_a_terminal() {
    let pty = Pty::open();
    let log = ConsoleLog::new(SerialPort::device(&pty.path).connect().await.unwrap());
    let (mut one, mut two) = (log.attach(), log.attach());
    pty.write(b"boot\r\n").await;
    assert_eq!(receive(&mut one, 6).await, b"boot\r\n");
    assert_eq!(receive(&mut two, 6).await, b"boot\r\n");
    one.send("from one").await.unwrap();
    assert_eq!(pty.read(8).await, b"from one");
    // One that goes concerns nobody else; one that comes later may ask for what was said.
    one.finish().await.unwrap();
    drop(one);
    two.send("from two").await.unwrap();
    assert_eq!(pty.read(8).await, b"from two");
    assert_eq!(receive(&mut log.attach_from(ReadFrom::Start), 6).await, b"boot\r\n");
    assert_eq!(receive(&mut log.attach_from(ReadFrom::Last(2)), 2).await, b"\r\n");
    drop(pty);
    ended(&mut two).await;
    assert!(log.ended());
    assert_eq!(log.last_lines(1), "boot");
    assert_eq!(log.writer().send("x").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost_and_delays_nobody() {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let log = ConsoleLog::with_scrollback(ours, ByteSize::bytes(100));
    let mut slow = log.read(ReadFrom::Start);
    let mut writer_is_never_blocked = 0_u64;
    for _ in 0..1000 {
        timely(device.send(vec![b'.'; 50])).await.unwrap();
        writer_is_never_blocked += 50;
    }
    device.send("end").await.unwrap();
    eventually("all was read", || log.total_bytes() == writer_is_never_blocked + 3).await;
    let chunk = slow.next().await.unwrap().unwrap();
    assert_eq!((chunk.offset, chunk.skipped, chunk.bytes.len()), (49_903, 49_903, 100));
    assert!(chunk.bytes.ends_with(b".end"));
    assert_eq!(log.dropped_bytes(), 49_903);
    assert_eq!(slow.offset(), log.total_bytes());
    drop(device);
    assert_eq!(timely(slow.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_device_that_is_not_read_from_does_not_block_writers_and_the_other_way_round() {
    // The loopback takes input only while its output is read, which the log does whether or not
    // anybody listens.
    let log = ConsoleLog::new(SerialPort::loopback().connect().await.unwrap());
    let mut client = log.attach();
    for _ in 0..64 {
        timely(client.send(vec![b'x'; 16 * 1024])).await.unwrap();
    }
    eventually("all came back", || log.total_bytes() == 1 << 20).await;
}

#[tokio::test]
async fn dropping_the_log_closes_the_source_and_ends_the_clients() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let log = ConsoleLog::new(SerialPort::unix_socket(&path).connect().await.unwrap());
    let (mut device, _) = listener.accept().await.unwrap();
    let (mut client, mut reader, writer) = (log.attach(), log.read(ReadFrom::Now), log.writer());
    let other_handle = log.clone();
    drop(log);
    assert!(!other_handle.ended());
    drop(other_handle);
    let mut rest = Vec::new();
    timely(device.read_to_end(&mut rest)).await.unwrap();
    ended(&mut client).await;
    assert_eq!(timely(reader.next()).await.unwrap(), None);
    assert_eq!(timely(writer.send("x")).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_writer_that_waits_for_a_dead_console_ends() {
    let (device, ours) = Channel::pair(Framing::Bytes);
    let log = ConsoleLog::new(ours);
    let writer = log.writer();
    let flood = tokio::spawn(async move {
        loop {
            if let Err(error) = writer.send("x").await {
                return error.kind();
            }
        }
    });
    drop(device);
    assert_eq!(timely(flood).await.unwrap(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_last_words_of_a_device_that_takes_no_input_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let log = ConsoleLog::new(SerialPort::unix_socket(&path).connect().await.unwrap());
    let (mut device, _) = listener.accept().await.unwrap();
    rustix::net::shutdown(&device, rustix::net::Shutdown::Read).unwrap();
    let writer = log.writer();
    let refused = async {
        loop {
            if let Err(error) = writer.send("help").await {
                return error;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timely(refused).await.kind(), ErrorKind::Unavailable);
    device.write_all(b"Kernel panic").await.unwrap();
    let mut console = Console::new(log.attach_from(ReadFrom::Start));
    console.wait_for("Kernel panic", LONG).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_waits_learns_that_the_device_takes_no_more() {
    let (device, ours) = Channel::pair(Framing::Bytes);
    let (reader, _writer) = device.split();
    let log = ConsoleLog::new(ours);
    let writer = log.writer();
    let (full, mut filled) = mpsc::unbounded_channel();
    let flood = tokio::spawn(async move {
        loop {
            full.send(()).unwrap();
            if let Err(error) = writer.send("x").await {
                return error.kind();
            }
        }
    });
    // What the pair holds, and one that waits.
    for _ in 0..16 + 1 {
        timely(filled.recv()).await.unwrap();
    }
    drop(reader);
    assert_eq!(timely(flood).await.unwrap(), ErrorKind::Unavailable);
    assert!(!log.ended());
}

#[tokio::test]
async fn clients_stay_when_the_source_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serial.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut config = SerialConfig::new(SerialAddress::Unix(path));
    config.reconnect = false;
    let port = Arc::new(SerialPort::new(config));
    let first = port.connect().await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    // The machine is started again whenever the test says so.
    let (start, started) = mpsc::channel::<()>(1);
    let started = Arc::new(Mutex::new(started));
    let reconnect = Box::new(move |_| {
        let (port, started) = (Arc::clone(&port), Arc::clone(&started));
        Box::pin(async move {
            match started.lock().await.recv().await {
                Some(()) => port.connect().await.map(Some),
                None => Ok(None),
            }
        }) as _
    });
    let log = ConsoleLog::reconnecting(first, ByteSize::mebibytes(1), reconnect);
    let mut console = Console::new(log.attach());
    device.write_all(b"first boot\r\n").await.unwrap();
    console.wait_for("first boot", LONG).await.unwrap();
    // It stops taking input before it goes: that must not stick.
    rustix::net::shutdown(&device, rustix::net::Shutdown::Read).unwrap();
    timely(async {
        while console.send("").await.is_ok() && log.writer().send("x").await.is_ok() {}
    })
    .await;
    drop(device);
    // Nor does it once the source has ended: what is written then is for the next one.
    eventually_some("writes are queued", async || log.writer().send("queued ").await.ok()).await;
    start.send(()).await.unwrap();
    let (mut device, _) = listener.accept().await.unwrap();
    device.write_all(b"second boot\r\n").await.unwrap();
    console.wait_for("second boot", LONG).await.unwrap();
    console.send_line("hello").await.unwrap();
    let mut line = [0; 13];
    timely(device.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"queued hello\r");
    assert!(!log.ended());
    drop(start);
    drop(device);
    assert_eq!(
        console.wait_for("third boot", LONG).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert!(log.ended());
}

#[tokio::test]
async fn a_terminal_is_not_asked_again_what_the_device_asked_before() {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let log = ConsoleLog::new(ours);
    let said = b"\x1b[1mU-Boot\x1b[0m\x1b[6n\r\n\x1b]11;?\x07\x1bP$qm\x1b\\\x1b[c=> \x1b[3";
    device.send(&said[..]).await.unwrap();
    eventually("all was read", || log.total_bytes() == said.len() as u64).await;
    let mut late = log.attach_from(ReadFrom::Start);
    let mut past = b"\x1b[1mU-Boot\x1b[0m\r\n=> \x1b[3".to_vec();
    assert_eq!(
        receive(&mut late, past.len()).await.escape_ascii().to_string(),
        past.escape_ascii().to_string()
    );
    // From now on everything is as the device says it.
    device.send("1m\x1b[6n\x05").await.unwrap();
    assert_eq!(receive(&mut late, 7).await, b"1m\x1b[6n\x05");
    // The past of the next one is longer; who reads the log itself has every byte.
    past.extend(b"1m");
    let mut later = log.attach_from(ReadFrom::Start);
    assert_eq!(
        receive(&mut later, past.len()).await.escape_ascii().to_string(),
        past.escape_ascii().to_string()
    );
    let every = log.read(ReadFrom::Start).next().await.unwrap().unwrap().bytes;
    assert_eq!(every.len(), said.len() + 7);
}

#[tokio::test]
async fn a_slow_client_sees_a_note_in_place_of_what_it_lost() {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let log = ConsoleLog::with_scrollback(ours, ByteSize::bytes(100));
    let mut slow = log.attach();
    device.send(vec![b'.'; 150]).await.unwrap();
    eventually("all was read", || log.total_bytes() == 150).await;
    let seen = timely(slow.receive()).await.unwrap().unwrap();
    let note = "\r\n--- 50 bytes are lost: this client reads too slowly ---\r\n";
    assert_eq!(seen, [note.as_bytes(), &[b'.'; 100]].concat());
}
