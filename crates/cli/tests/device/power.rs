//! Verbs of power switches.

use std::time::{Duration, Instant};

use insta::assert_snapshot;

use crate::lab::{Bench, line};
use crate::terminal::code;

#[tokio::test]
async fn on_and_off_answer_nothing() {
    let bench = Bench::everything().await;
    assert_eq!(bench.j(&["power", "on"]).await, "");
    assert_eq!(bench.j(&["power", "off"]).await, "");
    assert_eq!(bench.j(&["power", "on", "--output", "json"]).await, "null\n");
}

#[tokio::test]
async fn a_cycle_waits_between_off_and_on() {
    let bench = Bench::everything().await;
    let words = ["log", "--source", "driver", "-n", "12", "--output", "json"];
    let (log, mut records) = bench.follow(&words).await;
    let began = Instant::now();
    assert_snapshot!(bench.j(&["power", "cycle", "--wait", "300ms"]).await, @r"
    --- stderr
    off, on again in 300ms
    ");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let began = Instant::now();
    assert_snapshot!(bench.j(&["power", "cycle", "-w", "1"]).await, @r"
    --- stderr
    off, on again in 1s
    ");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(bench.j(&["power", "cycle", "-w", "0", "--output", "json"]).await, "null\n");
    for expected in ["power off", "power on", "power off", "power on"] {
        for expected in ["Operation started", expected, "Operation completed"] {
            let record = line(&mut records, &log).await;
            let value: serde_json::Value = serde_json::from_str(&record).unwrap();
            assert_eq!(value["message"], expected, "{record}");
        }
    }
    assert_eq!(code(&log).await, Some(0));
}

#[tokio::test]
async fn a_reading_is_one_pass_of_the_meter() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["power", "read"]).await, @r"
    voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA
    voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA
    ");
    assert_snapshot!(bench.j(&["power", "read", "--output", "json"]).await, @r#"
    {"voltage":0.0,"current":0.0,"apparent_power":0.0}
    {"voltage":5.0,"current":2.0,"apparent_power":10.0}
    "#);
}

#[tokio::test]
async fn readings_are_repeated_after_an_interval() {
    let bench = Bench::everything().await;
    let began = Instant::now();
    assert_snapshot!(bench.j(&["power", "read", "--count", "2", "--interval", "400ms"]).await, @r"
    voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA
    voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA
    voltage=0.0 V  current=0.0 A  apparent_power=0.0 VA
    voltage=5.0 V  current=2.0 A  apparent_power=10.0 VA
    ");
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn readings_without_end_go_on_until_ctrl_c() {
    let bench = Bench::everything().await;
    let words = ["power", "read", "--count", "0", "--interval", "10ms", "--output", "json"];
    let (child, mut lines) = bench.start(&words).await;
    for _ in 0..6 {
        assert!(line(&mut lines, &child).await.starts_with("{\"voltage\":"));
    }
    child.signal(jumpstarter_supervise::Signal::INT);
    assert_eq!(code(&child).await, Some(130));
}

#[tokio::test]
async fn wrong_times_are_usage_errors() {
    let bench = Bench::everything().await;
    assert_snapshot!(bench.j(&["power", "cycle", "--wait", "soon"]).await, @r"
    --- stderr
    error: invalid value 'soon' for '--wait <TIME>': `soon` is not a time: unknown unit `soon`
    hint: expected a time such as 500ms, 30s, 2min or 1h

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(bench.j(&["power", "read", "--count", "-1"]).await, @r"
    --- stderr
    error: unexpected argument '-1' found

    Usage: j power read [OPTIONS]

    For more information, try '--help'.
    --- exit code 2
    ");
}
