//! `j call`, `j stream` and `j log`.

use insta::assert_snapshot;

use crate::lab::{Bench, line};
use crate::terminal::code;

#[tokio::test]
async fn any_method_by_its_name() {
    let bench = Bench::everything().await;
    assert_eq!(bench.j(&["call", "rack.shelf.power", "on"]).await, "");
    assert_snapshot!(bench.j(&["call", "power", "on", "--output", "json"]).await, @"null");
    assert_snapshot!(bench.j(&["call", "rack.web", "address"]).await, @"tcp://127.0.0.1:4711");
    assert_snapshot!(bench.j(&["call", "rack.web", "address", "--output", "json"]).await, @r#""tcp://127.0.0.1:4711""#);
    assert_snapshot!(bench.j(&["rack", "web", "call", "address"]).await, @"tcp://127.0.0.1:4711");
}

#[tokio::test]
async fn what_cannot_be_called() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["call", "power", "no"]).await, @r"
    --- stderr
    error: there is no method `no`
    hint: did you mean `on`? There are `on`, `off` and `read`
    --- exit code 1
    ");
    assert_snapshot!(bench.j(&["call", "pwer", "on"]).await, @r"
    --- stderr
    error: there is no `pwer` in this device
    hint: did you mean `power`? There are `power`, `echo`, `console`, `flasher`, `rack`, `rack.web`, `rack.shelf`, `rack.shelf.power` and `switch`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["call", "power", "read"]).await, @r"
    --- stderr
    error: `read` does not answer once
    hint: try `j stream power read`
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["call", "power", "on", "1"]).await, @r"
    --- stderr
    error: `on` is given 1 argument(s)
    hint: its form is on()
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["call", "power", "no", "--output", "json"]).await, @r#"
    --- stderr
    {"error":"there is no method `no`","kind":"NotFound","hint":"did you mean `on`? There are `on`, `off` and `read`"}
    --- exit code 1
    "#);
}

#[tokio::test]
async fn images_of_a_call_are_files() {
    let bench = Bench::everything().await;
    std::fs::write(bench.lab.path("os.img"), b"an image").unwrap();
    assert_eq!(bench.j(&["call", "flasher", "flash", "os.img"]).await, "");
    assert_snapshot!(bench.j_with(&["call", "flasher", "dump", "-"], b"").await, @"an image");
}

#[tokio::test]
async fn streams_of_values() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["stream", "power", "read"]).await, @r"
    current: 0.0
    voltage: 0.0
    current: 2.0
    voltage: 5.0
    ");
    assert_snapshot!(bench.j(&["stream", "power", "read", "--output", "json"]).await, @r#"
    {"current":0.0,"voltage":0.0}
    {"current":2.0,"voltage":5.0}
    "#);
    assert_snapshot!(bench.j(&["stream", "power", "on"]).await, @r"
    --- stderr
    error: `on` answers once
    hint: try `j call power on`
    --- exit code 2
    ");
}

#[tokio::test]
async fn streams_of_bytes() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j_with(&["stream", "echo"], b"there and back\n").await, @"there and back");
    assert_snapshot!(bench.j_with(&["echo", "stream", "connect"], b"again\n").await, @"again");
    assert_snapshot!(bench.j_with(&["stream", "power"], b"").await, @r"
    --- stderr
    error: there is no method `connect`
    hint: there are `on`, `off` and `read`
    --- exit code 1
    ");
}

#[tokio::test]
async fn the_log() {
    let bench = Bench::everything().await;
    let words = ["log", "--source", "driver", "--count", "3"];
    let (json, mut values) = bench.follow(&[&words[..], &["--output", "json"]].concat()).await;
    let (text, mut lines) = bench.follow(&words).await;
    bench.j(&["power", "on"]).await;
    let mut records = String::new();
    for _ in 0..3 {
        let mut record: serde_json::Value =
            serde_json::from_str(&line(&mut values, &json).await).unwrap();
        assert!(record["time"].as_f64().is_some_and(|time| time > 1e9), "{record}");
        record["time"] = "TIME".into();
        if let Some(duration) = record["fields"].get_mut("duration") {
            assert!(duration.as_str().is_some_and(|text| text.ends_with('s')), "{duration}");
            *duration = "DURATION".into();
        }
        records += &format!("{record}\n");
    }
    assert_snapshot!(records, @r#"
    {"time":"TIME","severity":"INFO","source":"driver","driver":"power","driver_type":"power","operation":"on","message":"Operation started","fields":{}}
    {"time":"TIME","severity":"INFO","source":"driver","driver":"power","driver_type":"power","operation":"on","message":"power on","fields":{}}
    {"time":"TIME","severity":"INFO","source":"driver","driver":"power","driver_type":"power","operation":"on","message":"Operation completed","fields":{"duration":"DURATION","result":"success"}}
    "#);
    for expected in ["Operation started", "power on", "Operation completed"] {
        let said = line(&mut lines, &text).await;
        let (time, rest) = said.split_at("00:00:00.000Z".len());
        assert!(time.ends_with('Z'), "{said}");
        assert_eq!(rest, format!(" INFO     power on: {expected}"));
    }
    assert_eq!((code(&json).await, code(&text).await), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_log_that_is_followed_for_a_while() {
    let bench = Bench::everything().await;
    assert_eq!(bench.j(&["log", "--for", "100ms", "--level", "error"]).await, "");
    assert_snapshot!(bench.j(&["log", "--level", "loud"]).await, @r"
    --- stderr
    error: invalid value 'loud' for '--level <LEVEL>'
      [possible values: debug, info, warning, error, critical]

    For more information, try '--help'.
    --- exit code 2
    ");
    let file = bench.lab.file();
    let words = ["--exporter-config", &file, "log"];
    assert_snapshot!(bench.run(crate::lab::clean(bench.command(&words))).await, @r"
    --- stderr
    error: a device in this process has no log to follow
    hint: read standard error, where its drivers log: see --log-level
    --- exit code 1
    ");
}
