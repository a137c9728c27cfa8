//! What an editor completes in an exporter file, by the YAML language server that editors use.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use jumpstarter_cli as _;
use jumpstarter_config as config;
use jumpstarter_driver_core::Registry;
use jumpstarter_supervise::{Command, Input, run_unchecked};
use jumpstarter_test_support::npm;
use serde_json::{Value, json};

/// The server, from npm's registry: 27 MB with what it needs.
const PACKAGE: &str = "yaml-language-server@1.25.0";
const LIMIT: Duration = Duration::from_secs(100);

/// The server's program; none, after a skip, where it cannot be installed.
async fn server() -> Option<PathBuf> {
    let folder = npm::package(Path::new(env!("CARGO_TARGET_TMPDIR")), PACKAGE).await?;
    Some(folder.join("node_modules/yaml-language-server/bin/yaml-language-server"))
}

/// What is offered at the end of each text.
async fn completed(server: &Path, texts: &[&str]) -> Vec<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("exporter.json");
    std::fs::write(&schema, config::schema(Registry::linked()).unwrap().to_string()).unwrap();
    let cases: Value = texts.iter().map(|text| json!({"text": text})).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("editor/complete.mjs");
    let ask = Command::new("node")
        .arg(script)
        .arg(server)
        .arg(&schema)
        .stdin(Input::Bytes(cases.to_string().into()));
    let output = run_unchecked(ask, LIMIT).await.unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    output.stdout_text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fields of a driver's configuration.
fn fields(driver: &str) -> Vec<String> {
    let schema = config::schema(Registry::linked()).unwrap();
    schema["$defs"][format!("driver:{driver}")]["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect()
}

#[tokio::test]
async fn every_field_of_every_driver_is_offered() {
    let Some(server) = server().await else { return };
    let drivers = ["qemu", "serial", "tcp", "file-flasher", "mock-power", "unix"];
    let texts =
        drivers.map(|name| format!("export:\n  it:\n    type: {name}\n    config:\n      "));
    let offered = completed(&server, &texts.each_ref().map(String::as_str)).await;
    for (driver, offered) in drivers.iter().zip(offered) {
        let missing: Vec<String> =
            fields(driver).into_iter().filter(|field| !offered.contains(field)).collect();
        assert!(missing.is_empty(), "{driver}: {missing:?} of {offered:?}");
    }
}

#[tokio::test]
async fn names_and_values_are_offered() {
    let Some(server) = server().await else { return };
    let texts = [
        "",
        "export:\n  it:\n    type: ",
        "export:\n  it:\n    type: jumpstarter_driver_qemu.driver.Qemu\n    config:\n      accel: ",
        "hooks:\n  beforeLease:\n    script: x\n    ",
    ];
    let offered = completed(&server, &texts).await;
    let expected: [&[&str]; 4] = [
        &["metadata", "hooks", "export"],
        &["qemu", "mock-power", "jumpstarter_driver_power.driver.MockPower"],
        &["auto", "kvm", "tcg", "hvf"],
        &["timeout", "onFailure", "exec"],
    ];
    for ((text, offered), expected) in texts.iter().zip(offered).zip(expected) {
        assert!(
            expected.iter().all(|name| offered.contains(&(*name).to_owned())),
            "{text:?}: {offered:?}"
        );
    }
}
