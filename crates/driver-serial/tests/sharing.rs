//! Many clients of one port, and a device that goes away and comes back.

use std::path::Path;

use jumpstarter_console::{Console, SerialExt};
use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_serial::{SerialConfig, SerialPort};
use jumpstarter_driver_testkit::eventually;
use jumpstarter_driver_testkit::serial::{LONG, Pty, ended, receive, timely};

fn config(url: &Path, more: serde_json::Value) -> SerialConfig {
    let mut value = more;
    value["url"] = serde_json::json!(url);
    serde_json::from_value(value).expect("a configuration")
}

#[tokio::test]
async fn each_client_gets_everything_from_its_connection_on() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let mut one = port.connect().await.unwrap();
    pty.write(b"boot\r\n").await;
    assert_eq!(receive(&mut one, 6).await, b"boot\r\n");
    let mut two = port.connect().await.unwrap();
    assert_eq!(port.open_connections(), 2);
    pty.write(b"login: ").await;
    assert_eq!(receive(&mut one, 7).await, b"login: ");
    assert_eq!(receive(&mut two, 7).await, b"login: ");
    // A half that is kept keeps its client.
    let (reader, writer) = one.split();
    drop(reader);
    assert_eq!(port.open_connections(), 2);
    drop(writer);
    assert_eq!(port.open_connections(), 1);
    two.send("root\r").await.unwrap();
    assert_eq!(pty.read(5).await, b"root\r");
}

#[tokio::test]
async fn writes_of_several_clients_do_not_interleave() {
    const TIMES: usize = 50;
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let mut writers = Vec::new();
    for letter in [b'a', b'b', b'c'] {
        let mut client = port.connect().await.unwrap();
        writers.push(tokio::spawn(async move {
            for _ in 0..TIMES {
                client.send(vec![letter; 100]).await.unwrap();
            }
        }));
    }
    let said = pty.read(3 * TIMES * 100).await;
    assert!(said.chunks(100).all(|write| write.iter().all(|byte| *byte == write[0])));
    for writer in writers {
        timely(writer).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_sent_before_the_last_client_left_reaches_the_device() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    for _ in 0..20 {
        let mut client = port.connect().await.unwrap();
        client.send("reboot\r").await.unwrap();
        drop(client);
        assert_eq!(pty.read(7).await, b"reboot\r");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody() {
    let pty = Pty::open();
    let port = SerialPort::device(&pty.path);
    let mut idle = port.connect().await.unwrap();
    let mut reading = port.connect().await.unwrap();
    let line = [b'x'; 1024];
    for _ in 0..2048 {
        pty.write(&line).await;
        assert_eq!(receive(&mut reading, 1024).await, line);
    }
    // Of two MiB the last one is kept.
    let first = timely(idle.receive()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&first);
    assert!(
        text.contains("--- 1048576 bytes are lost: this client reads too slowly ---"),
        "{text:.99}"
    );
}

#[tokio::test]
async fn a_device_that_comes_back_is_followed_and_the_gap_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let first = Pty::open();
    std::os::unix::fs::symlink(&first.path, &link).unwrap();
    let port = SerialPort::device(&link);
    let (mut one, mut two) = (port.expect().await.unwrap(), port.expect().await.unwrap());
    first.write(b"before").await;
    one.wait_for("before", LONG).await.unwrap();
    std::fs::remove_file(&link).unwrap();
    drop(first);
    for console in [&mut one, &mut two] {
        console.wait_for("ttyUSB0 went away; waiting for it ---", LONG).await.unwrap();
    }
    let second = Pty::open();
    std::os::unix::fs::symlink(&second.path, &link).unwrap();
    for console in [&mut one, &mut two] {
        console.wait_for_regex(r"ttyUSB0 is back after \d+\.\d s ---", LONG).await.unwrap();
    }
    second.write(b"after").await;
    one.wait_for("after", LONG).await.unwrap();
    two.wait_for("after", LONG).await.unwrap();
    one.send("hello").await.unwrap();
    assert_eq!(second.read(5).await, b"hello");
    assert_eq!(port.open_connections(), 2);
}

#[tokio::test]
async fn without_reconnect_the_end_of_the_device_is_the_end_of_its_clients() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let pty = Pty::open();
    std::os::unix::fs::symlink(&pty.path, &link).unwrap();
    let port = SerialPort::new(config(&link, serde_json::json!({ "reconnect": false })));
    let mut client = port.connect().await.unwrap();
    drop(pty);
    ended(&mut client).await;
    assert_eq!(client.send("x").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn with_scrollback_the_device_is_read_before_the_first_client() {
    let pty = Pty::open();
    let port = config(&pty.path, serde_json::json!({ "scrollback": "8" }));
    let port = port.open(OpenContext::at("board.console")).await.unwrap();
    pty.write(b"U-Boot 2024.01").await;
    let seen = async || {
        let mut console = port.expect().await.unwrap();
        console.wait_for("2024.01", LONG).await.map(|found| found.before)
    };
    eventually("the output was read", || port_has(&port, 14)).await;
    assert_eq!(timely(seen()).await.unwrap(), b" ");
    // The device stays open without a client, and `close` ends only the clients.
    let mut client = port.connect().await.unwrap();
    assert_eq!(receive(&mut client, 8).await, b" 2024.01");
    Serial::close(&port).await.unwrap();
    ended(&mut client).await;
    assert!(client.send("x").await.is_err());
    assert_eq!(timely(seen()).await.unwrap(), b" ");
    Driver::close(&port).await.unwrap();
    // Another port can have the device now.
    SerialPort::device(&pty.path).connect().await.unwrap();
}

fn port_has(port: &SerialPort, count: usize) -> bool {
    format!("{port:?}").contains(&format!("{count} bytes"))
}

#[tokio::test]
async fn with_scrollback_a_missing_device_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("ttyUSB0");
    let more = serde_json::json!({ "scrollback": "1M", "check_present": false });
    let port = config(&link, more.clone()).open(OpenContext::at("board.console")).await.unwrap();
    let mut console: Console = port.expect().await.unwrap();
    console.wait_for("ttyUSB0 is not there yet; waiting for it ---", LONG).await.unwrap();
    let pty = Pty::open();
    std::os::unix::fs::symlink(&pty.path, &link).unwrap();
    console.wait_for("is back after", LONG).await.unwrap();
    pty.write(b"login: ").await;
    console.wait_for("login: ", LONG).await.unwrap();
    // Otherwise it has to be there.
    let missing = folder.path().join("ttyUSB1");
    let port = config(&missing, serde_json::json!({ "scrollback": "1M" }));
    let error = port.open(OpenContext::at("board.console")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_log_file_has_every_line_with_its_time() {
    let pty = Pty::open();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let port = config(&pty.path, serde_json::json!({ "log_file": path }));
    let port = port.open(OpenContext::at("board.console")).await.unwrap();
    pty.write(b"U-Boot\r\nlogin: ").await;
    let logged = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("both lines are there", || logged().contains("login: ")).await;
    let text = logged();
    let lines: Vec<_> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
    assert_eq!(lines, ["U-Boot", "login: "]);
    Driver::close(&port).await.unwrap();
    // A folder that is not there is a fault at the start.
    let missing = folder.path().join("none/console.log");
    let port = config(&pty.path, serde_json::json!({ "log_file": missing }));
    let error = port.open(OpenContext::at("board.console")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.report().contains("none/console.log"), "{}", error.report());
}

#[tokio::test]
async fn a_log_goes_on_between_leases_and_clients_of_the_next_one_do_not_see_it() {
    let pty = Pty::open();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console.log");
    let more = serde_json::json!(
        { "log_file": path, "scrollback": "1M", "log_between_leases": true });
    let open = async |more| {
        let port = config(&pty.path, more).open(OpenContext::at("board.console")).await;
        port.unwrap()
    };
    let logged = || std::fs::read_to_string(&path).unwrap_or_default();
    let first = open(more.clone()).await;
    let mut client = first.connect().await.unwrap();
    pty.write(b"first\r\n").await;
    assert_eq!(receive(&mut client, 7).await, b"first\r\n");
    Driver::close(&first).await.unwrap();
    ended(&mut client).await;
    drop(first);
    pty.write(b"between\r\n").await;
    eventually("it is logged without a lease", || logged().contains("between")).await;
    let second = open(more.clone()).await;
    let mut client = second.connect().await.unwrap();
    pty.write(b"second\r\n").await;
    assert_eq!(receive(&mut client, 8).await, b"second\r\n");
    // Its own output is what a later client of this lease gets first.
    let mut later = second.connect().await.unwrap();
    assert_eq!(receive(&mut later, 8).await, b"second\r\n");
    eventually("it is logged", || logged().contains("second")).await;
    Driver::close(&second).await.unwrap();
    drop(second);
    // Another configuration closes the device, and opens it.
    let other = open(serde_json::json!({})).await;
    let mut client = other.connect().await.unwrap();
    pty.write(b"other\r\n").await;
    assert_eq!(receive(&mut client, 7).await, b"other\r\n");
    assert!(!logged().contains("other"), "{}", logged());
    let text = logged();
    let lines: Vec<_> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
    assert_eq!(lines, ["first", "between", "second"]);
    let alone = config(&pty.path, serde_json::json!({ "log_between_leases": true }));
    assert_eq!(alone.check().len(), 1);
}

#[tokio::test]
async fn a_held_device_that_ended_is_held_again_from_the_next_client_on() {
    let folder = tempfile::tempdir().unwrap();
    let (link, log) = (folder.path().join("ttyUSB0"), folder.path().join("console.log"));
    let first = Pty::open();
    std::os::unix::fs::symlink(&first.path, &link).unwrap();
    let more = serde_json::json!({ "reconnect": false, "scrollback": "1M", "log_file": log });
    let port = config(&link, more).open(OpenContext::at("board.console")).await.unwrap();
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    first.write(b"first").await;
    eventually("the first is logged", || logged().contains("first")).await;
    let mut client = port.connect().await.unwrap();
    std::fs::remove_file(&link).unwrap();
    drop(first);
    ended(&mut client).await;
    let second = Pty::open();
    std::os::unix::fs::symlink(&second.path, &link).unwrap();
    drop(port.connect().await.unwrap());
    // Its client has left.
    second.write(b"second").await;
    eventually("the second is logged", || logged().contains("second")).await;
    let mut console = port.expect().await.unwrap();
    console.wait_for("second", LONG).await.unwrap();
    Driver::close(&port).await.unwrap();
}
