//! `jmp doctor --lab`, with a controller that it reaches, and with each step broken.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/inside.rs"]
mod inside;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/terminal.rs"]
mod terminal;

use jumpstarter_supervise::run_unchecked;
use jumpstarter_test_controller::{Kind, Options, TestController};
use serde_json::Value;

use lab::jmp;
use terminal::DEADLINE;

const EXPORT: &str = "{power: {type: mock-power}}";

async fn controller() -> TestController {
    let controller = TestController::start(Options::default()).await.unwrap();
    controller.add_exporter("e1", &[]);
    controller.add_client("c1", &[]);
    controller
}

/// The exit code and the output of `jmp doctor --lab` for a file.
async fn doctor(file: &str, words: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.yaml");
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let named = match file.contains("kind: ClientConfig") {
        true => vec!["doctor", "--lab", "--client-config", path],
        false => vec!["doctor", "--lab", path],
    };
    let output = run_unchecked(jmp(&[&named, words].concat()), DEADLINE).await.unwrap();
    (output.status.code(), output.stdout_text() + &output.stderr)
}

/// Checks that a step is wrong, and what is said about it.
#[track_caller]
fn assert_wrong(output: &(Option<i32>, String), step: &str, says: &[&str]) {
    let (code, text) = output;
    assert_eq!(*code, Some(1), "{text}");
    let place = text.find(&format!("WRONG   {step}: ")).unwrap_or_else(|| panic!("{step}: {text}"));
    let wrong: Vec<&str> = text[place..].lines().take(2).collect();
    let wrong = wrong.join("\n");
    assert!(says.iter().all(|part| wrong.contains(part)), "{says:?}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_good_connection_says_what_it_saw() {
    let controller = controller().await;
    let router = ["--router", controller.router().endpoint()];
    for file in [controller.exporter_file("e1", EXPORT), controller.client_file("c1")] {
        let (code, text) = doctor(&file, &router).await;
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
        for part in ["localhost is ", "trusted by `tls.ca`", "valid until", "accepts the "] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let file = controller.exporter_file("e1", EXPORT);
    let (code, text) = doctor(&file, &["--output", "json"]).await;
    assert_eq!(code, Some(0), "{text}");
    let steps: Value = serde_json::from_str(&text).unwrap();
    let names = ["name", "TCP", "TLS", "token", "controller", "router", "clock"];
    for (step, name) in steps.as_array().unwrap().iter().zip(names) {
        let outcome = if name == "router" { "skipped" } else { "ok" };
        assert_eq!((&step["step"], &step["outcome"]), (&name.into(), &outcome.into()), "{text}");
    }
    // It asked, and changed nothing.
    assert_eq!(controller.calls("Register") + controller.calls("ReportStatus"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_that_fails_says_what_to_do() {
    let controller = controller().await;
    let file = controller.exporter_file("e1", EXPORT);
    let endpoint = controller.endpoint();
    let no_name = file.replace(endpoint, "no-such-host.invalid:8082");
    let output = doctor(&no_name, &[]).await;
    assert_wrong(&output, "name", &["no-such-host.invalid", "hint: check the name"]);
    assert!(output.1.contains("skipped TCP: not tried"), "{}", output.1);
    let bundle: String = file
        .lines()
        .filter(|line| !line.starts_with("tls:"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert_wrong(&doctor(&bundle, &[]).await, "TLS", &["is not trusted", "set `tls.ca`"]);
    let expired = controller.token_with_life(Kind::Exporter, "e1", -60);
    let expired = controller.exporter_file_with("e1", &expired, EXPORT);
    let output = doctor(&expired, &[]).await;
    assert_wrong(&output, "token", &["has expired at", "new one"]);
    assert_wrong(&output, "controller", &["token is expired", "ask who runs the lab"]);
    let other = controller.token(Kind::Client, "c1");
    let other = controller.exporter_file_with("e1", &other, EXPORT);
    assert_wrong(
        &doctor(&other, &[]).await,
        "controller",
        &["permission denied", "`metadata` and `token`"],
    );
    // The two ports are mixed up.
    let router = ["--router", endpoint];
    assert_wrong(&doctor(&file, &router).await, "router", &["router's port"]);
    let mixed = file.replace(endpoint, controller.router().endpoint());
    assert_wrong(&doctor(&mixed, &[]).await, "controller", &["gRPC port"]);
    controller.controller().down().await;
    let output = doctor(&controller.client_file("c1"), &[]).await;
    assert_wrong(&output, "TCP", &["localhost", "hint: check the port"]);
    assert!(output.1.contains("skipped controller: not tried"), "{}", output.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_controller_is_no_lab() {
    let (code, text) = doctor("export: {power: {type: mock-power}}\n", &[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no `endpoint`"), "{text}");
}
