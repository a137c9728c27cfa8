//! Exporters that put control sequences wherever there is text, and trees without measure.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use jumpstarter_driver_core::Error;
use jumpstarter_protocol::labels::NAME;
use jumpstarter_protocol::v1::{
    DriverCallResponse, DriverInstanceReport, GetReportResponse, GetStatusResponse,
    LogStreamResponse, StreamingDriverCallResponse,
};
use jumpstarter_protocol::{Value as Wire, encode_value};
use jumpstarter_supervise::{Command, Output, run_unchecked};
use jumpstarter_test_support::hostile::{Answer, Hostile, driver, report};
use prost::Message;
use serde_json::{Value, json};

use crate::inside;
use crate::lab::{clean, in_time, jmp};
use crate::terminal::{DEADLINE, J, JMP, Terminal, code};

/// A title, a clipboard, forged lines, C1, what turns text around, and what a shell would run.
const EVIL: &str = "evil\x1b]0;title\x07\x1b]52;c;cm0=\x07\nerror: forged\r\nhint: forged\r\u{9b}31m\u{9d}0;x\u{9c}\u{85}\u{202e}\u{2066}\
    \u{2028}\u{200b}\x7f\0\x05\t$(touch pwned)`touch pwned`;'\"%\\\u{e0041}";

/// As it is shown on a line.
fn shown() -> String {
    jumpstarter_text::line(EVIL).into_owned()
}

fn evil_device() -> GetReportResponse {
    let evil = |mut node: DriverInstanceReport| {
        node.description = Some(EVIL.to_owned());
        node.methods_description =
            ["on", "blink", EVIL].map(|name| (name.to_owned(), EVIL.to_owned())).into();
        node.labels.insert("jumpstarter.dev/client".to_owned(), EVIL.to_owned());
        node.labels.insert(EVIL.to_owned(), EVIL.to_owned());
        node
    };
    let all = format!("power,network,serial,flasher,machine,{EVIL}");
    let mut odd = evil(driver(4, Some(0), "odd", ""));
    odd.labels.remove("jumpstarter.dev/interfaces");
    let mut odder = evil(driver(5, Some(0), "--help", ""));
    odder.labels.remove("jumpstarter.dev/interfaces");
    GetReportResponse {
        labels: HashMap::from([
            (NAME.to_owned(), EVIL.to_owned()),
            (EVIL.to_owned(), EVIL.to_owned()),
        ]),
        motd: format!("motd {EVIL}"),
        ..report(vec![
            evil(driver(0, None, EVIL, "")),
            evil(driver(1, Some(0), EVIL, &all)),
            evil(driver(2, Some(1), EVIL, &all)),
            evil(driver(3, Some(0), "plain", &all)),
            odd,
            odder,
        ])
    }
}

fn wire(value: &Value) -> Option<Wire> {
    Some(encode_value(value).unwrap())
}

fn values() -> Vec<Value> {
    vec![json!(EVIL), json!([EVIL, [EVIL]]), json!({EVIL: EVIL, "nested": {EVIL: [EVIL]}})]
}

/// What it says to a call, which fails or not.
fn answer(method: &str, fails: bool) -> Answer {
    let error = Error::internal(EVIL).with_hint(EVIL);
    match method {
        "GetStatus" => Answer::one(&GetStatusResponse {
            status: 4,
            message: Some(EVIL.to_owned()),
            ..Default::default()
        }),
        "LogStream" => {
            let record = LogStreamResponse {
                uuid: EVIL.to_owned(),
                severity: EVIL.to_owned(),
                message: EVIL.to_owned(),
                driver_type: Some(EVIL.to_owned()),
                operation: Some(EVIL.to_owned()),
                structured_fields: ["driver", EVIL]
                    .map(|name| (name.to_owned(), EVIL.to_owned()))
                    .into(),
                ..Default::default()
            };
            Answer::Open(vec![Bytes::from(record.encode_to_vec()); 3])
        }
        _ if fails => Answer::error(error),
        "StreamingDriverCall" => {
            let message =
                |value| StreamingDriverCallResponse { uuid: String::new(), result: wire(value) };
            let messages =
                values().iter().map(|value| message(value).encode_to_vec().into()).collect();
            Answer::Messages(messages, Err(error))
        }
        _ => Answer::one(&DriverCallResponse {
            uuid: String::new(),
            result: wire(&json!({EVIL: values()})),
        }),
    }
}

/// Whether a terminal would take it for more than text.
fn is_raw(letter: char) -> bool {
    (letter.is_control() && !matches!(letter, '\n' | '\t'))
        || matches!(letter, '\u{200b}' | '\u{2028}' | '\u{202e}' | '\u{2066}' | '\u{e0041}')
}

#[track_caller]
fn check(words: &[&str], out: &str, err: &str) {
    // What a method answers is shown with its own lines.
    let is_answer =
        |text: &str| text == out && !words.contains(&"--help") && !words.contains(&"tree");
    for text in [out, err] {
        let raw: Vec<String> =
            text.lines().filter(|line| line.contains(is_raw)).map(str::to_owned).collect();
        assert!(raw.is_empty(), "{words:?}: {raw:?}");
        // (A hint is the exporter's to give, as its error is.)
        let forged = |line: &&str| line.starts_with("error: forged");
        assert!(is_answer(text) || text.lines().find(forged).is_none(), "{words:?}: {text}");
        assert!(!text.contains("panicked"), "{words:?}: {text}");
    }
}

async fn run(exporter: &Hostile, command: Command) -> Output {
    let folder = exporter.socket().parent().unwrap().to_owned();
    run_unchecked(command.env("JUMPSTARTER_HOST", exporter.socket()).current_dir(folder), DEADLINE)
        .await
        .unwrap()
}

/// What `j` with these words prints, in this process: on standard output, and on standard error.
async fn j(exporter: &Hostile, words: &[&str]) -> (String, String) {
    std::env::set_current_dir(exporter.socket().parent().unwrap()).unwrap();
    let host = exporter.socket();
    let (_, out, err) = inside::j(words, &[("JUMPSTARTER_HOST", host.to_str().unwrap())]).await;
    (out, err)
}

#[tokio::test]
async fn nothing_that_an_exporter_says_reaches_a_terminal_raw() {
    let name = shown();
    let words: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["tree"],
        vec!["tree", &name],
        vec!["tree", "plain"],
        vec!["status"],
        vec!["reset"],
        vec!["log", "--count", "2"],
        vec!["plain", "--help"],
        vec!["plain"],
        vec!["plain", "on", "--help"],
        vec!["plain", "call", "--help"],
        vec!["plain", "on"],
        vec!["plain", "off"],
        vec!["plain", "read"],
        vec!["plain", "address"],
        vec!["plain", "address", "--host"],
        vec!["plain", "state"],
        vec!["plain", "wait"],
        vec!["plain", "stop"],
        vec!["plain", "events"],
        vec!["plain", "flash", "lab.img"],
        vec!["plain", "dump", "out.img"],
        vec!["plain", "nothing"],
        vec![&name, "--help"],
        vec![&name],
        vec![&name, "on"],
        vec![&name, &name, "on"],
        vec![&name, &name, "--help"],
        vec!["odd", "--help"],
        vec!["odd", "blink"],
        vec!["odd", &name],
        vec!["odd", &name, "--help"],
        vec!["odd", "call", "anything"],
        vec!["call", "plain", "anything"],
        vec!["call", &name, "on"],
        vec!["call", "nowhere", "on"],
        vec!["stream", "plain", "anything", "--values"],
        vec!["stream", "odd", "anything"],
        vec!["evil"],
        vec!["nowhere.else", "on"],
    ];
    for fails in [false, true] {
        let exporter = Hostile::device(evil_device(), move |method| answer(method, fails));
        std::fs::write(exporter.socket().with_file_name("lab.img"), "image").unwrap();
        for words in &words {
            for format in ["text", "json"] {
                let all = [&["--output", format], words.as_slice()].concat();
                let (out, err) = j(&exporter, &all).await;
                check(&all, &out, &err);
            }
        }
        for shell in ["bash", "zsh", "fish"] {
            for line in [
                vec!["j", ""],
                vec!["j", "e"],
                vec!["j", "odd", ""],
                vec!["j", "call", ""],
                vec!["j", "call", "odd", ""],
            ] {
                let index = (line.len() - 1).to_string();
                let output = in_time(async || {
                    let command =
                        clean(Command::new(J)).arg("--").args(&line).env("COMPLETE", shell);
                    let command =
                        command.env("_CLAP_COMPLETE_INDEX", &index).env("_CLAP_IFS", "\n");
                    run(&exporter, command).await
                })
                .await;
                assert!(
                    output.stdout_text().contains(if line.contains(&"odd") {
                        "blink"
                    } else {
                        "plain"
                    }) || line.contains(&"e")
                );
                let words = output.stdout_text().replace('\t', " ");
                assert!(
                    !words.contains(is_raw)
                        && !words.contains("evil$")
                        && !words.contains("touch pwned)`;"),
                    "{shell}: {words}"
                );
                let offered = words.lines().filter_map(|line| line.split([' ', ':']).next());
                assert!(
                    offered.clone().all(|word| !word.contains(['$', '`', ';'])),
                    "{shell}: {words}"
                );
            }
        }
        let socket = exporter.socket().display().to_string();
        for words in [
            vec!["shell", "--tls-grpc", &socket, "--exporter-logs", "--", J, "plain", "on"],
            vec!["shell", "--tls-grpc", &socket, "--", J, "tree"],
            vec!["forward", "--tls-grpc", &socket, "plain", "70000"],
            vec!["forward", "--tls-grpc", &socket, "nowhere"],
        ] {
            let output = run(&exporter, jmp(&words)).await;
            check(&words, &output.stdout_text(), &output.stderr);
        }
        assert!(!exporter.socket().with_file_name("pwned").exists(), "a name was run");
    }
}

#[tokio::test]
async fn json_tells_what_was_said() {
    let exporter = Hostile::device(evil_device(), |method| answer(method, false));
    let ask = async |words: &[&str]| {
        let (out, err) = j(&exporter, &[&["--output", "json"], words].concat()).await;
        let text = if out.is_empty() { err } else { out };
        serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()
    };
    let tree = ask(&["tree"]).await;
    let node = &tree["children"][0];
    for field in ["name", "description", "client"] {
        assert_eq!(node[field], EVIL, "{field}");
    }
    assert_eq!((&node["labels"][EVIL], &node["methods"]["on"]), (&json!(EVIL), &json!(EVIL)));
    assert_eq!(ask(&["call", "plain", "x"]).await, json!({EVIL: values()}));
    assert_eq!(ask(&["log", "-n", "1"]).await["message"], EVIL);
    assert_eq!(ask(&["status"]).await["message"], EVIL);
    assert_eq!(ask(&["stream", "plain", "x", "--values"]).await, json!(EVIL));
}

/// A person's shell: the name in its prompt, the greeting, the log.
#[tokio::test]
async fn a_shell_shows_no_more_than_text() {
    let exporter = Hostile::device(evil_device(), |method| answer(method, false));
    let socket = exporter.socket().display().to_string();
    for shell in ["/bin/bash", "/bin/sh"] {
        let mut terminal = Terminal::new();
        let words = [JMP, "shell", "--tls-grpc", &socket, "--exporter-logs"];
        let folder = exporter.socket().parent().unwrap().to_owned();
        let command = clean(terminal.command(&words)).env("SHELL", shell).current_dir(folder);
        let child = command.spawn().await.unwrap();
        terminal.shows("motd evil\\u{1b}]0;title\\u{7}").await;
        terminal.shows("evil]0title]52ccm0error:forged").await;
        terminal.press("exit 5\r");
        assert_eq!(code(&child).await, Some(5), "{}", terminal.text());
        let seen = terminal.text();
        for raw in [
            "\x1b]0;title",
            "\x1b]52",
            "\u{9b}",
            "\u{9d}",
            "\u{202e}",
            "\n\rerror: forged\r\n\rhint",
        ] {
            assert!(!seen.contains(raw), "{raw:?} in {seen:?}");
        }
        assert!(!exporter.socket().with_file_name("pwned").exists(), "a name was run");
    }
}

#[tokio::test]
async fn a_tree_of_ten_thousand_drivers_is_used_at_once() {
    let child = |id: usize| {
        driver(
            id,
            (id > 0).then(|| (id - 1) / 10),
            &format!("n{id}"),
            if id > 0 { "network,power" } else { "" },
        )
    };
    let exporter = Hostile::device(report((0..10_000).map(child).collect()), |_| Answer::Never);
    for (words, expected) in [
        (vec!["tree"], "n9999"),
        (vec!["tree", "--output", "json"], "n9999"),
        (vec!["--help"], "n10"),
        (vec!["n1", "--help"], "n11"),
        (vec!["n1.n11.n111", "--help"], "n1111"),
        (vec!["n1", "n11", "n111", "on", "--help"], "Usage: j n1 n11 n111 on"),
        (vec!["nn"], "this device has no `nn`"),
        (vec!["call", "nowhere", "x"], "there is no `nowhere`"),
    ] {
        let begin = Instant::now();
        let (out, err) = j(&exporter, &words).await;
        let text = out + &err;
        assert!(text.contains(expected), "{words:?}: {text:.2000}");
        println!("{words:?}: {:?}", begin.elapsed());
        // Its drivers never answer: a second or three of that are waited for.
        assert!(begin.elapsed() < DEADLINE, "{words:?}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_tree_without_measure_is_refused() {
    for (device, expected) in [
        (
            report((0..2_000).map(|id| driver(id, id.checked_sub(1), "x", "")).collect()),
            "deeper than 60 levels",
        ),
        (
            report(
                (0..20_000)
                    .map(|id| driver(id, (id > 0).then_some(0), &id.to_string(), ""))
                    .collect(),
            ),
            "10000 are the most",
        ),
        (
            report(vec![driver(0, None, "", ""), driver(1, Some(0), &"x".repeat(70_000), "")]),
            "has 70000 bytes",
        ),
    ] {
        let exporter = Hostile::device(device, |_| Answer::Never);
        let output = run(&exporter, clean(Command::new(J)).arg("tree")).await;
        assert_eq!(output.status.code(), Some(3), "{}", output.stderr);
        assert!(output.stderr.contains(expected) && output.stderr.len() < 500, "{}", output.stderr);
    }
}
