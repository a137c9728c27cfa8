//! `jmp config exporter`: files in a folder of the test's own.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/home.rs"]
mod home;
#[path = "support/terminal.rs"]
mod terminal;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use home::Home;
use insta::assert_snapshot;
use jumpstarter_supervise::{Input, Output, run_unchecked};
use terminal::DEADLINE;

fn exporters() -> Home {
    Home::of(&["config", "exporter"])
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

const LAB: &str = "\
metadata: {name: lab-1}
endpoint: controller.example:443
token: t0ken
hooks: {beforeLease: {script: echo s3cret}}
export: {power: {type: mock-power, description: relay 1}}
";

#[tokio::test]
async fn from_creation_to_deletion() {
    let home = exporters();
    std::fs::write(home.path("lab.yaml"), LAB).unwrap();
    assert_snapshot!(home.text(&["list"]).await, @r"
    no exporter has an alias; `jmp config exporter create ALIAS` makes one
    exit code 0
    ");
    assert_snapshot!(home.text(&["create", "lab", "--from", "lab.yaml"]).await, @r"
    created HOME/exporters/lab.yaml
    exit code 0
    ");
    let file = home.path("home/exporters/lab.yaml");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), LAB);
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert_snapshot!(home.text(&["list"]).await, @r"
    ALIAS  PATH
    lab    HOME/exporters/lab.yaml
    exit code 0
    ");
    assert_snapshot!(home.text(&["show", "lab"]).await, @r"
    alias:        lab
    path:         HOME/exporters/lab.yaml
    name:         lab-1
    endpoint:     controller.example:443
    token:        set
    beforeLease:  set

    power  mock-power  power  relay 1
    exit code 0
    ");
    assert_snapshot!(home.text(&["create", "lab"]).await, @r"
    error: there is an exporter `lab` already
    hint: `jmp config exporter edit lab` changes it, `… delete lab` removes it
    exit code 1
    ");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), LAB);
    assert_snapshot!(home.text(&["delete", "lab"]).await, @r"
    deleted HOME/exporters/lab.yaml
    exit code 0
    ");
    assert_snapshot!(home.text(&["delete", "lab"]).await, @r"
    error: there is no exporter `lab`
    hint: looked for HOME/exporters/lab.yaml and /etc/jumpstarter/exporters/lab.yaml
    exit code 1
    ");
}

#[tokio::test]
async fn a_folder_that_cannot_be_read_is_left_out() {
    let home = exporters();
    std::fs::create_dir(home.path("home")).unwrap();
    std::fs::write(home.path("home/exporters"), "not a folder").unwrap();
    assert_snapshot!(home.text(&["list"]).await, @r"
    no exporter has an alias; `jmp config exporter create ALIAS` makes one
    warning: HOME/exporters is left out: Not a directory (os error 20)
    exit code 0
    ");
}

#[tokio::test]
async fn a_file_that_is_too_long_is_refused_whole() {
    let home = exporters();
    let padding = format!("# {}\n", "x".repeat(1 << 20));
    std::fs::write(home.path("lab.yaml"), LAB.to_owned() + &padding).unwrap();
    assert_snapshot!(home.text(&["create", "lab", "--from", "lab.yaml"]).await, @r"
    error: lab.yaml is longer than 1048576 bytes
    exit code 1
    ");
    assert!(!home.path("home/exporters/lab.yaml").exists());
}

#[tokio::test]
async fn what_scripts_read() {
    let home = exporters();
    let words = [
        "create",
        "lab",
        "--endpoint",
        "c:443",
        "--token",
        "t\"0: ken",
        "--insecure-tls",
        "-o",
        "path",
    ];
    assert_snapshot!(home.text(&words).await, @r"
    HOME/exporters/lab.yaml
    exit code 0
    ");
    assert_snapshot!(std::fs::read_to_string(home.path("home/exporters/lab.yaml")).unwrap(), @r#"
    apiVersion: jumpstarter.dev/v1alpha1
    kind: ExporterConfig
    metadata:
      namespace: "default"
      name: "lab"
    endpoint: "c:443"
    tls: {insecure: true}
    token: "t\"0: ken"
    export: {}
    "#);
    assert_snapshot!(home.text(&["list", "--output", "name"]).await, @r"
    lab
    exit code 0
    ");
    let json =
        |output: Output| serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
    let path = home.path("home/exporters/lab.yaml");
    let listed = json(home.run(&["list", "--output", "json"]).await);
    assert_eq!(listed, serde_json::json!([{"alias": "lab", "path": path}]));
    let output = home.run(&["show", "lab", "--output", "json"]).await;
    assert!(!output.stdout_text().contains(": ken"), "{}", output.stdout_text());
    let shown = json(output);
    assert_eq!((&shown["token"], &shown["endpoint"]), (&"set".into(), &"c:443".into()));
    let deleted = json(home.run(&["delete", "lab", "--output", "json"]).await);
    assert_eq!(deleted, serde_json::json!({"alias": "lab", "path": path}));
}

#[tokio::test]
async fn a_token_from_standard_input() {
    let home = exporters();
    let command = home.command(&["create", "--endpoint", "c:443", "--token-file", "-"]);
    let output =
        run_unchecked(command.stdin(Input::Bytes(b"t0ken\n".to_vec())), DEADLINE).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    let file = std::fs::read_to_string(home.path("home/exporters/default.yaml")).unwrap();
    assert!(file.contains("\ntoken: \"t0ken\"\n"), "{file}");
}

#[tokio::test]
async fn names_stay_in_the_folder() {
    let home = exporters();
    for name in ["../lab", "a/b", "/etc/lab", ".hidden", "..", "", "a\\b"] {
        for command in ["create", "show", "edit", "delete"] {
            let output = home.run(&[command, name]).await;
            assert_eq!(output.status.code(), Some(1), "{command} {name}");
            assert!(
                output.stderr.contains("is not the name of an exporter\nhint: "),
                "{}",
                output.stderr
            );
        }
    }
    assert!(!home.path("home").exists());
}

#[tokio::test]
async fn a_wrong_file_is_not_taken() {
    let home = exporters();
    std::fs::write(home.path("lab.yaml"), "tls: {inscure: true}").unwrap();
    assert_snapshot!(home.text(&["create", "lab", "--from", "lab.yaml"]).await, @r"
    lab.yaml:1:7: tls.inscure: unknown field; did you mean `insecure`?
    exit code 1
    ");
    assert!(!home.path("home").exists());
}

#[tokio::test]
async fn an_edited_file_is_checked() {
    let home = exporters();
    home.run(&["create", "lab"]).await;
    let edit = async |editor: &str| {
        let command = home.command(&["edit", "lab"]).env("EDITOR", editor).env_remove("VISUAL");
        run_unchecked(command, DEADLINE).await.unwrap()
    };
    let output = edit("sed -i s/lab/desk/").await;
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr);
    assert!(home.text(&["show", "lab"]).await.contains("name:       desk"));
    let output = edit("sed -i s/export/exprot/").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.contains("warning: exprot: unknown field; did you mean `export`?"));
    let output = edit("sed -i s/namespace/namespcae/").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("did you mean `namespace`?"), "{}", output.stderr);
    let output = edit("false").await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        output.stderr.contains("hint: set EDITOR to an editor that is installed"),
        "{}",
        output.stderr
    );
}
