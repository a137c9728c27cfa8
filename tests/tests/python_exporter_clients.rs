//! Client files: those of the Python client are read here, and ours there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use jumpstarter_config::ClientConfig;
use jumpstarter_supervise::{Command, Output, run_unchecked};
use jumpstarter_tests::python_exporter::python_environment;

async fn python(environment: &Path, home: &Path, words: &[&str]) -> Output {
    let program = environment.join("bin").join(words[0]);
    let command = Command::new(program).args(&words[1..]).env("JMP_CLIENT_CONFIG_HOME", home);
    let output = run_unchecked(command, Duration::from_secs(60)).await.unwrap();
    assert!(output.status.success(), "{words:?}: {}{}", output.stdout_text(), output.stderr);
    output
}

#[tokio::test]
async fn python_exporter_clients_read_each_others_files() {
    let Some(environment) = python_environment() else { return };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let create = [
        "jmp",
        "config",
        "client",
        "create",
        "theirs",
        "--namespace",
        "lab",
        "--name",
        "me",
        "--endpoint",
        "controller.example:443",
        "--token",
        "yes",
        "--allow",
        "",
        "--unsafe",
        "--nointeractive",
    ];
    python(&environment, home, &create).await;
    let path = home.join("clients/theirs.yaml");
    let mut config = ClientConfig::load(&path).unwrap();
    assert_eq!((config.alias.as_str(), config.metadata.name.as_str()), ("theirs", "me"));
    assert_eq!(config.endpoint.as_deref(), Some("controller.example:443"));
    assert_eq!(config.token.as_ref().unwrap().expose(), "yes");
    assert!(config.drivers.allow_all && config.drivers.allow.is_empty());

    // Values that versions of YAML read differently.
    config.metadata.namespace = Some("0x1f".to_owned());
    config.metadata.name = "on".to_owned();
    config.token = Some("1e3".into());
    config.refresh_token = Some("a: \u{e9}\u{1f600} #'\"\n".into());
    config.drivers.allow = vec!["jumpstarter_driver_power".to_owned(), "null".to_owned()];
    config.leases.acquisition_timeout = Duration::from_secs(10);
    config.path = Some(home.join("clients/ours.yaml"));
    config.save().unwrap();
    let script = "\
from jumpstarter.config.client import ClientConfigV1Alpha1 as C
c = C.load('ours')
print([c.metadata.namespace, c.metadata.name, c.token, c.refresh_token, c.drivers.allow,
       c.drivers.unsafe, c.leases.acquisition_timeout, c.leases.retry_timeout, c.endpoint])";
    let output = python(&environment, home, &["python3", "-c", script]).await;
    let expected = "['0x1f', 'on', '1e3', 'a: é😀 #\\'\"\\n', ['jumpstarter_driver_power', 'null'], \
                    True, 10, 300.0, 'controller.example:443']";
    assert_eq!(output.stdout_text().trim(), expected);

    // The current client: the first of theirs, then the one that is set by us.
    let user_file = home.join("config.yaml");
    let theirs = std::fs::read_to_string(&user_file).unwrap();
    assert!(theirs.contains("current-client: theirs"), "{theirs}");
    let jmp = std::env::var_os("JMP").unwrap();
    let words = ["config", "client", "use", "ours"];
    let command = Command::new(jmp).args(words).env("JMP_CLIENT_CONFIG_HOME", home);
    let output = run_unchecked(command, Duration::from_secs(60)).await.unwrap();
    assert!(output.status.success(), "{}", output.stderr);
    let output =
        python(&environment, home, &["jmp", "config", "client", "list", "-o", "yaml"]).await;
    let list = output.stdout_text();
    assert!(list.contains("currentConfig: ours"), "{list}");
}
