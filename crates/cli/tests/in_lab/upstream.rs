//! What upstream's end-to-end specs look for, to the word, in what `jmp` prints and returns.

use jumpstarter_supervise::{Sink, run_unchecked};

use crate::bench::Lab;
use crate::lab::jmp;
use crate::terminal::{DEADLINE, code};

/// The exit code, and standard output and error together, as the specs read them.
async fn said(lab: &Lab, words: &[&str], parts: usize) -> (Option<i32>, String) {
    let (code, out, err) = lab.run(words, parts).await;
    (code, out + &err)
}

/// One of the texts by which a spec knows that beforeLease failed.
fn is_failure(said: &str) -> bool {
    let texts = [
        "beforeLease hook fail",
        "Exporter shutting down",
        "Connection to exporter lost",
        "did not respond to initial status check",
        "unreachable after",
    ];
    texts.iter().any(|text| said.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_separator() {
    let lab = Lab::start("").await;
    for words in [
        &["shell", "--selector", "board=mock", "j", "power", "on"][..],
        &["shell", "--name", "e1", "j", "power", "on"],
        &["shell", "--name", "e1", "--selector", "board=mock", "j", "power", "off"],
        &["shell", "--selector", "board=mock", "--retry-timeout", "0", "--", "true"],
        &["shell", "--selector", "board=mock", "--retry-timeout", "75", "true"],
    ] {
        let (code, said) = said(&lab, words, 1).await;
        assert_eq!(code, Some(0), "{words:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_environment_alone() {
    let lab = Lab::start("").await;
    let token = lab.controller.token(jumpstarter_test_controller::Kind::Client, "c1");
    let command = jmp(&["shell", "--selector", "board=mock", "j", "power", "on"])
        .env("JMP_NAMESPACE", "lab")
        .env("JMP_NAME", "c1")
        .env("JMP_ENDPOINT", lab.controller.endpoint())
        .env("JMP_TOKEN", token)
        .env("JMP_DRIVERS_ALLOW", "*")
        .env("JUMPSTARTER_GRPC_INSECURE", "1");
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_succeed_or_warn() {
    let hooks = "hooks:\n  beforeLease: {exec: /bin/bash, script: 'echo BEFORE $LEASE_NAME $CLIENT_NAME; j power on'}\n  afterLease: {script: 'echo AFTER; j power off; exit 1', onFailure: warn}\n";
    let lab = Lab::start(hooks).await;
    let (code, said) =
        said(&lab, &["shell", "--selector", "board=mock", "echo", "COMMAND"], 1).await;
    assert_eq!(code, Some(0), "{said}");
    for text in ["BEFORE ", " c1", "COMMAND", "AFTER", "Warning:"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    for text in ["Starting", "successfully", "terminal", "INFO", "Error:"] {
        assert!(!said.contains(text), "{text}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_before_lease_hook_that_outlives_its_limit_warns() {
    let hooks = "hooks:\n  beforeLease: {script: 'sleep 60', timeout: 1, onFailure: warn}\n";
    let lab = Lab::start(hooks).await;
    let (code, said) =
        said(&lab, &["shell", "--selector", "board=mock", "echo", "COMMAND"], 1).await;
    assert!(code == Some(0) && said.contains("Warning:") && said.contains("COMMAND"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_before_lease_hook_that_ends_the_lease() {
    let hooks = "hooks:\n  beforeLease: {script: 'echo BEFORE; exit 1', onFailure: endLease}\n  afterLease: {script: 'echo AFTER'}\n";
    let lab = Lab::start(hooks).await;
    // The exporter is available again, and fails the next lease likewise.
    for _ in 0..2 {
        let words = ["shell", "--selector", "board=mock", "echo", "COMMAND"];
        let (code, said) = said(&lab, &words, 1).await;
        assert!(code != Some(0) && is_failure(&said), "{code:?} {said}");
        assert!(!said.contains("COMMAND") && !said.contains("AFTER"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_before_lease_hook_that_ends_the_exporter() {
    let hooks = "hooks:\n  beforeLease: {script: 'echo BEFORE; exit 1', onFailure: exit}\n  afterLease: {script: 'echo AFTER'}\n";
    let lab = Lab::start(hooks).await;
    let words = ["shell", "--selector", "board=mock", "echo", "COMMAND"];
    let (code_of_shell, said) = said(&lab, &words, 1).await;
    assert!(code_of_shell != Some(0) && is_failure(&said), "{code_of_shell:?} {said}");
    assert!(!said.contains("COMMAND") && !said.contains("AFTER"), "{said}");
    assert!(code(&lab.exporter).await.is_some_and(|code| code != 0));
    let exporters = lab.json(&["get", "exporters", "--with", "status"], 2).await;
    assert_eq!(exporters["exporters"][0]["status"], "OFFLINE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expires_is_no_error() {
    let lab = Lab::start("").await;
    let words = ["shell", "--selector", "board=mock", "--duration", "6s", "--", "sleep", "60"];
    let (code, said) = said(&lab, &words, 1).await;
    assert!(code == Some(255) && !said.contains("Error:"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_expires_before_the_device_is_ready_is_no_error() {
    let hooks = "hooks:\n  beforeLease: {script: 'sleep 60', timeout: 90}\n";
    let lab = Lab::start(hooks).await;
    let words = ["shell", "--selector", "board=mock", "--duration", "5s", "--", "echo", "COMMAND"];
    let (code, said) = said(&lab, &words, 1).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("Error:") && !said.contains("COMMAND"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_does_not_exist() {
    let lab = Lab::start("").await;
    let (code, said) = said(&lab, &["shell", "--name", "e9", "--", "true"], 1).await;
    assert!(code != Some(0) && said.contains("cannot be satisfied"), "{code:?} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_find_leases_that_have_or_fulfil_them() {
    let lab = Lab::start("").await;
    lab.controller.add_exporter("sa", &[("board", "sa")]);
    let create =
        ["create", "lease", "--selector", "board=sa,!none", "--duration", "1d", "-o", "name"];
    let (code, name) = said(&lab, &create, 2).await;
    assert_eq!(code, Some(0), "{name}");
    for selector in ["board=sa", "board=sa,!none", "board=sa,!production"] {
        let found = said(&lab, &["get", "leases", "--selector", selector, "-o", "name"], 2).await;
        assert_eq!(found, (Some(0), name.clone()), "{selector}");
    }
    for selector in ["board=sa,!board", "board=sa,!none,region=us"] {
        let found = said(&lab, &["get", "leases", "--selector", selector], 2).await;
        assert_eq!(found, (Some(0), "No resources found.\n".to_owned()), "{selector}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_leases() {
    let lab = Lab::start("").await;
    for _ in 0..10 {
        let words = ["create", "lease", "--selector", "board=mock", "--duration", "1d"];
        let (code, said) = said(&lab, &words, 2).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let (_, names) = said(&lab, &["get", "leases", "--page-size", "5", "-o", "name"], 2).await;
    assert_eq!(names.lines().count(), 10, "{names}");
    let table =
        lab.command(&["get", "leases"], 2).env("COLUMNS", "200").stdout(Sink::Tail(1 << 16));
    let table = run_unchecked(table, DEADLINE).await.unwrap().stdout_text();
    for title in ["EXPIRES AT", "REMAINING"] {
        assert!(table.contains(title), "{table}");
    }
    let (code, said) = said(&lab, &["delete", "leases", "--all"], 2).await;
    assert_eq!((code, said.matches("\" deleted").count()), (Some(0), 10), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_as_yaml_and_for_another_client() {
    let lab = Lab::start("").await;
    lab.controller.add_client("c2", &[]);
    let create = "create lease --selector board=mock --duration 60s --context build=4711 -o yaml";
    let (code, yaml) = said(&lab, &create.split(' ').collect::<Vec<_>>(), 2).await;
    assert_eq!(code, Some(0), "{yaml}");
    let name = yaml
        .lines()
        .find_map(|line| line.strip_prefix("name: "))
        .unwrap_or_else(|| panic!("{yaml}"));
    assert!(yaml.contains("build") && yaml.contains("4711"), "{yaml}");
    let name = name.trim_matches(['"', '\'']).to_owned();
    let serves = || lab.controller.lease(&name).is_some_and(|lease| lease.exporter.is_some());
    jumpstarter_driver_testkit::eventually("the exporter is leased", serves).await;
    let update = ["update", "lease", &name, "--to-client", "c2", "-o", "yaml"];
    let (code, yaml) = said(&lab, &update, 3).await;
    assert!(code == Some(0) && yaml.contains("c2"), "{yaml}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_configurations() {
    let lab = Lab::start("").await;
    let home = tempfile::tempdir().unwrap();
    let ran = async |words: &str| {
        let command =
            jmp(&words.split(' ').collect::<Vec<_>>()).env("JMP_CLIENT_CONFIG_HOME", home.path());
        let output = run_unchecked(command, DEADLINE).await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}: {}", output.stderr);
        output.stdout_text()
    };
    let endpoint = lab.controller.endpoint();
    ran(&format!(
        "config client create A --namespace lab --name c1 -e {endpoint} -t x --unsafe -k"
    ))
    .await;
    let table = ran("config client list").await;
    assert!(table.lines().any(|line| line.starts_with("*") && line.contains("A ")), "{table}");
    assert!(ran("config client list -o yaml").await.contains("alias: A"));
    ran(&format!(
        "config exporter create B --namespace lab --name e1 --endpoint {endpoint} --token x -k"
    ))
    .await;
    let yaml = ran("config exporter list -o yaml").await;
    assert!(yaml.contains('B'), "{yaml}");
    assert!(ran("auth status --client A").await.contains("Status:"));
    ran("config exporter delete B").await;
}
