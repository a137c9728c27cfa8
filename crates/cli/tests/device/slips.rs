//! What is said of the usual slips on the command line.

use insta::assert_snapshot;
use jumpstarter_supervise::run_unchecked;

use crate::inside;
use crate::lab::{EVERYTHING, jmp, transcript};
use crate::terminal::{DEADLINE, Lab};

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

/// Options of `j` may stand anywhere, in any order.
#[tokio::test]
async fn options_of_j_in_every_place() {
    let lab = Lab::new(EVERYTHING);
    let file = lab.file();
    let options: [&[&str]; 3] =
        [&["--exporter-config", &file], &["--output=json"], &["--log-level", "error"]];
    let words = ["rack", "shelf", "power", "cycle", "--wait=0"];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for place in 0..=words.len() {
            for last in place..=words.len() {
                let mut line: Vec<&str> = words[..place].to_vec();
                line.extend(options[order[0]].iter().chain(options[order[1]]));
                line.extend(&words[place..last]);
                line.extend(options[order[2]]);
                line.extend(&words[last..]);
                let said = inside::j(&line, &[]).await;
                assert_eq!(said, (0, "null\n".to_owned(), String::new()), "{line:?}");
            }
        }
    }
}

/// So may those of `jmp`.
#[test]
fn options_of_jmp_in_every_place() {
    let lab = Lab::new(EVERYTHING);
    let file = lab.file();
    let lines: [&[&str]; 4] = [
        &["check", &file, "--output", "json"],
        &["check", "--output", "json", &file],
        &["--log-level", "error", "check", "--output=json", &file],
        &["--log-format", "text", "check", &file, "--output=json"],
    ];
    let said = lines.map(|line| inside::run("jmp", line, &[]));
    assert!(said[0].0 == 0 && said.iter().all(|other| *other == said[0]), "{said:?}");
}

/// A wrong command line is one JSON object for a program that asks for JSON, as every other error.
#[test]
fn wrong_command_lines_are_json_too() {
    for line in [
        &["check", "--output", "json"][..],
        &["check", "--no-such", "x.yaml", "--output", "json"],
        &["drivers", "--output=json", "tcp", "udp"],
        &["forward", "--output", "json"],
        &["forward", "web", "99999", "--output", "json"],
        &["config", "exporter", "list", "extra", "-o", "json"],
        &["config", "exporter", "show", "a", "b", "--output", "json"],
        &["chekc", "--output", "json"],
    ] {
        let (code, out, err) = inside::run("jmp", line, &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{line:?}: {err}");
        let error: serde_json::Value = serde_json::from_str(&err).unwrap();
        assert_eq!(error["kind"], "InvalidArgument", "{line:?}");
        assert!(error["error"].is_string() && error["hint"].is_string(), "{line:?}: {err}");
    }
    // Help that is asked for is no error.
    let (code, out, _) = inside::run("jmp", &["check", "--output", "json", "--help"], &[]);
    assert!(code == 0 && out.contains("Usage: jmp check"), "{out}");
    // A file with faults, and one that is not there.
    let (code, _, err) =
        inside::run("jmp", &["forward", "web", "--output", "json", "--file", "no.yaml"], &[]);
    let error: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert!(code == 1 && error["error"].as_str().unwrap().contains("no.yaml"), "{err}");
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
