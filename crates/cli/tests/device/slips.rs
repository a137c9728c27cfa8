//! What is said of the usual slips on the command line.

use insta::assert_snapshot;
use jumpstarter_supervise::run_unchecked;

use crate::lab::{EVERYTHING, clean, jmp, transcript};
use crate::terminal::{DEADLINE, J, Lab};

async fn said(lab: &Lab, words: &[&str]) -> String {
    let output = run_unchecked(jmp(words).current_dir(lab.folder()), DEADLINE).await.unwrap();
    lab.plain(&transcript(&output))
}

#[tokio::test]
async fn files_that_are_not_there() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &["run", "lab.yml", "--listen-unix", "s"]).await, @r"
    --- stderr
    lab.yml: cannot be read: No such file or directory (os error 2)
    hint: did you mean `lab.yaml`?
    --- exit code 1
    ");
    let home = lab.path("home/exporters");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("desk.yaml"), EVERYTHING).unwrap();
    let command = jmp(&["check", "desk"]).current_dir(lab.folder());
    let command = command.env("JMP_CLIENT_CONFIG_HOME", lab.path("home"));
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_snapshot!(transcript(&output), @r"
    --- stderr
    desk: cannot be read: No such file or directory (os error 2)
    hint: `desk` is an alias: write `--exporter desk`
    --- exit code 1
    ");
}

#[tokio::test]
async fn options_and_values() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &["run", "lab.yaml", "--tls-grpc-listener", "::1:1234"]).await, @r"
    --- stderr
    error: invalid value '::1:1234' for '--tls-grpc-listener <[HOST:]PORT>': `::1:1234` is not [HOST:]PORT
    hint: as 1234, localhost:1234 or [::1]:1234

    For more information, try '--help'.
    --- exit code 2
    ");
    assert_snapshot!(said(&lab, &["run", "--no-such"]).await, @r"
    --- stderr
    error: unexpected argument '--no-such' found

    Usage: jmp run [OPTIONS] [FILE]

    For more information, try '--help'.
    --- exit code 2
    ");
    // As many programs have it.
    assert_snapshot!(said(&lab, &["shell", "--config", "lab.yaml", "echo", "yes"]).await, @"yes");
}

#[tokio::test]
async fn the_file_of_j_comes_first() {
    let lab = Lab::new(EVERYTHING);
    let command = clean(jumpstarter_supervise::Command::new(J)).current_dir(lab.folder());
    let command = command.args(["power", "on", "--exporter-config", "lab.yaml"]);
    let output = run_unchecked(command, DEADLINE).await.unwrap();
    assert_snapshot!(transcript(&output), @r"
    --- stderr
    error: which device?
    hint: --exporter-config comes first: `j --exporter-config FILE PATH… VERB`
    --- exit code 2
    ");
}

#[tokio::test]
async fn a_forward_of_a_file_is_quiet() {
    let lab = Lab::new(EVERYTHING);
    assert_snapshot!(said(&lab, &["forward", "power", "--exporter-config", "lab.yaml"]).await, @r"
    --- stderr
    error: `power` has no interface `network`
    hint: its interfaces: `power`; `network` is at `echo` and `rack.web`
    --- exit code 1
    ");
}
