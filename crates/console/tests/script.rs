//! Scripted conversations with a device that speaks as the test says.

#![expect(clippy::unwrap_used, reason = "the helpers of these tests too")]

use std::time::Duration;

use jumpstarter_console::{Console, Pattern, Script};
use jumpstarter_driver_core::{Channel, ErrorKind, Framing, Secret};
use jumpstarter_driver_testkit::serial::LONG;
use serde_json::json;

/// Soon: for what never comes.
const SOON: Duration = Duration::from_millis(50);

/// A device that answers each line it gets, and then a prompt.
fn device(boot: &'static str, answers: &'static [(&'static str, &'static str)]) -> Console {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    tokio::spawn(async move {
        device.send(boot).await.unwrap();
        let mut line = Vec::new();
        while let Ok(Some(bytes)) = device.receive().await {
            line.extend_from_slice(&bytes);
            while let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | 3)) {
                let text: Vec<u8> = line.drain(..=end).collect();
                let text = String::from_utf8_lossy(&text).into_owned();
                let answer = answers.iter().find(|(known, _)| *known == text.trim_end());
                let answer = answer.map_or("unknown\r\n", |(_, answer)| answer);
                // As a terminal echoes it.
                device.send(format!("{text}\n{answer}=> ")).await.unwrap();
            }
        }
    });
    Console::new(ours)
}

#[tokio::test]
async fn a_script_sends_waits_and_captures() {
    let mut console = device(
        "U-Boot SPL\r\nHit any key to stop autoboot:  2",
        &[("\x03", ""), ("version", "U-Boot 2023.01 (Jan 2023)\r\n"), ("mac", "eth0 52:54\r\n")],
    );
    let script = Script::new()
        .expect("stop autoboot")
        .key("ctrl-c")
        .unwrap()
        .expect("=> ")
        .send_line("version")
        .expect(Pattern::regex(r"U-Boot (?<version>\S+) \((?<built>.*?)\)").unwrap())
        .expect("=> ")
        .send("m")
        .send_line("ac")
        .expect_any([
            Pattern::regex(r"eth(?<number>\d)(?:,(?<speed>\d+))? (?<mac>\S+)\r").unwrap(),
            Pattern::literal("unknown\r"),
        ])
        .deadline(LONG);
    let done = script.run(&mut console).await.unwrap();
    let captures: Vec<_> = done.captures.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected =
        [("built", "Jan 2023"), ("mac", "52:54"), ("number", "0"), ("version", "2023.01")];
    assert_eq!(captures, expected);
    assert_eq!((done.matches.len(), done.matches[4].index), (5, 0));
    // What is unread stays for the next wait.
    console.wait_for("=> ", LONG).await.unwrap();
    assert!(console.transcript_text().starts_with("U-Boot SPL\nHit any key"));
}

fn from_json(steps: serde_json::Value) -> Script {
    serde_json::from_value(steps).unwrap()
}

#[tokio::test]
async fn a_file_has_branches_keys_and_failures() {
    let steps = json!([
        {"expect": [
            "=> ",
            {"text": "login: ", "then": [
                {"line": "root"},
                {"expect": "word: ", "within": "10s"},
                {"secret": "hush"},
                {"expect": {"regex": r"last login (?<when>\S+)\r"}},
            ]},
            {"regex": r"panic: (?<why>.*?)\r", "then": [{"fail": "the kernel panics"}]},
        ]},
        {"send": "uptime"},
        {"key": "enter"},
        {"expect": "3 days"},
    ]);
    let answers = &[
        ("root", "password: "),
        ("hush", "last login today\r\n"),
        ("uptime", "3 days\r\n"),
        ("", ""),
    ];
    for boot in ["host login: ", "=> "] {
        let done = from_json(steps.clone()).run(&mut device(boot, answers)).await.unwrap();
        assert_eq!(done.capture("when"), (boot != "=> ").then_some("today"));
    }
    let mut console = device("panic: no init\r\n", answers);
    let error = from_json(steps).run(&mut console).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    let report = error.report();
    assert!(report.contains("step 1.1 (fail): the kernel panics; seen last"), "{report}");
    assert!(report.contains("panic: no init"), "{report}");
}

#[tokio::test]
async fn a_key_is_pressed_until_the_device_answers() {
    let (mut device, ours) = Channel::pair(Framing::Bytes);
    let mut console = Console::new(ours);
    let booting = tokio::spawn(async move {
        // Deaf at first.
        for _ in 0..3 {
            assert_eq!(device.receive().await.unwrap().as_deref(), Some(&b"\r"[..]));
        }
        device.send("=> ").await.unwrap();
        device
    });
    let script = from_json(json!([{"expect": "=> ", "press": "enter", "every": "20ms"}]));
    script.run(&mut console).await.unwrap();
    let mut device = booting.await.unwrap();
    // Text that is there already needs no key.
    device.send("=> ").await.unwrap();
    let script = Script::new().expect("=> ").sending("\r", LONG).within(LONG);
    script.run(&mut console).await.unwrap();
}

#[tokio::test]
async fn a_deadline_names_the_step_and_shows_what_was_seen() {
    let answers = &[("go", "starting\r\n"), ("hush", "no\r\n")];
    let script = Script::new().send_line("go").expect("done").within(SOON);
    let error = script.run(&mut device("", answers)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    let report = error.report();
    assert!(report.starts_with("step 2 (expect `done`): no `done` within 50ms"), "{report}");
    assert!(report.contains("starting"), "{report}");

    // The whole has one as well, whatever the steps say; secrets are in no error.
    // A thread finds the secret.
    let script = Script::new().send_secret_line(Secret::new("hush")).expect("never");
    let script = script.deadline(Duration::from_secs(5));
    let report = script.run(&mut device("", answers)).await.unwrap_err().report();
    assert!(report.contains("step 2 (expect `never`), with 5 s for the script"), "{report}");
    assert!(report.contains("***") && !report.contains("hush"), "{report}");
}

#[tokio::test]
async fn a_device_that_takes_nothing_ends_at_the_deadline_too() {
    let (ours, _device) = tokio::io::duplex(16);
    let script = Script::new().send("x".repeat(4096)).within(SOON);
    let error = script.run(&mut Console::new(Channel::from_io(ours))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{}", error.report());
}

#[test]
fn wrong_steps_are_refused() {
    for (step, expected) in [
        (json!({}), "a step has one of `expect`"),
        (json!({"send": "a", "line": "b"}), "a step has one of `expect`"),
        (json!({"sned": "a"}), "unknown field `sned`"),
        (json!({"key": "return"}), "`return` is no key"),
        (json!({"send": "a", "press": "enter"}), "`press` belongs to `expect`"),
        (json!({"expect": "a", "every": "1s"}), "`every` belongs to `press`"),
        (json!({"expect": []}), "nothing is expected"),
        (json!({"expect": {"regex": "("}}), "is not a regular expression"),
        (json!({"expect": {"regex": "a", "text": "b"}}), "either `text` or `regex`"),
        (json!({"expect": 1}), "text, `{regex: …}` or a list of these"),
        (json!({"expect": [{"text": "a", "then": [{"sned": "b"}]}]}), "unknown field `sned`"),
        (json!({"expect": "a", "within": "soon"}), "is not a time"),
    ] {
        let error = serde_json::from_value::<Script>(json!([step])).unwrap_err().to_string();
        assert!(error.contains(expected), "{step}: {error}");
    }
}
