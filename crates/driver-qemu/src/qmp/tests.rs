//! QMP against the real QEMU, and against a fake one for messages that the real one does not send.

use std::os::fd::AsRawFd;

use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::guest::{Arch, qemu_available};
use jumpstarter_supervise::{Child, Command, StopPlan};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::UnixStream;

use super::*;

const LONG: Duration = Duration::from_secs(120);
const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"major": 99}, "new": 1}, "capabilities": ["oob"], "new": 2}}"#;

/// Without a machine: starts in milliseconds.
async fn real() -> (Child, Qmp) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let chardev = format!("socket,id=qmp,fd={}", theirs.as_raw_fd());
    let child = Command::new("qemu-system-x86_64")
        .args(["-M", "none", "-nodefaults", "-display", "none", "-S"])
        .args(["-chardev", &chardev, "-mon", "chardev=qmp,mode=control"])
        .keep_fd(theirs.into())
        .spawn()
        .await
        .unwrap();
    ours.set_nonblocking(true).unwrap();
    let qmp = Qmp::start(UnixStream::from_std(ours).unwrap(), LONG).await.unwrap();
    (child, qmp)
}

/// The far end of a connection: the test decides what is sent.
struct Fake {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
}

impl Fake {
    fn new() -> (DuplexStream, Self) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(theirs);
        (ours, Self { reader: BufReader::new(reader), writer })
    }

    /// Greets, and takes the first command.
    async fn started() -> (Qmp, Self) {
        let (stream, mut fake) = Self::new();
        let greet = async {
            fake.send(GREETING).await;
            fake.answer("qmp_capabilities", json!({})).await;
        };
        let (qmp, ()) = tokio::join!(Qmp::start(stream, LONG), greet);
        (qmp.unwrap(), fake)
    }

    async fn send(&mut self, line: &str) {
        self.writer.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    /// The next command and its number.
    async fn command(&mut self) -> (String, u64) {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).await.unwrap() > 0);
        let command: Value = serde_json::from_str(&line).unwrap();
        (command["execute"].as_str().unwrap().to_owned(), command["id"].as_u64().unwrap())
    }

    async fn answer(&mut self, name: &str, value: Value) {
        let (command, id) = self.command().await;
        assert_eq!(command, name);
        self.send(&json!({"return": value, "id": id, "new": true}).to_string()).await;
    }
}

fn ask(qmp: &Qmp, name: &'static str) -> tokio::task::JoinHandle<Result<Value>> {
    let qmp = qmp.clone();
    tokio::spawn(async move { qmp.execute_value(name, json!({}), LONG).await })
}

#[tokio::test]
async fn the_real_one_answers_refuses_and_ends() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let (child, qmp) = real().await;
    assert!(qmp.version()["qemu"]["major"].as_u64().unwrap() >= 4);
    let mut events = qmp.events();
    let status = qmp.execute(qapi::qmp::query_status {}, LONG).await.unwrap();
    assert!(!status.running);
    qmp.execute(qapi::qmp::cont {}, LONG).await.unwrap();
    assert_eq!(events.recv().await.unwrap().name, "RESUME");
    // The longest known answer.
    let schema = qmp.execute_value("query-qmp-schema", json!({}), LONG).await.unwrap();
    assert!(schema.as_array().unwrap().len() > 500);

    let error = qmp.execute_value("no-such-command", json!({}), LONG).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unimplemented && error.to_string().contains("no-such-command"),
        "{error:?}"
    );
    let error = qmp.execute_value("eject", json!({"id": "no-such"}), LONG).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::FailedPrecondition),
        "{error:?}"
    );

    qmp.execute(qapi::qmp::quit {}, LONG).await.unwrap();
    tokio::time::timeout(LONG, child.wait()).await.unwrap();
    let reason = tokio::time::timeout(LONG, qmp.closed()).await.unwrap();
    assert!(reason.contains("closed"), "{reason}");
    let mut last = None;
    while let Ok(event) = events.recv().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("SHUTDOWN", &json!("host-qmp-quit")));
    assert!(last.timestamp.unwrap().elapsed().unwrap() < LONG);
    let error = qmp.execute(qapi::qmp::query_status {}, LONG).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains(&*reason),
        "{error:?}"
    );
    assert!(qmp.events().recv().await.is_err());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn when_the_process_dies_every_call_ends_at_once() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let (child, qmp) = real().await;
    // A stopped process answers nothing.
    child.signal(jumpstarter_supervise::Signal::STOP);
    let stat = format!("/proc/{}/stat", child.pid());
    let stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
    eventually("a stopped process", stopped).await;
    let calls: Vec<_> = (0..10).map(|_| ask(&qmp, "query-status")).collect();
    child.stop(StopPlan::new()).await.unwrap();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn cancelled_calls_leave_the_connection_usable() {
    if !qemu_available(Arch::X86_64) {
        return;
    }
    let (child, qmp) = real().await;
    for wait in 0..50 {
        let call =
            qmp.execute_value("query-qmp-schema", json!({}), Duration::from_micros(wait * 20));
        drop(call.await);
        assert!(!qmp.execute(qapi::qmp::query_status {}, LONG).await.unwrap().running);
    }
    child.stop(StopPlan::new()).await.unwrap();
}

#[tokio::test]
async fn what_a_newer_qemu_says_does_no_harm() {
    let (qmp, mut fake) = Fake::started().await;
    assert_eq!(qmp.version()["qemu"]["major"], 99);
    let mut events = qmp.events();
    fake.send(r#"{"event": "NEW_THING", "data": {"a": [1]}, "timestamp": {"seconds": -1, "microseconds": -1}, "x": 1}"#).await;
    fake.send(r#"{"event": "BARE"}"#).await;
    fake.send(r#"{"something": "else"}"#).await;
    fake.send("").await;
    let expected = QmpEvent { name: "NEW_THING".into(), data: json!({"a": [1]}), timestamp: None };
    assert_eq!(events.recv().await.unwrap(), expected);
    assert_eq!(
        events.recv().await.unwrap(),
        QmpEvent { name: "BARE".into(), data: Value::Null, timestamp: None }
    );

    let typed =
        |qmp: Qmp| tokio::spawn(async move { qmp.execute(qapi::qmp::query_status {}, LONG).await });
    let call = typed(qmp.clone());
    fake.answer(
        "query-status",
        json!({"running": true, "status": "running", "new": 1, "singlestep": false}),
    )
    .await;
    assert!(call.await.unwrap().unwrap().running);
    // A misfit answer fails its own call, and no other.
    let call = typed(qmp.clone());
    fake.answer("query-status", json!({"running": true, "status": "levitating"})).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::DataLoss && format!("{error:#}").contains("levitating"),
        "{error:?}"
    );
    let call = ask(&qmp, "query-status");
    let (_, id) = fake.command().await;
    fake.send(&json!({"error": {"class": "NewClass", "desc": "no"}, "id": id}).to_string()).await;
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::FailedPrecondition);
}

#[tokio::test]
async fn answers_find_who_asked() {
    let (qmp, mut fake) = Fake::started().await;
    let (first, second) = (ask(&qmp, "first"), ask(&qmp, "second"));
    let commands = [fake.command().await, fake.command().await];
    // For no request, for one that was answered before, for an invalid number; then in the other
    // order.
    fake.send(r#"{"return": 0, "id": 4711}"#).await;
    fake.send(r#"{"return": 0, "id": 1}"#).await;
    fake.send(r#"{"return": 0, "id": "x"}"#).await;
    fake.send(r#"{"return": 0}"#).await;
    for (name, id) in commands.iter().rev() {
        fake.send(&json!({"return": name, "id": id}).to_string()).await;
    }
    assert_eq!(
        (first.await.unwrap().unwrap(), second.await.unwrap().unwrap()),
        (json!("first"), json!("second"))
    );

    // An overdue call: its number is not used again, so its late answer is ignored.
    let error = qmp.execute_value("slow", json!({}), Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let next = ask(&qmp, "next");
    let mut command = fake.command().await;
    if command.0 == "slow" {
        fake.send(&json!({"return": "late", "id": command.1}).to_string()).await;
        command = fake.command().await;
    }
    fake.send(&json!({"return": "next", "id": command.1}).to_string()).await;
    assert_eq!(next.await.unwrap().unwrap(), "next");
}

/// Sends `bytes` during a call, and ends the connection if requested: the call must fail for this
/// reason.
async fn check_end(bytes: Vec<u8>, end: bool, expected: &str) {
    let (qmp, mut fake) = Fake::started().await;
    let call = ask(&qmp, "query-status");
    fake.command().await;
    // The other side may stop reading halfway.
    fake.writer.write_all(&bytes).await.ok();
    if end {
        fake.writer.shutdown().await.ok();
    }
    let error = tokio::time::timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unavailable && error.to_string().contains(expected),
        "{error:?}"
    );
    assert!(qmp.closed_reason().unwrap().contains(expected));
}

#[tokio::test]
async fn the_end_has_a_reason() {
    check_end(b"".to_vec(), true, "closed the connection").await;
    check_end(b"{\"return\": {}, \"i".to_vec(), true, "in the middle of a message").await;
    check_end(b"\x00garbage\xff\n".to_vec(), false, "garbage").await;
    check_end(b"[1]\n".to_vec(), false, "no QMP message").await;
    check_end(vec![b' '; lines::LINE_LIMIT + (1 << 17)], false, "more than 16 MiB").await;
}

#[tokio::test]
async fn a_message_may_be_split_anywhere() {
    let (qmp, mut fake) = Fake::started().await;
    let mut events = qmp.events();
    let text = "{\"event\": \"É\", \"data\": \"\\n\"}\n{\"event\": \"B\"}\n".as_bytes();
    for at in 0..text.len() {
        for part in [&text[..at], &text[at..]] {
            fake.writer.write_all(part).await.unwrap();
            // The reader gets the first part before the rest arrives.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        assert_eq!(events.recv().await.unwrap().name, "É");
        assert_eq!(events.recv().await.unwrap().name, "B");
    }
}

#[tokio::test]
async fn no_greeting() {
    let (stream, _fake) = Fake::new();
    let error = Qmp::start(stream, Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let (stream, fake) = Fake::new();
    drop(fake);
    assert_eq!(Qmp::start(stream, LONG).await.unwrap_err().kind(), ErrorKind::Unavailable);
    for wrong in ["SSH-2.0-OpenSSH_9.2", "{\"hello\": 1}"] {
        let (stream, mut fake) = Fake::new();
        fake.send(wrong).await;
        let error = Qmp::start(stream, LONG).await.unwrap_err();
        assert!(error.kind() == ErrorKind::DataLoss && error.hint().is_some(), "{error:?}");
    }
}

#[tokio::test]
async fn dropping_the_last_handle_closes() {
    let (qmp, mut fake) = Fake::started().await;
    drop(qmp.clone());
    let call = ask(&qmp, "query-status");
    fake.answer("query-status", json!(1)).await;
    call.await.unwrap().unwrap();
    drop(qmp);
    let mut rest = String::new();
    assert_eq!(
        tokio::time::timeout(LONG, fake.reader.read_line(&mut rest)).await.unwrap().unwrap(),
        0
    );
}
