//! What the driver reports, and the configurations that it refuses.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use jumpstarter_driver_core::prelude::*;
use jumpstarter_driver_core::{Registry, serde_json};
use jumpstarter_driver_network::EchoNetwork;
use jumpstarter_driver_ssh::Ssh;
use serde_json::{Value, json};

async fn open(config: Value) -> Result<Arc<dyn Ssh>> {
    let mut context = OpenContext::at("ssh");
    context.children.push(Child::new("tcp", Arc::new(EchoNetwork::new())));
    let entry = Registry::linked().find("jumpstarter_driver_ssh.driver.SSHWrapper").unwrap();
    let driver = (entry.open)(config, context).await?;
    Device::of_shared_driver(driver).get::<dyn Ssh>("")
}

#[tokio::test]
async fn it_reports_what_is_configured() {
    let ssh = open(json!({})).await.unwrap();
    assert_eq!(ssh.get_default_username().await.unwrap(), "");
    assert!(ssh.get_ssh_command().await.unwrap().starts_with("ssh -o StrictHostKeyChecking=no"));
    assert_eq!(ssh.get_ssh_identity().await.unwrap(), None);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let ssh = open(json!({ "ssh_identity_file": file, "ssh_command": "ssh -v" })).await.unwrap();
    assert_eq!(ssh.get_ssh_command().await.unwrap(), "ssh -v");
    let error = ssh.get_ssh_identity().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    // The file is read when it is asked for.
    std::fs::write(&file, "-----BEGIN\n").unwrap();
    assert_eq!(ssh.get_ssh_identity().await.unwrap().as_deref(), Some("-----BEGIN\n"));
    let ssh = open(json!({ "ssh_identity": "key", "default_username": "root" })).await.unwrap();
    assert_eq!(ssh.get_ssh_identity().await.unwrap().as_deref(), Some("key"));
    assert_eq!(ssh.get_default_username().await.unwrap(), "root");
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    let check = async |config: Value, expected: &str| {
        let report = open(config).await.err().expect("it is refused").report();
        assert!(report.contains(expected) && !report.contains("hush"), "{report}");
    };
    let both = json!({ "ssh_identity": "hush", "ssh_identity_file": "/key" });
    check(both, "ssh_identity_file: and `ssh_identity` exclude each other").await;
    check(json!({ "ssh_command": " " }), "ssh_command: names no program").await;
    check(json!({ "ssh_identity": 5 }), "ssh_identity").await;
    let entry = Registry::linked().find("ssh").unwrap();
    let error = (entry.open)(json!({}), OpenContext::at("ssh")).await.err().unwrap();
    assert!(error.report().contains("there is no child `tcp`"), "{}", error.report());
}
